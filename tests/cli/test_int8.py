"""int8 as users build it: calibration, its cache, bounds, the report."""
import json
import os
import shutil
import tarfile
import unittest
from pathlib import Path

from harness import BAD_INPUT, DEMO, SCENES, SOURCE, USAGE, CommandTest

PKL, YAML = DEMO / "demo_mask_rcnn.pkl", DEMO / "demo_mask_rcnn.yaml"
FIXTURES = Path(os.environ.get("OSPREY_FIXTURES", SOURCE.parent / "shared" / "fixtures"))
D0 = FIXTURES / "efficientdet" / "efficientdet_d0_512"
SSD = FIXTURES / "tfod" / "real_ssd_mobilenet_v2_fpnlite_320"
COCO = FIXTURES / "coco"


class Int8(CommandTest):
    def build(self, *options, name="m.osprey", expect=0):
        return self.run_osprey("build", PKL, "--config", YAML, "--precision", "int8", *options, "-o", name, expect=expect)

    def photos(self, count=3):
        folder = self.folder / "photos"
        folder.mkdir(exist_ok=True)
        for scene in sorted(SCENES.glob("*.jpg"))[:count]:
            shutil.copyfile(scene, folder / scene.name)
        return folder

    def test_two_calibrations_and_the_cache_give_the_same_bytes(self):
        photos = self.photos()
        for name in ("a", "b"):
            self.build("--calib-input", photos, "--calib-cache", f"{name}.calib", name=f"{name}.osprey")
        read = [(self.folder / name).read_bytes() for name in ("a.osprey", "b.osprey")]
        self.assertEqual(*read)
        self.assertEqual((self.folder / "a.calib").read_text(), (self.folder / "b.calib").read_text())
        told = self.build("--calib-cache", "a.calib", name="c.osprey").err
        self.assertIn("limits are those of a.calib", told)
        self.assertEqual((self.folder / "c.osprey").read_bytes(), read[0])
        self.assertEqual(sorted(p.name for p in self.folder.glob("*.partial")), [])
        shown = self.run_osprey("inspect", "a.osprey").out
        for words in ("in int8", "int8 calibration: percentile, 3 photos", "int8 layers: ", "int8 beside fp32: detections change by 0."):
            self.assertIn(words, shown)

    def test_for_a_gpu_the_other_layers_are_fp16(self):
        photos = self.photos()
        for name in ("a", "b"):
            told = self.build("--calib-input", photos, "--calib-cache", "m.calib", "--max-detection-change", "0.005",
                              "--device", "cuda", name=f"{name}.osprey").err
            self.assertIn("int8 kept fp16: for detection change <= 0.005: ", told)
        self.assertEqual((self.folder / "a.osprey").read_bytes(), (self.folder / "b.osprey").read_bytes())
        shown = self.run_osprey("inspect", "a.osprey", "--layers").out
        for words in ("quantized_conv(", "to='f16'", "to='f16'} @input.normalize"):
            self.assertIn(words, shown)
        refused = self.run_osprey("infer", "a.osprey", photos, "-o", "out", "--device", "cpu", expect=USAGE)
        self.assertIn("layers in fp16", refused.err)

    def test_it_detects_what_fp32_detects(self):
        self.build("--calib-input", SCENES, name="m.osprey")
        found = {}
        for name, engine in (("fp32", self.engine()), ("int8", "m.osprey")):
            out = self.run_osprey("eval", engine, "--images", SCENES, "--annotations", SCENES / "instances.json", "--json")
            found[name] = out.json()["segm"]["stats"][0]
        self.assertGreater(found["fp32"], 0.5)
        self.assertGreater(found["int8"], found["fp32"] - 0.02, found)

    def test_a_bound_keeps_blocks_in_fp32_and_is_remembered(self):
        photos = self.photos(2)
        options = ["--calib-input", photos, "--calib-cache", "m.calib", "--max-detection-change", "0.005"]
        told = self.build(*options, "--report", "report").err
        self.assertIn("int8 kept fp32: for detection change <= 0.005: ", told)
        cache = json.loads((self.folder / "m.calib").read_text())
        self.assertLessEqual(cache["decision"]["change"], 0.005)
        kept = [k["block"] for k in cache["decision"]["kept"]]
        self.assertTrue(kept)
        changes = [k["change"] for k in cache["decision"]["kept"]]
        self.assertEqual(changes, sorted(changes, reverse=True))
        rows = [line.split("\t") for line in (self.folder / "report" / "layers.tsv").read_text().splitlines()]
        self.assertEqual({row[1] for row in rows[1:] if row[2] == "fp32"}, set(kept))
        self.assertEqual(len(list((self.folder / "report").glob("*.jpg"))), 2)
        self.build("--calib-cache", "m.calib", "--max-detection-change", "0.005", name="again.osprey")
        self.assertEqual((self.folder / "again.osprey").read_bytes(), (self.folder / "m.osprey").read_bytes())
        # As a build for a GPU leaves it, which has fewer layers in int8.
        gpus = json.loads(json.dumps(cache))
        gpus["decision"]["searched"] -= 1
        (self.folder / "m.calib").write_text(json.dumps(gpus))
        told = self.build("--calib-cache", "m.calib", "--max-detection-change", "0.005", name="other.osprey", expect=USAGE).err
        self.assertIn("for this device and batch", told)
        self.build(*options)
        self.assertEqual(json.loads((self.folder / "m.calib").read_text()), cache)
        cache["decision"]["kept"] = [{"block": block, "change": 0.1} for block in sorted({row[1] for row in rows[1:]})]
        (self.folder / "m.calib").write_text(json.dumps(cache))
        told = self.build("--calib-cache", "m.calib", "--max-detection-change", "0.005", name="none.osprey").err
        self.assertIn("warning: no layer is in 8 bits, this is an fp32 engine: detection change <= 0.005 holds with none", told)

    def build_for_ap(self, drop, *options, annotations=SCENES / "instances.json", cache="m.calib", **more):
        return self.build("--calib-cache", cache, "--calib-annotations", annotations, "--max-ap-drop", drop, *options, **more)

    def annotations_where(self, change):
        read = json.loads((SCENES / "instances.json").read_text())
        change(read)
        (self.folder / "changed.json").write_text(json.dumps(read))
        return self.folder / "changed.json"

    def decision(self):
        return json.loads((self.folder / "m.calib").read_text())["decision"]

    def test_a_bound_on_ap_without_a_margin_holds_on_the_annotated_photos(self):
        told = self.build_for_ap(0.0005, "--ap-margin", 0, "--calib-input", SCENES).err
        decision = self.decision()
        self.assertEqual(decision["bound"], "AP drop <= 0.0005")
        self.assertLessEqual(decision["ap_drop"], 0.0005)
        self.assertGreater(decision["ap_error"], 0)
        self.assertEqual([t["holds"] for t in decision["tried"]], [False] * (len(decision["tried"]) - 1) + [True])
        self.assertIn("int8 kept fp32: for AP drop <= 0.0005: ", told)

    def test_a_bound_on_ap_that_no_choice_is_shown_to_hold_leaves_all_layers_in_floats(self):
        told = self.build_for_ap(0.00001, "--calib-input", SCENES, "--report", "report").err
        self.assertIn("int8 layers: 0 of ", told)
        self.assertRegex(told, "warning: no layer is in 8 bits, this is an fp32 engine: AP drop [+] 2 standard errors <= 1e-05 cannot be "
                               "shown with 24 annotated photos. Where 8 bits lose nothing, it takes about [0-9]+ photos for [0-9]+ blocks, "
                               "[0-9]+ for [0-9]+; allow a larger --max-ap-drop")
        decision = self.decision()
        every, gentlest = decision["tried"]
        self.assertGreater(every["blocks"], gentlest["blocks"])
        for tried in (every, gentlest):
            self.assertGreater(tried["drop"] + 2 * tried["error"], 0.00001)
        self.assertEqual((decision["ap_drop"], decision["ap_error"], decision["annotated"]), (0, 0, 24))
        self.assertLess(decision["change"], 1e-6)
        rows = (self.folder / "report" / "choices.tsv").read_text().splitlines()
        self.assertEqual([row.split("\t")[3] for row in rows], ["holds", "no", "no"])
        compared = self.run_osprey("compare", self.engine(), "m.osprey", "--input", self.photos(2))
        self.assertIn("largest differences: box 0.0000 px, score 0.00e+00", compared.out)
        # The choice is remembered, for this margin and these annotations only, and stands for a GPU, too.
        self.build_for_ap(0.00001, name="again.osprey")
        self.assertEqual((self.folder / "again.osprey").read_bytes(), (self.folder / "m.osprey").read_bytes())
        self.assertIn("this is an fp16 engine", self.build_for_ap(0.00001, "--device", "cuda", name="gpu.osprey").err)
        self.assertIn("for this device and batch: this one's is AP drop + 2 standard errors <= 1e-05",
                      self.build_for_ap(0.00001, "--ap-margin", 1, expect=USAGE).err)
        other = self.annotations_where(lambda read: read["annotations"].pop())
        self.assertIn("this one was made with other annotations", self.build_for_ap(0.00001, annotations=other, expect=USAGE).err)

    def test_a_wide_bound_on_ap_is_shown_at_once(self):
        self.build_for_ap(1, "--calib-input", SCENES)
        decision = self.decision()
        self.assertEqual((decision["kept"], len(decision["tried"]), decision["tried"][0]["holds"]), ([], 1, True))
        self.assertEqual(decision["ap_drop"], decision["tried"][0]["drop"])
        self.assertLessEqual(abs(decision["ap_drop"]) + 2 * decision["ap_error"], 1)

    def test_no_number_of_photos_shows_that_nothing_is_lost(self):
        self.assertIn("No number of photos shows that nothing is lost", self.build_for_ap(0, "--calib-input", SCENES).err)

    def test_few_annotated_photos_show_nothing(self):
        told = self.build_for_ap(0.5, "--calib-input", self.photos(10)).err
        self.assertIn("AP drop + 2 standard errors <= 0.5 takes 16 annotated photos to be shown, and these are 10. Annotate more", told)
        self.assertNotIn("tried", self.decision())
        (self.folder / "m.calib").unlink()
        self.assertNotIn("takes 16 annotated", self.build_for_ap(0.5, "--ap-margin", 0, "--calib-input", self.photos(10)).err)

    def test_a_cache_from_before_margins_is_one_without_margin(self):
        self.build_for_ap(1, "--ap-margin", 0, "--calib-input", SCENES)
        cache = json.loads((self.folder / "m.calib").read_text())
        for key in ("annotated", "annotations", "tried"):
            del cache["decision"][key]
        (self.folder / "old.calib").write_text(json.dumps(cache))
        for margin, why in ((0, "this one does not say with which annotations it was made"), (2, "this one's is AP drop <= 1")):
            self.assertIn(why, self.build_for_ap(1, "--ap-margin", margin, cache="old.calib", expect=USAGE).err)

    def test_ap_that_cannot_fall_is_no_bound(self):
        def shift(read):
            for a in read["annotations"]:
                a["bbox"], a["segmentation"], a["area"] = [0, 0, 1, 1], [[0, 0, 1, 0, 1, 1]], 0.5
        for change in (lambda read: read["annotations"].clear(), shift):
            told = self.build_for_ap(0.1, "--calib-input", SCENES, annotations=self.annotations_where(change), expect=BAD_INPUT).err
            self.assertIn("AP in fp32 (bbox) is 0 on the 24 annotated photos: nothing is left to fall", told)
            (self.folder / "m.calib").unlink()

    def test_what_cannot_be_calibrated_is_refused(self):
        photos = self.photos(1)
        (self.folder / "bad").mkdir()
        (self.folder / "bad" / "a.jpg").write_text("no picture")
        for options, status, word in (([], USAGE, "--calib-input"),
                                      (["--calib-input", "bad"], BAD_INPUT, "none of the 1 photos"),
                                      (["--calib-input", photos, "--calib-method", "guess"], USAGE, "guess"),
                                      (["--calib-input", photos, "--max-ap-drop", "0.1"], USAGE, "--calib-annotations"),
                                      (["--calib-input", photos, "--max-detection-change", "2"], USAGE, "between 0 and 1"),
                                      (["--calib-input", photos, "--ap-margin", "1"], USAGE, "--max-ap-drop"),
                                      (["--calib-input", photos, "--max-ap-drop", "0.1", "--calib-annotations", SCENES / "instances.json",
                                        "--ap-margin", "nan"], USAGE, "--ap-margin")):
            with self.subTest(word):
                self.assertIn(word, self.build(*options, expect=status).err)
        self.assertFalse((self.folder / "m.osprey").exists())

    def test_layers_that_an_older_cache_does_not_know_stay_in_floats(self):
        self.build("--calib-input", self.photos(1), "--calib-cache", "m.calib")
        cache = json.loads((self.folder / "m.calib").read_text())
        del cache["values"]["roi_heads.box_head.fc1.flatten"]
        (self.folder / "m.calib").write_text(json.dumps(cache))
        self.assertIn("written before 1 of ", self.build("--calib-cache", "m.calib").err)
        shown = self.run_osprey("inspect", "m.osprey", "--layers").out
        self.assertIn("roi_heads.box_head.fc1.relu = linear(", shown)
        self.assertIn("box_head_feat_0 = quantized_linear(", shown)

    def test_a_cache_of_something_else_is_refused_with_the_reason(self):
        self.build("--calib-input", self.photos(1), "--calib-cache", "m.calib")
        self.assertIn("the method percentile instead of minmax",
                      self.build("--calib-cache", "m.calib", "--calib-method", "minmax", expect=BAD_INPUT).err)
        self.assertIn("other photos", self.build("--calib-input", self.photos(2), "--calib-cache", "m.calib", expect=BAD_INPUT).err)
        self.assertIn("detection change", self.build("--calib-cache", "m.calib", "--max-detection-change", "0.1", expect=USAGE).err)


