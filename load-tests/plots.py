#!/usr/bin/env python3
"""Draws the figures of docs/performance.md from the reports beside them.

    python load-tests/plots.py [FOLDER]        docs/performance by default

Every plot says which processor and commit its report comes from. Needs matplotlib.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
# Text stays text, and the same report gives the same file.
matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "patchlight", "font.size": 9}

import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
OURS, OTHERS = "#c2410c", ["#94a3b8", "#64748b", "#475569", "#1e293b", "#0ea5e9", "#0369a1"]


def place(machine):
    return f"{machine['processor']}, {machine['cores']} cores, commit {machine['commit']}, {machine['date']}"


def save(figure, machine, path):
    figure.text(0.01, 0.01, place(machine), fontsize=6, color="#64748b")
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(path, metadata={"Date": None, "Creator": "load-tests/plots.py"})
    plt.close(figure)
    print(path)


def grid(report, path):
    """Latency over load, a line for each setting."""
    loads = report["loads"]
    if len(loads) < 2:
        return
    names = list(next(iter(loads.values()))["settings"])
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
    for axis, (figure_name, title) in zip(axes, (("p50", "median latency"), ("p99", "99th percentile"))):
        for at, name in enumerate(names):
            values = [one["settings"][name][figure_name] for one in loads.values()]
            auto = name == "auto"
            axis.plot([f"{float(load):.0%}" for load in loads], values, marker="o", markersize=4 if auto else 2,
                      linewidth=2 if auto else 1, color=OURS if auto else OTHERS[at - 1], label=name, zorder=3 if auto else 2)  # fmt: skip
        axis.set_yscale("log")
        axis.set_title(title)
        axis.set_xlabel(f"of {report['capacity_per_s']:.0f} images/s")
        axis.set_ylabel("ms")
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=8)
    save(figure, report["machine"], path)


def peers(report, path):
    """Throughput and tail with many clients, a bar for each server."""
    rows = report["rows"]
    names = [f"{name}\n{row['precision']}" if not name.startswith("patchlight") else name.replace(" ", "\n") for name, row in rows.items()]
    colors = [OURS if name.startswith("patchlight") else OTHERS[1] for name in rows]
    figure, axes = plt.subplots(1, 3, figsize=(9, 3))
    columns = [("per_s", f"images/s, {report['clients']} clients"), ("p99_ms", "p99 of these, ms"), ("alone_p50_ms", "p50 of one client, ms")]
    for axis, (column, title) in zip(axes, columns):
        values = [row[column] for row in rows.values()]
        bars = axis.bar(names, values, color=colors)
        axis.bar_label(bars, fmt="%.3g", fontsize=7)
        axis.set_title(title, fontsize=9)
        axis.tick_params(axis="x", labelsize=6)
    save(figure, report["machine"], path)


KINDS = {"grid": grid, "peers": peers}


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/performance"
    for file in sorted(folder.glob("*.json")):
        report = json.loads(file.read_text())
        if draw := KINDS.get(report["scenario"]):
            draw(report, file.with_suffix(".svg"))


if __name__ == "__main__":
    main()
