"""Hundreds of cut and altered files of every kind: each is refused with exit status 3, or was harmless; none
crashes, hangs or eats the machine's memory."""
import json
import os
import resource
import subprocess

import files
import harness
from harness import BAD_INPUT, DEMO, OK, SCENES, CommandTest

TENSORS = {"model.a": files.Array((2, 3)), "model.b.weight": files.Array((4,)), "c": files.Array(())}
MEMORY = 8 << 30  # bytes of address space
SECONDS = 60
YAML = DEMO / "demo_mask_rcnn.yaml"


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


class Hostile(CommandTest):
    total = refused = tests = 0

    def setUp(self):
        super().setUp()
        Hostile.tests += 1

    def attack(self, name, damaged, command, least_refused):
        """`damaged`: contents of the file `name`. At least `least_refused` of them (0..1) must be refused."""
        refused = 0
        for number, data in enumerate(damaged):
            (self.folder / name).write_bytes(data)
            done = subprocess.run([str(harness.OSPREY), *map(str, command)], cwd=self.folder, preexec_fn=limit_memory,
                                  env=dict(os.environ, OMP_WAIT_POLICY="passive", OMP_NUM_THREADS="2"), timeout=SECONDS,
                                  capture_output=True)
            message = done.stderr.decode(errors="replace")
            if done.returncode not in (OK, BAD_INPUT):
                kept = self.folder.parent / f"osprey_hostile_{number}_{name}"
                kept.write_bytes(data)
                self.fail(f"exit status {done.returncode} for {kept}: {message[-600:]}")
            if done.returncode == BAD_INPUT:
                # What a config makes of a model is told under the checkpoint's name.
                self.assertTrue(name in message or "demo_mask_rcnn.pkl: " in message, message)
                refused += 1
        Hostile.total += len(damaged)
        Hostile.refused += refused
        self.assertGreaterEqual(refused, least_refused * len(damaged), f"{refused} of {len(damaged)} were refused")

    def both(self, name, good, command, cuts, changes, least_refused, span=None):
        (self.folder / name).write_bytes(good)
        self.run_osprey(*command)
        self.attack(name, files.truncated(good, cuts), command, 0.9)
        self.attack(name, files.mutated(good, changes, span), command, least_refused)

    def test_pickles(self):
        self.both("m.pkl", files.detectron2_pickle(TENSORS), ["inspect", "m.pkl"], 25, 60, 0.5)

    def test_torch_files(self):
        self.both("m.pth", files.torch_zip({"model": TENSORS}), ["inspect", "m.pth"], 25, 60, 0.3)

    def test_tensor_bundles(self):
        index, data = files.tensor_bundle("graph")
        (self.folder / "m.data-00000-of-00001").write_bytes(data)
        self.both("m.index", index, ["inspect", "m.index"], 25, 60, 0.9)

    def test_safetensors(self):
        self.both("m.safetensors", files.safetensors(TENSORS), ["inspect", "m.safetensors"], 20, 50, 0.4)

    def test_numpy_files(self):
        self.both("m.npy", files.npy(files.Array((2, 3))), ["inspect", "m.npy"], 15, 30, 0.2)
        self.both("m.npz", files.npz(TENSORS), ["inspect", "m.npz"], 15, 40, 0.3)

    def test_engines(self):
        good = self.engine().read_bytes()
        self.both("m.osprey", good, ["inspect", "m.osprey"], 25, 50, 1, span=4096)
        self.attack("m.osprey", files.mutated(good, 20), ["inspect", "m.osprey"], 1)

    def test_configs(self):
        command = ["build", DEMO / "demo_mask_rcnn.pkl", "--config", "c.yaml", "-o", "m.osprey"]
        good = YAML.read_bytes()
        (self.folder / "c.yaml").write_bytes(good)
        self.run_osprey(*command)
        # A config that ends early asks for the defaults of the rest: another model, whose weights are not there.
        self.attack("c.yaml", files.truncated(good, 15), command, 0.5)
        self.attack("c.yaml", files.mutated(good, 45), command, 0.3)

    def test_pictures(self):
        # The file must be named in the message; a harmless change gives a picture, in which to detect.
        command = ["infer", self.engine(), None, "-o", "out", "--format", "json"]
        for name, good, least in (("p.png", files.png(40, 30), 0.5), ("p.bmp", files.bmp(40, 30), 0),
                                  ("p.jpg", (SCENES / "scene_23_0003.jpg").read_bytes(), 0)):
            command[2] = name
            with self.subTest(name):
                self.both(name, good, command, 12, 25, least, span=200)

    def test_annotations_and_results(self):
        truth = {"images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}],
                 "categories": [{"id": 1, "name": "cat"}],
                 "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 12], "area": 120, "iscrowd": 0,
                                  "segmentation": [[1, 2, 11, 2, 11, 14, 1, 14]]}]}
        found = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 11.5], "score": 0.75,
                  "segmentation": {"size": [30, 40], "counts": "Q1<2O1O001O00001O"}}]
        (self.folder / "truth.json").write_text(json.dumps(truth))
        (self.folder / "found.json").write_text(json.dumps(found))
        command = ["eval", "--detections", "found.json", "--annotations", "truth.json", "--type", "bbox"]
        self.both("truth.json", json.dumps(truth).encode(), command, 25, 60, 0.3)
        (self.folder / "truth.json").write_text(json.dumps(truth))
        self.both("found.json", json.dumps(found).encode(), command, 20, 50, 0.3)

    @classmethod
    def tearDownClass(cls):
        print(f"hostile files: {Hostile.total}, refused {Hostile.refused}, the rest harmless")
        everything = sum(name.startswith("test_") for name in dir(cls))
        assert Hostile.tests < everything or Hostile.total >= 300, "fewer than 300 hostile files"
