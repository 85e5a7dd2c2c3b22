#!/usr/bin/env python3
"""Holds the direction of dependencies: an #include may only name a folder of src/ that lies below.

The order is CMakeLists.txt's: each `osprey_module(NAME DEPS ...)` may include itself, what it names, and what
those may include. The command may include everything. Public headers may include only public headers.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def allowed_folders():
    """Folder -> the folders it may include."""
    text = (ROOT / "CMakeLists.txt").read_text()
    direct = {}
    for name, rest in re.findall(r"osprey_module\((\w+)([^)]*)\)", text):
        rest = re.sub(r"\$<[^>]*>:(\w+)>", r"\1", re.sub(r"\$<\$<BOOL:\$\{OSPREY_CPU\}>:(\w+)>", r"\1", rest))
        deps = re.search(r"DEPS ([\w\s]*?)(?:LIBS|LABELS|$)", rest, re.S)
        direct[name] = set(deps.group(1).split()) if deps else set()
    closed = {}

    def close(name):
        if name not in closed:
            closed[name] = {name}
            for dep in direct[name]:
                closed[name] |= close(dep)
        return closed[name]

    for name in direct:
        close(name)
    return closed


def includes(file):
    for number, line in enumerate(file.read_text().splitlines(), 1):
        match = re.match(r'\s*#include "([^"]+)"', line)
        if match:
            yield number, match.group(1)


def main():
    allowed = allowed_folders()
    wrong = []
    for file in sorted((ROOT / "src").rglob("*")):
        if file.suffix not in (".h", ".cpp", ".cu", ".cuh"):
            continue
        folder = file.relative_to(ROOT / "src").parts[0]
        if folder == "cli":
            continue
        for number, name in includes(file):
            target = name.split("/")[0]
            if target in ("osprey", "harness") or "/" not in name:
                continue
            # Tests may look up at what they test with.
            if target not in allowed.get(folder, set()) and not file.name.endswith("_test.cpp"):
                wrong.append(f"{file.relative_to(ROOT)}:{number}: {folder} may not include {name}")
    for file in sorted((ROOT / "include").rglob("*.h")):
        for number, name in includes(file):
            if not name.startswith("osprey/"):
                wrong.append(f"{file.relative_to(ROOT)}:{number}: a public header includes {name}")
    print("\n".join(wrong) if wrong else "include directions: ok")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
