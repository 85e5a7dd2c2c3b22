"""maskrcnn-benchmark's users' ways: KEY VALUE at the end, heat maps of masks, trimmed checkpoints."""
import os
import shutil
import tarfile
import unittest
from pathlib import Path

from harness import BAD_INPUT, SOURCE, USAGE, CommandTest

FIXTURES = Path(os.environ.get("OSPREY_FIXTURES", SOURCE.parent / "shared" / "fixtures"))
CASE = FIXTURES / "mrcnn_benchmark" / "e2e_mask_rcnn_narrow"
DETECTRON = FIXTURES / "mrcnn_benchmark" / "detectron1_e2e_mask_rcnn_R-50-FPN"
NARROW = ("MODEL.RESNETS.STEM_OUT_CHANNELS 16 MODEL.RESNETS.RES2_OUT_CHANNELS 32 MODEL.RESNETS.WIDTH_PER_GROUP 8 "
          "MODEL.RESNETS.BACKBONE_OUT_CHANNELS 32 MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM 64 INPUT.MIN_SIZE_TEST 256 "
          "INPUT.MAX_SIZE_TEST 384 MODEL.RPN.POST_NMS_TOP_N_TEST 200 MODEL.RPN.PRE_NMS_TOP_N_TEST 300 "
          "MODEL.RPN.FPN_POST_NMS_TOP_N_TEST 200 MODEL.DEVICE cpu").split() + [
              "MODEL.ROI_MASK_HEAD.CONV_LAYERS", "(16, 16, 16, 16)"]


