#!/usr/bin/env python3
"""Writes the tables of docs/performance.md from the reports in docs/performance/.

    load-tests/tables.py              writes them
    load-tests/tables.py --check      exit status 1 if the page and the reports differ

What stands between `<!-- table NAME FILE… -->` and `<!-- end -->` is made of the reports FILE by the function
NAME below. A report that is not there is named with the command that makes it.
"""

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/performance.md"
REPORTS = ROOT / "docs/performance"
MARKED = re.compile(r"(<!-- table (\w+) ([^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def number(value, unit=""):
    """Three digits, as many as a ratio of such measurements has."""
    if value is None:
        return ""
    digits = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{digits} {unit}".strip() if unit != "/s" else f"{digits}/s"


def markdown(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def place(report):
    """What the figures belong to."""
    machine = report["machine"]
    parts = [machine["processor"], f"{machine['cores']} cores"]
    if "instructions" in machine:
        parts.append(", ".join(machine["instructions"]) or "no int8 instructions")
    sent = report.get("images")
    return "; ".join([*parts, f"commit {machine['commit']}", machine["date"], f"images: {sent or 'the drawn penguin'}"]) + ".\n"


def cpu(reports):
    """The targets for CPUs, and every bare loop behind them."""
    (report,) = reports.values()
    sign = lambda row: "" if row["target"] is None else ("≥ " if row["at_least"] else "≤ ") + f"{row['target']:g}"
    met = {None: "", True: "yes", False: "**no**"}
    rows = [[row["what"], f"**{number(row['figure'])}**", number(row["stock"]), sign(row), met[row["met"]]] for row in report["rows"]]
    text = markdown(["", "`--kernels auto`", "`--kernels stock`", "target", "met"], rows)
    if "vit_l_precisions" in report:
        text += "\nViT-L/16, model only, all maps, milliseconds an image:\n\n" + precisions(report["vit_l_precisions"])
    found = report["demo"]["throughput"]
    text += "\nBehind the ratios, images/s, medians of all rounds:\n\n" + loops(found)
    differ = report["vit_l_model_only"]["difference_from_stock"]
    text += f"\nAnswers of the two for ViT-L/16, {differ['images']} images: scores within {differ['score']:.1e}, a patch's share of the rollout within {differ['rollout']:.1e}, "
    text += f"its part of a logit within {differ['attribution']:.1e}; the same best class for {differ['same_best_class']}.\n"
    return text + f"\n`load-tests/cpu.py`, {report['took_s'] / 60:.0f} minutes; " + place(report)


def precisions(found):
    """A row for each precision, on our kernels and on the stock runtime's."""
    rows = []
    for precision, kernels in found.items():
        auto, stock = kernels["auto"], kernels["stock"]
        ours = [f"**{number(auto['ms_an_image'][batch])}**, {number(stock['ms_an_image'][batch])}" for batch in ("1", "8")]
        over = stock["ms_an_image"]["8"] / auto["ms_an_image"]["8"]
        rows.append([precision, auto["instructions"] or "stock operators", *ours, f"{over:.2f}", f"{number(auto['peak_mib'])}, {number(stock['peak_mib'])} MiB"])
    head = ["precision", "`--kernels auto` computes with", "one image: `auto`, `stock`", "batch 8: `auto`, `stock`", "`stock` over `auto`", "memory at the peak"]
    return markdown(head, rows)


def loops(found):
    """Bare loops and HTTP, from `compare.throughput`."""
    median = lambda rounds: sorted(rounds)[len(rounds) // 2]
    divisions = {}
    for who in ("stock", "ours"):
        for cell, rounds in found["rounds"][who].items():
            division, batch = cell.rsplit(", batch ", 1)
            divisions.setdefault((who, division), {})[int(batch)] = median(rounds)
    batches = sorted({batch for sizes in divisions.values() for batch in sizes})
    names = {"stock": "stock runtime, bare", "ours": "our engine, bare"}
    rows = [[f"{names[who]}, {division}", *(number(sizes.get(batch)) for batch in batches)] for (who, division), sizes in divisions.items()]
    text = markdown(["sessions × threads", *(f"batch {batch}" for batch in batches)], rows)
    own = found["best_ours"]
    lines = [["our engine's best, decoding added", f"{number(own['with_decode_per_s'])} ({own['decode_ms']:.2f} ms of one core an image)", "", ""]]
    for name, rate in found["HTTP_per_s"].items():
        over = [f"**{found[key][name]:.2f}**" for key in ("HTTP_over_best_stock", "HTTP_over_ours_with_decode")]
        lines.append([f"HTTP, {name}", number(rate), *over])
    return text + "\n" + markdown(["", "images/s", "over the best bare loop of the stock runtime", "over our engine's, decoding added"], lines)


def compare(reports):
    """A column for each model."""
    heads = {file: f"{Path(report['model']).name}, {report['precision']}" for file, report in reports.items()}
    large = lambda report: list(report["decoding"])[-1]
    one = lambda report, key: report["throughput"][key]["as it comes"]
    rows = [
        ("best bare loop, stock runtime", "", lambda r: f"{number(r['throughput']['best_stock']['per_s'])}/s ({r['throughput']['best_stock']['cell']})"),
        ("best bare loop, our engine", "", lambda r: f"{number(r['throughput']['best_ours']['per_s'])}/s ({r['throughput']['best_ours']['cell']})"),
        ("the same, decoding added", "", lambda r: f"{number(r['throughput']['best_ours']['with_decode_per_s'])}/s"),
        ("HTTP, many clients", "", lambda r: f"{number(one(r, 'HTTP_per_s'))}/s"),
        ("HTTP over the stock runtime's", "", lambda r: f"**{one(r, 'HTTP_over_best_stock'):.2f}**"),
        ("HTTP over our engine's, decoding added", "0.9", lambda r: f"**{one(r, 'HTTP_over_ours_with_decode'):.2f}**"),
        ("one request on an idle server", "", lambda r: number(r["single"]["request_ms"], "ms")),
        ("of which decode and preprocess; inference", "", lambda r: f"{number(r['single']['decode_and_preprocess_ms'])}; {number(r['single']['inference_ms'], 'ms')}"),
        ("added to these", "2 ms", lambda r: f"**{number(r['single']['added_ms'], 'ms')}**"),
        ("500×375 JPEG to tensor; Pillow", "1.5 ms", lambda r: f"**{number(r['decoding']['500×375']['ours_ms'])}**; {number(r['decoding']['500×375']['pillow_ms'], 'ms')}"),
        ("largest JPEG to tensor; Pillow", "25 ms, a fifth", lambda r: f"{large(r)}: **{number(r['decoding'][large(r)]['ours_ms'])}**; {number(r['decoding'][large(r)]['pillow_ms'], 'ms')} ({r['decoding'][large(r)]['ours_over_pillow']:.2f})"),
        ("start to ready", "0.5 s; 4 s for ViT-L", lambda r: f"**{number(r['start']['ready_s'], 's')}**"),
        ("memory: peak; above the weights", "300 MB above", lambda r: f"{number(r['memory']['peak_mib'])}; **{number(r['memory']['peak_over_weights_mib'], 'MiB')}**"),
        ("metrics, spans and log line of a request's processor time", "1 %", lambda r: f"**{r['instrumentation']['share']:.2%}**" if "share" in r["instrumentation"] else "not measured"),
    ]  # fmt: skip
    lines = [[what, target, *(figure(report) for report in reports.values())] for what, target, figure in rows]
    return markdown(["", "target", *heads.values()], lines) + "\n" + place(next(iter(reports.values())))


def peers(reports):
    """A row for each server, and what ours are over them."""
    (report,) = reports.values()
    lines = []
    for name, row in report["rows"].items():
        setting = row["setting"]
        shown = f"{setting['processes']}×{setting['threads']}, batch {setting['batch']}" if setting else "as it comes"
        lines.append([name, row["precision"], shown, f"{number(row['per_s'])}/s", number(row["p50_ms"], "ms"), number(row["p99_ms"], "ms"), number(row["alone_p50_ms"], "ms"),
                      number(row["alone_p99_ms"], "ms"), number(row["memory_mib"], "MiB"), number(row["start_s"], "s"), row["failed"]])  # fmt: skip
    head = ["", "precision", "sessions × threads", f"{report['clients']} clients", "p50", "p99", "1 client: p50", "p99", "memory", "start", "failed"]
    text = markdown(head, lines)
    over = report.get("over_best_peer", {})
    if over:
        cells = [[own, *(f"**{one['ratio']:.2f}** ({one['peer']})" for one in figures.values())] for own, figures in over.items()]
        text += "\n" + markdown(["over the best peer in any precision (more is better)", "throughput", "p50 of a single request"], cells)
    return text + f"\nThe peers serve {report['peers_serve']} in float32. {report['seconds']:g} s each; " + place(report)


def grid(reports):
    """Auto beside the best fixed setting, load by load."""
    (report,) = reports.values()
    rows = []
    for load, one in report["loads"].items():
        auto, best = one["settings"]["auto"], one["best_fixed"]
        ratios = lambda key: ", ".join(f"{best[figure][key]:.2f}" for figure in ("throughput", "p50", "p99"))
        fixed = lambda figure: f"{number(best[figure]['best'], 'ms')} ({best[figure]['setting']})"
        rows.append([f"{float(load):.0%}", f"{number(auto['throughput'])}/s, {number(auto['p50'], 'ms')}, {number(auto['p99'], 'ms')}", fixed("p50"), fixed("p99"), ratios("auto_over_best"), ratios("again_over_itself")])  # fmt: skip
    head = ["load", "auto: throughput, p50, p99", "best fixed p50", "best fixed p99", "auto over the best: throughput, p50, p99", "the largest over itself"]
    behind = "; ".join(report["failures"]) or "nowhere"
    text = markdown(head, rows) + f"\nCapacity {number(report['capacity_per_s'])}/s. Behind the best by more than 5 %: {behind}.\n"
    return text + f"\n`load-tests/grid.py`, {report['model']}, {report['seconds']:g} s each, {report['rounds']} rounds; " + place(report)


COMMANDS = {"cpu": "cpu.py", "compare": "compare.py", "peers": "peers.py", "grid": "grid.py"}
TABLES = {"cpu": cpu, "compare": compare, "peers": peers, "grid": grid}


def made(match):
    """The marked part, made again."""
    begin, name, files, end = match.groups()
    reports, missing = {}, []
    for file in files.split():
        path = REPORTS / file
        if path.exists():
            reports[file] = json.loads(path.read_text())
        else:
            missing.append(f"`load-tests/{COMMANDS[name]} --json docs/performance/{file}`")
    text = TABLES[name](reports) if reports else ""
    text += f"\nNot measured yet: {', '.join(missing)}.\n" if missing else ""
    return begin + text.lstrip("\n") + end


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    page = PAGE.read_text()
    written = MARKED.sub(made, page)
    if args.check:
        sys.exit(0 if written == page else f"{PAGE.relative_to(ROOT)} is not what the reports say: run load-tests/tables.py")
    PAGE.write_text(written)


if __name__ == "__main__":
    main()
