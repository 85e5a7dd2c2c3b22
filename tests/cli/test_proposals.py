"""The demo model's two stages apart: a network of proposals, and a Fast R-CNN that detects in them."""
import json

from harness import BAD_INPUT, DEMO, SCENES, USAGE, CommandTest

FAST = ("--set", "MODEL.PROPOSAL_GENERATOR.NAME=PrecomputedProposals", "--set", "MODEL.LOAD_PROPOSALS=True")


class Stages(CommandTest):
    def rpn(self):
        return self.engine("--set", "MODEL.META_ARCHITECTURE=ProposalNetwork", labels=False)

    def fast(self):
        return self.engine(*FAST)

    def images(self, folder):
        return json.loads((self.folder / folder / "detections.json").read_text())["images"]

    def test_proposals_are_detections_with_logits(self):
        self.photo()
        self.run_osprey("infer", self.rpn(), "photo.jpg", "-o", "out")
        self.assertEqual(self.only_files(self.folder / "out"), ["detections.json", "photo.jpg", "photo.tsv"])
        found = self.images("out")[0]["detections"]
        self.assertEqual({(d["class"], d["label"]) for d in found}, {(0, "object")})
        scores = [d["score"] for d in found]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertTrue(scores[0] > 1 and scores[-1] < 0, "logits are no probabilities")
        for threshold in (0.5, -2):
            self.run_osprey("infer", self.rpn(), "photo.jpg", "--score-threshold", threshold, "-o", "some")
            self.assertEqual(self.images("some")[0]["detections"], [d for d in found if d["score"] > threshold])
        self.engine("--set", "MODEL.META_ARCHITECTURE=ProposalNetwork", "--score-threshold", "-2", labels=False)

    def test_two_stages_detect_what_one_detector_does(self):
        self.photo()
        self.run_osprey("infer", self.engine(), "photo.jpg", "-o", "whole")
        self.run_osprey("infer", self.rpn(), "photo.jpg", "-o", "first")
        self.run_osprey("infer", self.fast(), "photo.jpg", "--proposals", "first/detections.json", "-o", "second")
        whole, second = self.images("whole")[0]["detections"], self.images("second")[0]["detections"]
        self.assertTrue(whole)
        self.assertEqual([d["class"] for d in second], [d["class"] for d in whole])
        for a, b in zip(whole, second):
            self.assertAlmostEqual(a["score"], b["score"], delta=1e-3)
            for x, y in zip(a["box"], b["box"]):
                self.assertAlmostEqual(x, y, delta=0.05)

    def test_eval_by_image_id(self):
        truth = ["--images", SCENES, "--annotations", SCENES / "instances.json", "--json"]
        first = self.run_osprey("eval", self.rpn(), *truth, "--save-detections", "proposals.json").json()
        self.assertEqual(set(first), {"bbox", "box_proposals"})
        self.assertEqual(list(first["box_proposals"])[:5], ["AR@100", "ARs@100", "ARm@100", "ARl@100", "AR@1000"])
        self.assertGreater(first["box_proposals"]["AR@1000"], 60)
        self.assertEqual([c["name"] for c in first["bbox"]["classes"]], ["object"])
        whole = self.run_osprey("eval", self.engine(), *truth).json()
        second = self.run_osprey("eval", self.fast(), *truth, "--proposals", "proposals.json").json()
        self.assertEqual(set(second), set(whole))
        for kind in whole:
            self.assertAlmostEqual(second[kind]["stats"][0], whole[kind]["stats"][0], delta=2e-3)

    def test_other_verbs(self):
        self.photo()
        model = "fast.onnx"
        self.run_osprey("import", DEMO / "demo_mask_rcnn.pkl", "--config", DEMO / "demo_mask_rcnn.yaml", *FAST, "-o", model)
        self.run_osprey("build", model, "-o", "fast.osprey")
        self.assertIn("precomputed proposals", self.run_osprey("inspect", "fast.osprey").out)
        self.run_osprey("bench", "fast.osprey", "--size", "200x300", "--iterations", "1")
        self.run_osprey("infer", self.rpn(), "photo.jpg", "-o", "first")
        told = self.run_osprey("compare", "fast.osprey", self.fast(), "--input", "photo.jpg", "--layers", "--json",
                               "--proposals", "first/detections.json").json()
        self.assertTrue(told["same"] and told["first"] > 0 and told["first_departing_layer"] is None, told)
        self.run_osprey("export", model, "--target", "onnxruntime", "-o", "exported.onnx")

    def test_images_without_proposals_are_told_and_the_others_done(self):
        for name in ("a", "b", "c"):
            self.photo(f"in/{name}.jpg")
        proposals = [{"file_name": name, "bbox": [0, 0, 90, 90], "score": 1} for name in ("a.jpg", "c.jpg")]
        (self.folder / "p.json").write_text(json.dumps(proposals))
        told = self.run_osprey("infer", self.fast(), "in", "--proposals", "p.json", "-o", "out", "--format", "tsv", expect=BAD_INPUT)
        self.assertRegex(told.err, r"^osprey: .*b\.jpg.*; 2 of 3 images are done\n$")
        self.assertEqual(self.only_files(self.folder / "out"), ["a.tsv", "c.tsv"])

    def test_what_is_missing_is_said(self):
        photo = self.photo()
        for verb in (["infer", self.fast(), photo, "-o", "out"],
                     ["eval", self.fast(), "--images", SCENES, "--annotations", SCENES / "instances.json"],
                     ["compare", self.fast(), self.fast(), "--input", photo]):
            self.assertIn("--proposals FILE", self.run_osprey(*verb, expect=USAGE).err)
        (self.folder / "p.json").write_text('[{"file_name": "other.jpg", "bbox": [0, 0, 9, 9], "score": 1}]')
        refused = self.run_osprey("infer", self.fast(), photo, "--proposals", "p.json", "-o", "out", expect=BAD_INPUT)
        self.assertIn("photo.jpg", refused.err)
        refused = self.run_osprey("infer", self.engine(), photo, "--proposals", "p.json", "-o", "out", expect=USAGE)
        self.assertIn("makes its own", refused.err)
        (self.folder / "p.json").write_text('[{"file_name": "photo.jpg", "bbox": [0, 0, 9], "score": 1}]')
        refused = self.run_osprey("infer", self.fast(), photo, "--proposals", "p.json", "-o", "out", expect=BAD_INPUT)
        self.assertIn("entry 0", refused.err)