@unittest.skipUnless(D0.exists(), f"no fixtures at {FIXTURES}; set OSPREY_FIXTURES")
class EfficientDet(CommandTest):
    def test_an_engine_without_a_layer_in_8_bits_says_so(self):
        with tarfile.open(D0 / "checkpoint.tar.xz") as archive:
            archive.extractall(self.folder, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(self.folder)
        build = ["build", "efficientdet-d0", "--precision", "int8", "--calib-input", self.photo(), "--device", "cuda", "-o", "m.osprey"]
        warning = "warning: no layer is in 8 bits, this is an fp16 engine: none would be faster so at batch "
        told = self.run_osprey(*build).err
        self.assertIn("int8 layers: 0 of ", told)
        self.assertIn(warning + "1. Give the --batch", told)
        self.assertNotIn("warning: no layer", self.run_osprey(*build, "--batch", "64", "--force").err)


@unittest.skipUnless(SSD.exists() and COCO.exists(), f"no fixtures at {FIXTURES}; set OSPREY_FIXTURES")
class RealSsd(CommandTest):
    """Trained weights, and AP on other photos than those that calibration and bounds see."""

    def ap(self, *options):
        with tarfile.open(SSD / "checkpoint.tar.xz") as archive:
            archive.extractall(self.folder, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(self.folder)
        source = next(self.folder.rglob("checkpoint")).parent
        self.run_osprey("build", source, "--config", SSD / "pipeline.config", "--precision", "int8", "--calib-input",
                        COCO / "train128" / "images", *options, "-o", "m.osprey")
        out = self.run_osprey("eval", "m.osprey", "--images", COCO / "val64" / "images", "--annotations",
                              COCO / "val64" / "instances.json", "--json")
        return out.json()["bbox"]["stats"][0]

    def test_the_trained_ssd_keeps_its_ap(self):
        self.assertGreaterEqual(self.ap(), 0.294)

    def test_a_bound_holds_on_other_photos_however_few_it_is_measured_on(self):
        bound = ["--max-ap-drop", "0.002", "--calib-annotations", COCO / "train128" / "instances.json"]
        self.assertGreaterEqual(self.ap("--calib-num-images", 32, *bound), 0.297)


if __name__ == "__main__":
    unittest.main()
