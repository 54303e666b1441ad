#!/usr/bin/env python3
"""Lists the crates that are part of the program, with versions and licences, in docs/third-party.md.

    .ci/third_party.py            writes it
    .ci/third_party.py --check    says whether it is what Cargo.lock says (.ci/full)
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTED = ROOT / "docs/third-party.md"
# Those that crates/engine/onnxruntime.toml pins a library for.
PLATFORMS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin"]


def crates(platform):
    """(name, version, licence) of what is compiled into `patchlight` there."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", platform]
    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in found["packages"]}
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    (own,) = (id for id, package in packages.items() if package["name"] == "patchlight")
    seen, waiting = set(), [own]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            # Neither what only tests nor what only build scripts use.
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            id = dependency["pkg"]
            macro = any("proc-macro" in target["kind"] for target in packages[id]["targets"])
            if None in kinds and not macro and id not in seen:
                seen.add(id)
                waiting.append(id)
    # Our own layers come from no registry.
    foreign = [packages[id] for id in seen if packages[id]["source"]]
    return {(p["name"], p["version"], p["license"]) for p in foreign}


def text():
    every = sorted(set().union(*map(crates, PLATFORMS)))
    lines = [
        "# Third-party crates",
        "What is compiled into `patchlight`, by name, on any of its platforms. Made by `.ci/third_party.py` from",
        "`Cargo.lock`; the licences' texts come with the crates. The ONNX Runtime, which is loaded and not",
        "compiled in, is in NOTICE.",
        "",
        "| crate | version | licence |",
        "|---|---|---|",
    ]
    return "\n".join([*lines, *(f"| {name} | {version} | {licence} |" for name, version, licence in every)]) + "\n"


if __name__ == "__main__":
    if "--check" not in sys.argv:
        LISTED.write_text(text())
    elif LISTED.read_text() != text():
        sys.exit("docs/third-party.md is out of date; .ci/third_party.py writes it again")
