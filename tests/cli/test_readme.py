"""Runs what README.md tells users to run: the lines of every block marked ```sh run."""
import os
import re
import shutil
import subprocess

import files
import harness
from harness import DEMO, OK, SCENES, SOURCE, CommandTest

# Files that the README takes for the user's own, and what stands for them here.
CONFIGS = ("config.yaml", "mask_rcnn_R_50_FPN_3x.yaml")
PHOTOS = 4
# Lines that may end with another status: compare's is its verdict, and bf16 is allowed to differ.
MAY_DIFFER = ("osprey compare ",)


def blocks(text):
    return re.findall(r"^```sh run\n(.*?)^```", text, re.M | re.S)


class Readme(CommandTest):
    def provide(self):
        shutil.copyfile(DEMO / "demo_mask_rcnn.pkl", self.folder / "model_final.pkl")
        weights = files.read_detectron2(DEMO / "demo_mask_rcnn.pkl")
        (self.folder / "model_final.pth").write_bytes(files.torch_zip({"model": weights, "iteration": 90000}))
        for name in CONFIGS:
            shutil.copyfile(DEMO / "demo_mask_rcnn.yaml", self.folder / name)
        shutil.copyfile(DEMO / "labels.txt", self.folder / "names.txt")
        shutil.copytree(SCENES, self.folder / "scenes")
        for name in ("instances.json", "results_truth.json"):
            shutil.copyfile(SCENES / "instances.json", self.folder / name)
        self.photo()
        for i in range(PHOTOS):
            self.photo(f"photos/scene_{i}.jpg", i)

    def test_every_command(self):
        readme = SOURCE / "README.md"
        if not readme.exists():
            self.skipTest("there is no README.md")
        commands = [line for block in blocks(readme.read_text().replace("\\\n", " ")) for line in block.splitlines()
                    if line.strip() and not line.startswith("#")]
        self.assertGreaterEqual(len(commands), 5, "README.md has no blocks marked ```sh run")
        self.provide()
        path = f"{harness.OSPREY.parent}:{os.environ['PATH']}"
        for command in commands:
            with self.subTest(command):
                done = subprocess.run(["bash", "-c", command], cwd=self.folder, capture_output=True, encoding="utf-8", timeout=300,
                                      env=dict(os.environ, PATH=path, OMP_WAIT_POLICY="passive"))
                allowed = (OK, 1) if command.startswith(MAY_DIFFER) else (OK,)
                self.assertIn(done.returncode, allowed, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-1000:]}")
                if done.returncode:
                    self.assertIn("verdict: ", done.stdout)
