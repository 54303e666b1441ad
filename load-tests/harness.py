"""What the scenarios share: a server as a child process, HTTP by hand, metrics and memory."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Server:
    """A patchlight on a free port; ended when the block ends."""

    def __init__(self, *flags, program=None):
        program = program or os.environ.get("PATCHLIGHT", ROOT / "target/release/patchlight")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [str(program), "serve", "--listen", f"127.0.0.1:{self.port}", *flags]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PATCHLIGHT")}
        self.process = subprocess.Popen(command, env=clean)
        while True:
            if self.process.poll() is not None:
                raise SystemExit("the server did not start")
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz"):
                break
            time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()

    @property
    def pid(self):
        return self.process.pid


def status_bytes(pid, field):
    """A field of /proc/PID/status such as VmRSS or VmHWM, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def head(method, path, length=0, more=""):
    return (
        f"{method} {path} HTTP/1.1\r\nHost: load\r\nContent-Length: {length}\r\n{more}\r\n"
    ).encode()


async def read_answer(reader):
    """Status, headers and body of one answer."""
    raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = raw.rstrip().split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(first.split()[1]), headers, body


async def ask(port, method, path, body=b"", more=""):
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head(method, path, len(body), more + "Connection: close\r\n") + body)
        await writer.drain()
        return await read_answer(reader)
    finally:
        writer.close()


async def metrics(port):
    """Samples by name and labels, as they are written."""
    _, _, body = await ask(port, "GET", "/metrics")
    samples = {}
    for line in body.decode().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            samples[name] = float(value)
    return samples


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def pictures():
    folder = ROOT / "models/samples"
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".jpg", ".png", ".webp")]


def progress(text):
    print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)


def report(scenario, figures, failures):
    """Prints figures and what is out of bounds, as JSON; the exit status says whether anything is."""
    print(file=sys.stderr)
    print(json.dumps({"scenario": scenario, **figures, "failures": failures}, indent=2))
    return 1 if failures else 0


def now():
    return time.monotonic()
