"""What every peer is told, by environment variables, and the model that it serves."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reference import Model  # noqa: E402

PORT = int(os.environ.get("PEER_PORT", "8000"))
# Processes with a session each, and the threads of each session.
PROCESSES = int(os.environ.get("PEER_PROCESSES", "1"))
THREADS = int(os.environ.get("PEER_THREADS", "2"))
# The largest batch, and how long it is waited for.
BATCH = int(os.environ.get("PEER_BATCH", "1"))
WAIT_MS = int(os.environ.get("PEER_WAIT_MS", "5"))


def model():
    return Model(os.environ["PEER_MODEL"], THREADS, os.environ.get("PEER_GRAPH"), os.environ.get("PEER_RUNTIME", "onnxruntime"))
