"""Installs into a folder of its own and builds the examples against nothing but what lies there."""
import os
import shutil
import subprocess
from pathlib import Path

import harness
from harness import SCENES, SOURCE, CommandTest


class Install(CommandTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.prefix = Path(CommandTest._shared.name) / "staged"
        cls.run_tool("cmake", "--install", harness.BUILD, "--prefix", cls.prefix)
        # Nothing may remember where it was installed first.
        cls.prefix = cls.prefix.rename(cls.prefix.with_name("moved"))

    @staticmethod
    def run_tool(*command, **environment):
        clean = {k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "CMAKE_PREFIX_PATH", "PKG_CONFIG_PATH")}
        done = subprocess.run([str(c) for c in command], env={**clean, **environment}, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def detect(self, program):
        self.photo()
        out = self.run_tool(program, self.engine(), self.folder / "photo.jpg", self.folder / "picture.png")
        self.assertGreaterEqual(len(out.splitlines()), 3)
        self.assertEqual((self.folder / "picture.png").read_bytes()[:4], b"\x89PNG")
        # The same detections as the command's, in the same order.
        self.run_osprey("infer", self.engine(), "photo.jpg", "-o", "out", "--format", "tsv")
        table = (self.folder / "out/photo.tsv").read_text().splitlines()
        self.assertEqual([f"{float(line.split()[-1]):.3f}" for line in table], [line[17:].split()[0] for line in out.splitlines()])

    def test_find_package(self):
        build = self.folder / "build"
        self.run_tool("cmake", "-S", SOURCE / "examples/detect", "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.run_tool("cmake", "--build", build)
        self.detect(build / "detect")

    def test_from_checkpoint_to_picture(self):
        build = self.folder / "build"
        self.run_tool("cmake", "-S", SOURCE / "examples/photo_demo", "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.run_tool("cmake", "--build", build)
        self.photo()
        checkpoint = [harness.DEMO / "demo_mask_rcnn.pkl", harness.DEMO / "demo_mask_rcnn.yaml", self.folder / "photo.jpg"]
        pictures = []
        for name, *extra in (["picture.png"], ["maps.png", "heatmaps"]):
            self.run_tool(build / "photo_demo", *checkpoint, self.folder / name, *extra)
            pictures.append((self.folder / name).read_bytes())
        self.assertTrue(all(p[:4] == b"\x89PNG" for p in pictures))
        self.assertNotEqual(*pictures)

    def test_pkg_config(self):
        if shutil.which("pkg-config") is None:
            self.skipTest("no pkg-config here")
        package = next(self.prefix.rglob("osprey.pc")).parent
        flags = self.run_tool("pkg-config", "--cflags", "--libs", "osprey", PKG_CONFIG_PATH=str(package)).split()
        self.run_tool("c++", SOURCE / "examples/detect/detect.cpp", "-o", self.folder / "detect", *flags)
        self.detect(self.folder / "detect")

    def test_the_installed_command(self):
        out = self.run_tool(self.prefix / "bin/osprey", "demo", "-o", self.folder / "demo")
        self.assertIn(str(self.prefix / "share/osprey/demo"), out)
        self.assertGreater(float(out.split("mask mAP ")[1].split()[0]), 0.6)

    def test_needs_nothing_of_the_source_tree(self):
        for file in self.prefix.rglob("*"):
            if file.suffix in (".cmake", ".pc", ".h"):
                text = file.read_text()
                self.assertNotIn(str(SOURCE), text, file)
                self.assertNotIn("osprey_core", text, file)
        libraries = self.run_tool("ldd", self.prefix / "bin/osprey")
        self.assertNotIn("not found", libraries)
        for line in libraries.splitlines():
            if "libdnnl" in line:
                self.assertIn(str(self.prefix), line)
