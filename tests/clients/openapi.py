"""The OpenAPI document against the standard, and schemathesis, unmodified, against a running server: what the document
says is what the server does.

    openapi.py ADDRESS [KEY]

Images are the repository's samples, whole and damaged, and junk; ids of maps are of images that were just
classified. Checks and phases are pinned below.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

import jsonschema
import openapi_spec_validator

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
]

# Examples of the document, what lies at the edges of its schemas, what hypothesis makes up, and what links lead to.
PHASES = ["examples", "coverage", "fuzzing", "stateful"]


def holders(part):
    """Everything that has a schema and examples of it, wherever it is."""
    if isinstance(part, dict):
        if "schema" in part and ("example" in part or "examples" in part):
            yield part
        for inner in part.values():
            yield from holders(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from holders(inner)


def check(document):
    """The document is OpenAPI 3.1, and its examples are of their schemas."""
    openapi_spec_validator.validate(document)
    checked = 0
    for holder in holders(document):
        values = [holder["example"]] if "example" in holder else [one["value"] for one in holder["examples"].values()]
        schema = holder["schema"] | {"components": document["components"]}
        for value in values:
            jsonschema.Draft202012Validator(schema).validate(value)
            checked += 1
    print(f"{checked} examples are of their schemas")


def main(address, key=None):
    here = pathlib.Path(__file__).resolve().parent
    with urllib.request.urlopen(f"http://{address}/openapi.json") as answer:
        check(json.load(answer))
    command = [
        pathlib.Path(sys.executable).with_name("schemathesis"), "run", f"http://{address}/openapi.json",
        "--checks", ",".join(CHECKS), "--phases", ",".join(PHASES), "--mode", "all",
        "--max-examples", os.environ.get("EXAMPLES", "20"), "--seed", "1", "--continue-on-failure",
        "--generation-database", "none", "--no-shrink", "--no-color",
    ]
    if key:
        command += ["--header", f"Authorization: Bearer {key}"]
    settings = {
        "SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(here), "PATCHLIGHT": f"http://{address}",
        "MODELS": str(here.parent.parent / "models"),
    }
    # It writes its caches where it stands.
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(subprocess.run(command, env=os.environ | settings, cwd=folder).returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
