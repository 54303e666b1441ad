"""Schemathesis, unmodified, against a running server: what the OpenAPI document says is what the server does.

    openapi.py ADDRESS SAMPLES

Pictures are the repository's samples, whole and damaged, and junk; ids of maps are of pictures that were just
classified. The checks are pinned below.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
]


def main(address, samples):
    here = pathlib.Path(__file__).resolve().parent
    command = [
        pathlib.Path(sys.executable).with_name("schemathesis"), "run", f"http://{address}/openapi.json",
        "--checks", ",".join(CHECKS), "--phases", "examples,fuzzing", "--mode", "all",
        "--max-examples", os.environ.get("EXAMPLES", "20"), "--seed", "1", "--continue-on-failure",
        "--generation-database", "none", "--no-shrink", "--no-color",
    ]
    settings = {
        "SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(here),
        "PATCHLIGHT": f"http://{address}", "SAMPLES": str(pathlib.Path(samples).resolve()),
    }
    # It writes its caches where it stands.
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(subprocess.run(command, env=os.environ | settings, cwd=folder).returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
