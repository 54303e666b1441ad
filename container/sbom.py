"""Writes what the image is made of as a CycloneDX 1.6 document: crates with their versions, licences
and digests out of Cargo.lock, the pinned ONNX Runtime, and Debian's packages. The same inputs give
the same document.

    python3 container/sbom.py [--features LIST] [--debian-packages FILE] > sbom.cdx.json
"""

import argparse
import json
import subprocess
import tomllib
import uuid
from pathlib import Path

PINS = Path("crates/engine/onnxruntime.toml")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", default="", help="features of the crate that were built")
    parser.add_argument("--debian-packages", type=Path, help="file with one package a line")
    arguments = parser.parse_args()

    root, crates, dependencies = crates_of(arguments.features)
    runtime = onnxruntime("cuda" in arguments.features.split(","))
    debian = [debian_package(name) for name in lines(arguments.debian_packages)]
    others = [part for part in [runtime, *debian] if part]
    dependencies[root["bom-ref"]] += [part["bom-ref"] for part in others]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": crates + others,
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(needed)} for ref, needed in sorted(dependencies.items())
        ],
    }
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}"
    print(json.dumps(document, indent=1))


def crates_of(features):
    """The program, the crates that are linked into it, and who needs whom."""
    host = output("rustc", "--print", "host-tuple")
    metadata = json.loads(
        output(
            "cargo", "metadata", "--format-version=1", "--locked",
            f"--filter-platform={host}", f"--features={features}",
        )
    )
    locked = {
        (package["name"], package["version"]): package.get("checksum")
        for package in tomllib.loads(Path("Cargo.lock").read_text())["package"]
    }
    packages = {package["id"]: package for package in metadata["packages"]}
    needs = {
        node["id"]: [
            dependency["pkg"]
            for dependency in node["deps"]
            # Neither what builds nor what tests.
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
            and not is_macro(packages[dependency["pkg"]])
        ]
        for node in metadata["resolve"]["nodes"]
    }
    root = next(id for id, package in packages.items() if package["name"] == "patchlight")
    linked, waiting = {root}, [root]
    while waiting:
        for needed in needs[waiting.pop()]:
            if needed not in linked:
                linked.add(needed)
                waiting.append(needed)
    parts = {id: crate(packages[id], locked, id == root) for id in linked}
    dependencies = {
        part["bom-ref"]: [parts[needed]["bom-ref"] for needed in needs[id]]
        for id, part in parts.items()
    }
    top = parts.pop(root)
    return top, sorted(parts.values(), key=lambda part: part["bom-ref"]), dependencies


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


def crate(package, locked, is_root):
    purl = f"pkg:cargo/{package['name']}@{package['version']}"
    part = component("application" if is_root else "library", package["name"], package["version"], purl)
    if package.get("license"):
        # An old spelling of "or".
        expression = package["license"].replace("/", " OR ")
        part["licenses"] = [{"expression": expression}]
    digest = locked.get((package["name"], package["version"]))
    if digest:
        part["hashes"] = [{"alg": "SHA-256", "content": digest}]
    return part


def onnxruntime(cuda):
    pins = tomllib.loads(PINS.read_text())
    machine = output("uname", "-m")
    platform = f"{machine}-linux-cuda" if cuda else f"{machine}-linux"
    pin = pins["platform"][platform]
    name, version = pin.get("package", "onnxruntime"), pins["version"]
    part = component("library", name, version, f"pkg:pypi/{name}@{version}")
    part["licenses"] = [{"license": {"id": "MIT"}}]
    part["hashes"] = [{"alg": "SHA-256", "content": pin["wheel_sha256"]}]
    return part


def debian_package(name):
    version = output("dpkg-query", "--show", "--showformat=${Version}", name)
    return component("library", name, version, f"pkg:deb/debian/{name}@{version}")


def component(kind, name, version, purl):
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}


def lines(path):
    return path.read_text().split() if path else []


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    main()
