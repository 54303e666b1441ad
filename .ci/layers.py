#!/usr/bin/env python3
"""Fails if modules use each other in a circle, and names the circle.

    .ci/layers.py            looks at src/ and at every crate of crates/
    .ci/layers.py --edges    prints who uses whom instead

The modules of a folder are compared with each other: `http` with `store`, `http::upload` with
`http::query`. A module stands for its file and for the folder of its name. That a module uses what
its parent's own file defines is no edge, since the two are one concept; what the parent only passes
on (`pub use self::child::Item`) leads to the child. Code for tests is left out. Between crates the
compiler sees to it.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEST_MODULE = re.compile(r"#\[cfg\((?:test|any\(test, fuzzing\))\)\]\s*(?:#\[[^\n]*\]\s*)*(?:pub(?:\([^)]*\))? )?mod (\w+)(;| \{)")
TOKEN = re.compile(r"""//[^\n]*|/\*.*?\*/|\br(#*)".*?"\1|"(?:[^"\\]|\\.)*"|'(?:\\[^']+|[^\\'])'""", re.DOTALL)
USE = re.compile(r"^[ \t]*(?:pub(?:\([^)]*\))? )?use ([^;]+);", re.MULTILINE)
PATH = re.compile(r"\b(?:crate|self|super)(?:::\w+)+")


class Module:
    """A file: its path as names from the crate's root, its code without comments and tests."""

    def __init__(self, path, text):
        self.path = path
        self.uses = [leaf for tree in USE.findall(text) for leaf in leaves(tree)]
        self.paths = self.uses + [tuple(found.split("::")) for found in PATH.findall(USE.sub("", text))]
        self.children = set(re.findall(r"^[ \t]*(?:pub(?:\([^)]*\))? )?mod (\w+);", text, re.MULTILINE))


def leaves(tree):
    """`a::{b, c::d as e}` → (a, b), (a, c, d)."""
    tree = " ".join(tree.split())
    brace = tree.find("{")
    if brace < 0:
        yield tuple(tree.split(" as ")[0].strip().split("::"))
        return
    head = tuple(part for part in tree[:brace].strip().split("::") if part)
    depth, item = 0, ""
    for letter in tree[brace + 1 : tree.rindex("}")] + ",":
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            if item.strip():
                yield from (head + leaf for leaf in leaves(item.strip()))
            item = ""
        else:
            item += letter


def code(text):
    """Without comments, strings and what only tests compile; and the names of test files."""
    text = TOKEN.sub(lambda found: "" if found[0][0] == "/" else '""', text)
    tests = set()
    while match := TEST_MODULE.search(text):
        end = match.end()
        if match[2] == ";":
            tests.add(match[1])
        else:
            depth = 1
            while depth and end < len(text):
                depth += (text[end] == "{") - (text[end] == "}")
                end += 1
        text = text[: match.start()] + text[end:]
    return text, tests


def modules(source):
    """Every module of a crate by its path; the root is ()."""
    found, waiting = {}, [((), source / "lib.rs", source)]
    while waiting:
        path, file, folder = waiting.pop()
        text, tests = code(file.read_text())
        found[path] = module = Module(path, text)
        for child in sorted(module.children - tests):
            if (inside := folder / f"{child}.rs").exists():
                waiting.append(((*path, child), inside, folder / child))
    return found


def target(found, path, used, seen=()):
    """The module that a path in the module `path` leads to; None if that is of another crate."""
    where, rest = path, list(used)
    if rest[0] == "crate":
        where, rest = (), rest[1:]
    elif rest[0] not in ("self", "super") and rest[0] not in found[path].children:
        return None
    while rest and rest[0] in ("self", "super"):
        where, rest = where[:-1] if rest[0] == "super" else where, rest[1:]
    while rest:
        if (*where, rest[0]) in found:
            where, rest = (*where, rest[0]), rest[1:]
            continue
        # An item of `where`, or what it passes on.
        passed = [use for use in found[where].uses if use[-1] == rest[0] and use != tuple(rest)]
        if not passed or (where, rest[0]) in seen:
            break
        further = target(found, where, passed[0], (*seen, (where, rest[0])))
        return further or where
    return where


def edges(found):
    """Folder → module → the modules beside it that it uses, each with a place where it does."""
    graph = {}
    for path, module in found.items():
        for used in module.paths:
            end = target(found, path, used)
            if end is None:
                continue
            common = 0
            while common < min(len(path), len(end)) and path[common] == end[common]:
                common += 1
            if common < len(path) and common < len(end):
                inside = graph.setdefault(path[:common], {})
                place = f"{'/'.join(path)}.rs: {'::'.join(used)}"
                inside.setdefault(path[common], {}).setdefault(end[common], place)
    return graph


def circle(uses):
    """Modules each of which uses the next, the last the first; None if there are none."""
    done, way = set(), []

    def visit(module):
        if module in way:
            return way[way.index(module) :]
        if module in done:
            return None
        way.append(module)
        for used in sorted(uses.get(module, ())):
            if ring := visit(used):
                return ring
        done.add(way.pop())
        return None

    for module in sorted(uses):
        if ring := visit(module):
            return ring
    return None


def main():
    rings = 0
    for source in [ROOT / "src", *sorted(ROOT.glob("crates/*/src"))]:
        for folder, uses in sorted(edges(modules(source)).items()):
            name = "::".join((str(source.relative_to(ROOT)), *folder))
            if "--edges" in sys.argv:
                for module, used in sorted(uses.items()):
                    print(f"{name}: {module} → {', '.join(sorted(used))}")
                continue
            while ring := circle(uses):
                rings += 1
                print(f"{name}: modules use each other in a circle: {' → '.join([*ring, ring[0]])}")
                for module, used in zip(ring, [*ring[1:], ring[0]]):
                    print(f"    {uses[module][used]}")
                # The next one.
                del uses[ring[-1]][ring[0]]
    sys.exit(1 if rings else 0)


if __name__ == "__main__":
    main()
