#!/usr/bin/env python3
"""End-to-end tests of the command, with nothing but the standard library: run.py --osprey FILE [MODULE...]."""
import argparse
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import harness  # noqa: E402

SKIPPED = 77  # what ctest takes for "skipped"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--osprey", required=True, type=Path, help="the command")
    parser.add_argument("--build", type=Path, help="the build folder, for the test of the installation")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("modules", nargs="*", help="test modules or names in them; default: all")
    arguments = parser.parse_args()
    harness.OSPREY = arguments.osprey.resolve()
    harness.BUILD = (arguments.build or arguments.osprey.parent).resolve()
    folder = Path(__file__).resolve().parent
    names = arguments.modules or sorted(p.stem for p in folder.glob("test_*.py"))
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    result = unittest.TextTestRunner(verbosity=2 if arguments.verbose else 1).run(suite)
    if not result.wasSuccessful():
        return 1
    return SKIPPED if result.testsRun and len(result.skipped) == result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
