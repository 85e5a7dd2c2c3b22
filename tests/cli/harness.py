"""Runs the command as a user does, and keeps what the tests share: the demo model's engine and photos."""
import json
import os
import resource
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
DEMO = SOURCE / "assets" / "demo"
SCENES = DEMO / "scenes"
OSPREY = None  # set by run.py
BUILD = None

OK, INTERNAL, USAGE, BAD_INPUT, DEVICE = 0, 1, 2, 3, 4


class Result:
    def __init__(self, arguments, done):
        self.arguments = arguments
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr

    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"osprey {' '.join(self.arguments)}\nexit status {self.status}\n{self.out[-1500:]}{self.err[-1500:]}"


def osprey(*arguments, cwd=None, timeout=300, memory=None):
    """`memory`: bytes of address space that it may have."""
    arguments = [str(a) for a in arguments]
    # Without the limit, waiting OpenMP threads of tests that run beside this one burn whole cores.
    environment = dict(os.environ, OMP_WAIT_POLICY="passive")
    done = subprocess.run([str(OSPREY), *arguments], cwd=cwd, env=environment, timeout=timeout,
                          preexec_fn=memory and (lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory))),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
    return Result(arguments, done)


class CommandTest(unittest.TestCase):
    """A fresh folder for each test, and one engine of the demo model for all."""

    _shared = None

    @classmethod
    def setUpClass(cls):
        if CommandTest._shared is None:
            CommandTest._shared = tempfile.TemporaryDirectory(prefix="osprey_cli_")

    def setUp(self):
        self._scratch = tempfile.TemporaryDirectory(prefix="osprey_cli_")
        self.folder = Path(self._scratch.name)

    def tearDown(self):
        self._scratch.cleanup()

    def run_osprey(self, *arguments, expect=OK, **limits):
        result = osprey(*arguments, cwd=self.folder, **limits)
        self.assertEqual(result.status, expect, str(result))
        if expect != OK:
            self.assertTrue(result.err.startswith("osprey: "), str(result))
        return result

    def has_cuda(self):
        """Whether this build has the CUDA executor."""
        return any(row["what"] == "cuda" and row["state"][0].isdigit() for row in self.run_osprey("doctor", "--json").json())

    def has_gpu(self):
        return any(row["what"].startswith("gpu ") for row in self.run_osprey("doctor", "--json").json())

    @classmethod
    def engine(cls, *options, labels=True):
        name = "demo" + "".join(o.strip("-").replace("/", "_") for o in options) + ".osprey"
        file = Path(CommandTest._shared.name) / name
        if not file.exists():
            names = ["--labels", DEMO / "labels.txt"] if labels else []
            result = osprey("build", DEMO / "demo_mask_rcnn.pkl", "--config", DEMO / "demo_mask_rcnn.yaml", *names,
                            *options, "-o", file)
            assert result.status == OK, str(result)
        return file

    def photo(self, name="photo.jpg", scene=0):
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SCENES / f"scene_23_{scene:04d}.jpg", target)
        return target

    def only_files(self, folder):
        return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())