@unittest.skipUnless(CASE.exists(), f"no fixtures at {FIXTURES}; set OSPREY_FIXTURES")
class MaskrcnnBenchmark(CommandTest):
    def checkpoint(self, case=CASE):
        with tarfile.open(case / "checkpoint.tar.xz") as archive:
            archive.extractall(self.folder, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(self.folder)
        return next(self.folder.glob("model_final.*"))

    def build(self, file, config=CASE / "config.yaml"):
        self.run_osprey("build", file, "--config", config, "-o", "m.osprey")

    def tensors(self, file):
        return {t["name"]: t for t in self.run_osprey("inspect", file, "--json").json()["tensors"]}

    def test_keys_and_values_at_the_end(self):
        file = self.checkpoint()
        self.run_osprey("import", file, "--config", CASE / "config.yaml", "-o", "dumped.onnx")
        self.run_osprey("import", file, "--config", "configs/e2e_mask_rcnn_R_50_FPN_1x.yaml", "-o", "named.onnx", *NARROW)
        graph = lambda name: self.run_osprey("inspect", name, "--layers", "--json").json()["graph"]
        self.assertEqual(graph("dumped.onnx"), graph("named.onnx"))
        self.run_osprey("import", file, "--config", CASE / "config.yaml", "-o", "listed.onnx", "MODEL.ROI_HEADS.BBOX_REG_WEIGHTS", "[10.0, 10.0, 5.0, 5.0]")
        self.assertEqual(graph("dumped.onnx"), graph("listed.onnx"))
        self.run_osprey("create_onnx", "--det2_weights", file, "--det2_config", CASE / "config.yaml", "--onnx", "alias.onnx",
                        "MODEL.ROI_HEADS.BBOX_REG_WEIGHTS", "[10.0, 10.0, 5.0, 5.0]")
        self.assertEqual(graph("dumped.onnx"), graph("alias.onnx"))
        odd = self.run_osprey("import", file, "--config", CASE / "config.yaml", "-o", "x.onnx", "MODEL.DEVICE", expect=USAGE)
        self.assertIn("in pairs", odd.err)
        wrong = self.run_osprey("import", file, "--config", CASE / "config.yaml", "-o", "x.onnx", "MODEL.DEVISE", "cpu", expect=BAD_INPUT)
        self.assertIn("MODEL.DEVICE", wrong.err)
        self.assertFalse((self.folder / "x.onnx").exists())

    def test_a_file_whose_name_looks_like_a_list(self):
        self.checkpoint().rename(self.folder / "[x]")
        for where in (["[x]", "--config", CASE / "config.yaml"], ["--config", CASE / "config.yaml", "[x]"]):
            self.run_osprey("import", *where, "-o", "x.onnx", "MODEL.ROI_HEADS.BBOX_REG_WEIGHTS", "[10.0, 10.0, 5.0, 5.0]")

    def test_mask_heatmaps(self):
        self.build(self.checkpoint())
        shutil.copyfile(FIXTURES / "images" / "chelsea.png", self.folder / "cat.png")
        for extra in (["-o", "photo"], ["--show-mask-heatmaps", "-o", "maps"], ["--show-mask-heatmaps", "--masks-per-dim", "3", "-o", "nine"]):
            self.run_osprey("infer", "m.osprey", "cat.png", "--format", "picture", *extra)
        pictures = [(self.folder / name / "cat.png").read_bytes() for name in ("photo", "maps", "nine")]
        self.assertEqual(len(set(pictures)), 3)
        size = lambda png: tuple(int.from_bytes(png[at:at + 4], "big") for at in (16, 20))
        self.assertEqual([size(p) for p in pictures], [(451, 300), (450, 300), (450, 300)])
        self.run_osprey("infer", "m.osprey", "cat.png", "--batch", "2", "--show-mask-heatmaps", "-o", "x", expect=USAGE)

    def test_heatmaps_need_masks(self):
        self.photo()
        boxes = self.engine("--set", "MODEL.MASK_ON=False")
        result = self.run_osprey("infer", boxes, "photo.jpg", "--show-mask-heatmaps", "-o", "x", expect=USAGE)
        self.assertIn("no masks", result.err)

    def test_trim(self):
        file = self.checkpoint()
        before = self.tensors(file)
        out = self.run_osprey("import", file, "--trim", "classes", "-o", "trimmed.pth").out
        after = self.tensors("trimmed.pth")
        gone = {"roi_heads.box.predictor." + name for name in ("cls_score.weight", "cls_score.bias", "bbox_pred.weight", "bbox_pred.bias")}
        gone |= {"roi_heads.mask.predictor.mask_fcn_logits.weight", "roi_heads.mask.predictor.mask_fcn_logits.bias"}
        model = {name: t for name, t in before.items() if t["section"] == "model"} or before
        self.assertEqual(set(model) - set(after), gone)
        for name in gone:
            self.assertIn(f"removed {name} [", out)
        for name, t in after.items():
            self.assertEqual((t["section"], t["dtype"], t["shape"]), ("model", model[name]["dtype"], model[name]["shape"]), name)
        missing = self.run_osprey("import", "trimmed.pth", "--config", CASE / "config.yaml", "-o", "x.onnx", expect=BAD_INPUT)
        for name in gone:
            self.assertIn(name, missing.err)
        kept = self.run_osprey("import", file, "--trim", "classes", "--keep", "*.bbox_pred.*", "-o", "some.pth", "--json").json()
        self.assertEqual(len(kept["removed"]), 4)
        nothing = self.run_osprey("import", file, "--trim", "cls_scores.*", "-o", "y.pth", expect=BAD_INPUT)
        self.assertIn("matches the name of no tensor", nothing.err)
        self.run_osprey("import", file, "--keep", "*", "-o", "y.pth", expect=USAGE)
        self.run_osprey("import", file, "--trim", "classes", "-o", "y.onnx", expect=USAGE)
        self.assertFalse((self.folder / "y.pth").exists())

    def test_what_is_kept_is_the_same(self):
        file = self.checkpoint()
        trimmed = self.folder / "trimmed" / file.name  # engines hold the name of their checkpoint
        trimmed.parent.mkdir()
        self.run_osprey("import", file, "--trim", "rpn.anchor_generator.*", "-o", trimmed)
        self.assertNotEqual(file.read_bytes(), trimmed.read_bytes())
        engines = []
        for name in (file, trimmed):
            self.build(name)
            engines.append((self.folder / "m.osprey").read_bytes())
        self.assertEqual(*engines)

    def test_trim_detectron(self):
        out = self.run_osprey("import", self.checkpoint(DETECTRON), "--trim", "classes", "-o", "trimmed.pth").out
        after = self.tensors("trimmed.pth")
        self.assertIn("removed cls_score.weight [81, 1024]", out)
        self.assertIn("rpn.head.bbox_pred.weight", after, "the region proposal network has no classes")
        self.assertIn("layer1.0.bn1.weight", after)
        self.assertFalse([n for n in after if n.startswith(("cls_score", "bbox_pred", "mask_fcn_logits")) or "momentum" in n])
