"""What the scenarios share: a server as a child process, HTTP by hand, metrics and memory."""

import asyncio
import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Server:
    """A patchlight on a free port, on these cores if they are named; ended when the block ends."""

    def __init__(self, *flags, program=None, env=None, log=None, cores=None):
        program = program or os.environ.get("PATCHLIGHT", ROOT / "target/release/patchlight")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [str(program), "serve", "--listen", f"127.0.0.1:{self.port}", *flags]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PATCHLIGHT")}
        pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
        began = now()
        self.process = subprocess.Popen(command, env=clean | (env or {}), stderr=log, preexec_fn=pin)
        while True:
            if self.process.poll() is not None:
                raise SystemExit("the server did not start")
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz"):
                break
            time.sleep(0.005)
        # From the start of the process to its first "ready", to five milliseconds.
        self.ready_s = now() - began

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
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}\r\n"
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


class Connections:
    """Connections that are used again, as many as are needed at a time."""

    def __init__(self, port):
        self.port, self.free = port, []

    async def ask(self, method, path, body=b"", more=""):
        reader, writer = self.free.pop() if self.free else await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(head(method, path, len(body), more) + body)
            answer = await read_answer(reader)
        except BaseException:
            writer.close()
            raise
        if answer[1].get("connection") == "close":
            writer.close()
        else:
            self.free.append((reader, writer))
        return answer

    def close(self):
        for _, writer in self.free:
            writer.close()


def split_cores():
    """Cores for a server, and one for what sends to it; (None, None) where they cannot be told apart."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (set(cores[:-1]), {cores[-1]}) if len(cores) > 1 else (None, None)


async def metrics(port):
    """Samples by name and labels, as they are written."""
    _, _, body = await ask(port, "GET", "/metrics")
    samples = {}
    for line in body.decode().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            samples[name] = float(value)
    return samples


def generate(url, images, seconds, warmup=1, clients=None, rate=None, seed=1, timeout=120):
    """One run of patchlight-load, closed loop with `clients` or open loop with `rate`: its report."""
    loader = os.environ.get("PATCHLIGHT_LOAD", ROOT / "target/release/patchlight-load")
    loop = ["--clients", str(clients)] if clients else ["--rate", str(rate), "--seed", str(seed)]
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        times = ["--duration", f"{int(seconds * 1000)}ms", "--warmup", f"{int(warmup * 1000)}ms", "--timeout", f"{timeout}s"]
        command = [loader, "--url", url, *loop, *times, "--json", file.name, *images]
        # Exit status 1 when nothing succeeded: the report says so as well.
        subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.loads(Path(file.name).read_text())


def machine():
    """What figures of this run belong to."""
    said = lambda *command: subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    model = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": model[0] if model else platform.machine(),
        "instructions": instructions(),
        "cores": len(os.sched_getaffinity(0)),
        "commit": said("git", "rev-parse", "--short=10", "HEAD") + ("+" if said("git", "status", "--porcelain", "src", "crates", "load-tests") else ""),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load_before": round(os.getloadavg()[0], 2),
    }


def instructions():
    """Which of those that decide over int8 and bf16 the processor has."""
    wanted = ("avx2", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16")
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [name for name in wanted if name in flags]


def tree(pid):
    """A process and all below it."""
    below = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = stat.read_text()
            below.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += below.get(found[-1], [])
    return found


def shared_out_bytes(pid):
    """Memory of a process and all below it, pages that several of them share counted once (PSS)."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def processor_seconds(pid):
    """Processor time of a process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(head, rows):
    """A table as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    print("\n" + "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines))


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def progress(text):
    print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)


def report(scenario, figures, failures, path=None):
    """Prints figures and what is out of bounds, as JSON; the exit status says whether anything is."""
    print(file=sys.stderr)
    text = json.dumps({"scenario": scenario, **figures, "failures": failures}, indent=2)
    print(text)
    if path:
        Path(path).write_text(text + "\n")
    return 1 if failures else 0


def now():
    return time.monotonic()
