"""Every verb on the demo model, as a user goes through them."""
import json
import shutil

import files
from harness import BAD_INPUT, DEMO, DEVICE, INTERNAL, SCENES, USAGE, CommandTest, osprey

VERBS = ("bench", "build", "compare", "demo", "doctor", "eval", "infer", "inspect", "ops", "zoo")


class Help(CommandTest):
    def test_every_verb_has_help_with_examples(self):
        listed = self.run_osprey("--help").out
        verbs = [line.split()[0] for line in listed.split("Subcommands:")[1].splitlines() if line.startswith("  ")]
        for verb in VERBS:
            self.assertIn(verb, verbs)
        for verb in verbs:
            text = self.run_osprey(verb, "--help").out
            self.assertIn("Examples:\n", text, verb)
            self.assertIn(f"osprey {verb}", text.split("Examples:")[1], verb)
            for flag in ("--json", "--quiet", "--verbose", "--threads"):
                self.assertIn(flag, text, verb)

    def test_version(self):
        self.assertRegex(self.run_osprey("--version").out, r"^osprey \d+\.\d+\.\d+\n$")


class Build(CommandTest):
    def test_is_repeatable_and_leaves_nothing_else(self):
        out = self.folder / "out"
        out.mkdir()
        for name in ("a.osprey", "b.osprey"):
            self.run_osprey("build", DEMO / "demo_mask_rcnn.pkl", "--config", DEMO / "demo_mask_rcnn.yaml", "-o", out / name)
        self.assertEqual((out / "a.osprey").read_bytes(), (out / "b.osprey").read_bytes())
        self.assertEqual(self.only_files(out), ["a.osprey", "b.osprey"])

    def test_progress_and_remarks_go_to_stderr(self):
        arguments = ["build", DEMO / "demo_mask_rcnn.pkl", "--config", DEMO / "demo_mask_rcnn.yaml", "-o", "m.osprey"]
        loud, quiet = self.run_osprey(*arguments), self.run_osprey(*arguments, "--quiet")
        self.assertEqual(loud.out, "")
        self.assertIn("307 weights", loud.err)
        self.assertEqual((quiet.out, quiet.err), ("", ""))
        self.assertNotIn("fold_batch_norm", loud.err)
        verbose = self.run_osprey(*arguments, "--verbose", "--disable-pass", "fuse_upsample").err
        self.assertRegex(verbose, r"pass fold_batch_norm +[0-9.]+ ms +237 -> 184 nodes")
        self.assertNotIn("fuse_upsample", verbose)

    def test_overrides_and_thresholds(self):
        few = self.engine("--max-detections", "3")
        self.run_osprey("infer", few, self.photo(), "-o", "out")
        self.assertEqual(len(self.detections("out")), 3)
        low = self.engine("--set", "MODEL.ROI_HEADS.SCORE_THRESH_TEST=0.9")
        self.run_osprey("infer", low, self.photo(), "-o", "high")
        self.assertTrue(all(d["score"] > 0.9 for d in self.detections("high")))

    def detections(self, folder):
        return json.loads((self.folder / folder / "detections.json").read_text())["images"][0]["detections"]

    def test_fixed_size(self):
        fixed = self.engine("--size", "320x320")
        self.run_osprey("infer", fixed, self.photo(), "-o", "out", "--dump", "input", "--dump-to", "input.npz")
        self.assertIn("input: f32[1, 3, 320, 320]", self.run_osprey("inspect", "input.npz").out)
        self.assertTrue(self.detections("out"))


class Infer(CommandTest):
    def infer(self, *arguments):
        self.run_osprey("infer", self.engine(), *arguments, "-o", "out")
        return json.loads((self.folder / "out" / "detections.json").read_text())

    def test_detections_json(self):
        self.photo()
        found = self.infer("photo.jpg")
        labels = (DEMO / "labels.txt").read_text().splitlines()
        self.assertEqual(set(found), {"engine", "images"})
        image = found["images"][0]
        self.assertEqual(set(image), {"file", "width", "height", "detections"})
        self.assertEqual(image["file"], "photo.jpg")
        self.assertTrue(image["detections"])
        scores = [d["score"] for d in image["detections"]]
        self.assertEqual(scores, sorted(scores, reverse=True))
        for d in image["detections"]:
            self.assertEqual(set(d), {"class", "label", "score", "box", "mask"})
            self.assertEqual(d["label"], labels[d["class"]])
            x0, y0, x1, y1 = d["box"]
            self.assertTrue(0 <= x0 < x1 <= image["width"] and 0 <= y0 < y1 <= image["height"], d)
            self.assertEqual(d["mask"]["size"], [image["height"], image["width"]])
            self.assertIsInstance(d["mask"]["counts"], str)

    def test_pictures_and_tables(self):
        self.photo("a/one.jpg", 0)
        self.photo("a/two.jpeg", 1)
        found = self.infer("a")
        self.assertEqual(self.only_files(self.folder / "out"), ["detections.json", "one.jpg", "one.tsv", "two.jpg", "two.tsv"])
        self.assertEqual((self.folder / "out/one.jpg").read_bytes()[:3], b"\xff\xd8\xff")
        rows = [line.split() for line in (self.folder / "out/one.tsv").read_text().splitlines()]
        wanted = found["images"][0]["detections"]
        self.assertEqual(len(rows), len(wanted))
        for row, d in zip(rows, wanted):
            self.assertEqual(len(row), 6)
            for text, number in zip(row, [*d["box"], d["class"], d["score"]]):
                self.assertAlmostEqual(float(text), number, delta=1e-2)

    def test_globs_batches_and_formats(self):
        for i in range(3):
            self.photo(f"in/{i + 7}.jpg", i)
        single = self.infer("in/*.jpg", "--format", "json,coco")
        self.assertEqual(self.only_files(self.folder / "out"), ["coco_results.json", "detections.json"])
        results = json.loads((self.folder / "out/coco_results.json").read_text())
        self.assertEqual({r["image_id"] for r in results}, {7, 8, 9})
        self.assertEqual(set(results[0]), {"image_id", "category_id", "bbox", "score", "segmentation"})
        self.assertEqual(len(results), sum(len(i["detections"]) for i in single["images"]))
        self.assertEqual(self.infer("in", "--batch", "3")["images"], single["images"])

    def test_a_bad_photo_among_good_ones(self):
        for name in ("a", "b", "d", "e"):
            self.photo(f"in/{name}.jpg", 0)
        wanted = self.infer("in")["images"]
        picture = self.photo("in/c.jpg", 0).read_bytes()
        for contents in (b"not a picture", picture[:200], b""):
            for batch in ("1", "2", "5"):
                (self.folder / "in/c.jpg").write_bytes(contents)
                shutil.rmtree(self.folder / "out")
                told = self.run_osprey("infer", self.engine(), "in", "--batch", batch, "-o", "out", expect=BAD_INPUT)
                self.assertRegex(told.err, r"^osprey: .*c\.jpg.*; 4 of 5 images are done\n$")
                self.assertEqual(self.only_files(self.folder / "out"),
                                 sorted(["detections.json", *(f"{n}.{kind}" for n in "abde" for kind in ("jpg", "tsv"))]))
                self.assertEqual(json.loads((self.folder / "out/detections.json").read_text())["images"], wanted)

    def test_images_without_numbers_keep_their_place(self):
        for name in ("a", "b", "c"):
            self.photo(f"in/{name}.jpg", 0)
        (self.folder / "in/b.jpg").write_bytes(b"not a picture")
        self.run_osprey("infer", self.engine(), "in", "--format", "coco", "-o", "out", expect=BAD_INPUT)
        results = json.loads((self.folder / "out/coco_results.json").read_text())
        self.assertEqual({r["image_id"] for r in results}, {1, 3})

    def test_threads_give_the_same(self):
        self.photo()
        self.assertEqual(self.infer("photo.jpg", "--threads", "1"), self.infer("photo.jpg", "--threads", "2"))

    def test_thresholds_and_labels(self):
        self.photo()
        everything = self.infer("photo.jpg")["images"][0]["detections"]
        confident = self.infer("photo.jpg", "--score-threshold", "0.5")["images"][0]["detections"]
        self.assertEqual(confident, [d for d in everything if d["score"] > 0.5])
        self.assertLess(len(confident), len(everything))
        (self.folder / "names.txt").write_text("".join(f"thing {i}\n" for i in range(24)))
        renamed = self.infer("photo.jpg", "--labels", "names.txt")["images"][0]["detections"][0]
        self.assertEqual(renamed["label"], f"thing {renamed['class']}")
        smaller = self.infer("photo.jpg", "--mask-threshold", "0.9")["images"][0]["detections"]
        self.assertNotEqual([d["mask"] for d in smaller], [d["mask"] for d in everything])

    def test_num_queries_are_those_of_a_detr(self):
        for verb in (("infer", self.engine(), self.photo(), "-o", "out"),
                     ("build", DEMO / "demo_mask_rcnn.pkl", "--config", DEMO / "demo_mask_rcnn.yaml", "-o", "fewer.osprey")):
            self.assertIn("selects no queries", self.run_osprey(*verb, "--num-queries", "5", expect=USAGE).err)

    def test_detection_type(self):
        self.run_osprey("infer", self.engine(), self.photo(), "--detection-type", "bbox", "-o", "boxes")
        self.run_osprey("infer", self.engine(), self.photo(), "--detection_type", "segmentation", "-o", "masks")
        for folder, masks in (("boxes", False), ("masks", True)):
            found = json.loads((self.folder / folder / "detections.json").read_text())["images"][0]["detections"]
            self.assertTrue(found and all(("mask" in d) == masks for d in found))
        boxes = self.engine("--set", "MODEL.MASK_ON=False")
        self.run_osprey("infer", boxes, self.photo(), "--detection-type", "segmentation", "-o", "out", expect=USAGE)

    def test_dump(self):
        self.photo()
        self.infer("photo.jpg", "--dump", "res2,proposal_boxes", "--dump-to", "stages.npz")
        told = self.run_osprey("inspect", "stages.npz", "--json").json()
        self.assertEqual({t["name"] for t in told["tensors"]}, {"res2", "proposal_boxes"})
        result = self.run_osprey("infer", self.engine(), "photo.jpg", "-o", "out", "--dump", "res9", "--dump-to", "x.npz", expect=USAGE)
        self.assertIn("res9", result.err)

    def test_a_dump_is_of_runs_that_end_well(self):
        # Long sides of 16384 pixels: a square photo is too large for the memory, a narrow one is not.
        engine = self.engine("--set", "INPUT.MIN_SIZE_TEST=16384", "--set", "INPUT.MAX_SIZE_TEST=16384")
        for name, width in (("a", 512), ("b", 2), ("c", 2)):
            (self.folder / f"{name}.bmp").write_bytes(files.bmp(width, 512))
        dump = ["-o", "out", "--format", "none", "--dump", "input", "--dump-to"]
        self.run_osprey("infer", engine, "b.bmp", *dump, "b.npz")
        told = self.run_osprey("infer", engine, "a.bmp", "b.bmp", "c.bmp", "--batch", "3", "--threads", "2", *dump, "some.npz",
                               memory=4 << 30, expect=DEVICE)
        self.assertIn("; 2 of 3 images are done", told.err)
        same = (self.folder / "some.npz").read_bytes() == (self.folder / "b.npz").read_bytes()
        self.assertTrue(same, "values of photos other than b")
        self.run_osprey("infer", engine, "a.bmp", "b.bmp", "--threads", "2", *dump, "later.npz", memory=4 << 30, expect=DEVICE)
        self.assertEqual((self.folder / "later.npz").read_bytes(), (self.folder / "b.npz").read_bytes())


class Bench(CommandTest):
    def test_json(self):
        told = self.run_osprey("bench", self.engine(), "--size", "240x320", "--iterations", "3", "--layers", "--json").json()
        for key in ("latency_ms", "preprocess_ms", "network_ms", "postprocess_ms"):
            self.assertEqual(set(told[key]), {"min", "max", "mean", "median", "p90", "p95", "p99"})
            self.assertLessEqual(told[key]["min"], told[key]["median"])
        self.assertEqual(told["iterations"], 3)
        self.assertGreater(told["throughput"], 0)
        self.assertGreater(told["peak_memory_mib"], 1)
        self.assertEqual(set(told["layers"][0]), {"name", "op", "kernel", "ms", "gflop"})
        self.assertEqual(set(told["phases_ms"]), {"preprocess", "network", "postprocess"})
        self.assertEqual((told["device"], told["streams"], told["batch"]), ("cpu", 1, 1))

    def test_several_batches(self):
        common = ["bench", self.engine(), "--size", "120x160", "--iterations", "1"]
        for text, wanted in (("1,3", [1, 3]), ("2..3", [2, 3])):
            told = self.run_osprey(*common, "--batch", text, "--json").json()
            self.assertEqual([row["batch"] for row in told["batches"]], wanted)
            self.assertTrue(all(row["throughput"] > 0 and row["latency_ms"]["median"] > 0 for row in told["batches"]))
        self.assertEqual(self.run_osprey(*common, "--batch", "1,2").out.count("Throughput:"), 2)
        for wrong in ("0", "1,,2", "3..1", "1..", "a", "1,999"):
            self.assertIn(wrong, self.run_osprey(*common, "--batch", wrong, expect=USAGE).err)
        self.run_osprey(*common, "--streams", "2", expect=USAGE)

    def test_text_trace_and_end_to_end(self):
        self.photo()
        result = self.run_osprey("bench", self.engine(), "--input", "photo.jpg", "--end-to-end", "--iterations", "2",
                                 "--batch", "2", "--layers", "--trace", "trace.json")
        for text in ("Throughput:", "Latency: min =", "median =", "percentile(99%)", "roi_align"):
            self.assertIn(text, result.out)
        self.assertTrue(json.loads((self.folder / "trace.json").read_text())["traceEvents"])


class Eval(CommandTest):
    def test_engine_and_its_saved_detections_agree(self):
        arguments = ["--annotations", SCENES / "instances.json", "--json"]
        told = self.run_osprey("eval", self.engine(), "--images", SCENES, "--save-detections", "found.json", "--plots", "plots",
                               *arguments).json()
        self.assertEqual(set(told), {"bbox", "segm"})
        for kind in told.values():
            self.assertEqual(len(kind["stats"]), 12)
            self.assertGreater(kind["stats"][0], 0.6)
            self.assertEqual(len(kind["classes"]), 24)
            self.assertEqual(set(kind["classes"][0]), {"id", "name", "AP", "AP50", "AP75", "images", "instances"})
        self.assertTrue(self.only_files(self.folder / "plots"))
        for kind in ("bbox", "segm"):
            again = self.run_osprey("eval", "--detections", "found.json", "--type", kind, *arguments).json()
            self.assertEqual(set(again), {kind})
            # Not the numbers by size: of results that have boxes, COCO takes the boxes' areas, also for masks.
            for a, b in zip(again[kind]["stats"][:3], told[kind]["stats"][:3]):
                self.assertAlmostEqual(a, b, delta=2e-3)

    def test_reference_run(self):
        wanted = json.loads((DEMO / "expected.json").read_text())
        self.assertTrue(wanted)
        told = self.run_osprey("eval", self.engine(), "--images", SCENES, "--annotations", SCENES / "instances.json", "--json").json()
        self.assertAlmostEqual(told["bbox"]["stats"][0], 0.847, delta=0.005)
        self.assertAlmostEqual(told["segm"]["stats"][0], 0.768, delta=0.005)


class Compare(CommandTest):
    def test_an_engine_with_itself(self):
        result = self.run_osprey("compare", self.engine(), self.engine(), "--input", SCENES, "--num-images", "4", "-o", "side")
        self.assertIn("verdict: the same", result.out)
        self.assertEqual(len(self.only_files(self.folder / "side")), 4)

    def test_where_engines_run(self):
        arguments = ["compare", self.engine(), self.engine(), "--input", self.photo(), "--layers"]
        result = self.run_osprey(*arguments, "--devices", "cpu,cpu")
        self.assertIn("layers: none departs", result.out)
        for wrong in ("cpu", "cpu,abacus"):
            self.assertIn(wrong.split(",")[-1], self.run_osprey(*arguments, "--devices", wrong, expect=USAGE).err)

    def test_a_model_that_differs(self):
        other = self.engine("--set", "MODEL.ROI_HEADS.NMS_THRESH_TEST=0.05")
        result = osprey("compare", self.engine(), other, "--input", SCENES, "--num-images", "8", cwd=self.folder)
        self.assertEqual(result.status, INTERNAL, str(result))
        self.assertIn("verdict: DIFFERENT", result.out)
        told = osprey("compare", self.engine(), other, "--input", SCENES, "--num-images", "8", "--json", cwd=self.folder)
        self.assertEqual(told.status, INTERNAL)
        self.assertIsInstance(told.json(), dict)


class Others(CommandTest):
    def test_inspect_an_engine(self):
        told = self.run_osprey("inspect", self.engine(), "--json").json()
        self.assertEqual((told["device"], told["precision"], told["family"]), ("cpu", "fp32", "detectron2"))
        self.assertEqual(len(told["categories"]), 24)
        text = self.run_osprey("inspect", self.engine(), "--layers").out
        for part in ("roi_align", "backbone.bottom_up.res5.2.conv3", "output det_boxes", "24 classes: cat, dog"):
            self.assertIn(part, text)

    def test_inspect_a_checkpoint(self):
        self.assertIn("f32[16, 3, 7, 7]", self.run_osprey("inspect", DEMO / "demo_mask_rcnn.pkl").out)
        told = self.run_osprey("inspect", DEMO / "demo_mask_rcnn.pkl", "--json").json()
        self.assertEqual((told["format"], len(told["tensors"])), ("pickle", 307))

    def test_ops(self):
        rows = self.run_osprey("ops", "--json").json()
        self.assertGreaterEqual(len(rows), 20)
        self.assertTrue(all(row["cpu"] for row in rows), "an op without a CPU kernel")
        if self.has_cuda():
            # For a GPU these layers stay in fp16 (src/engine/int8_speed.h).
            self.assertEqual([row["op"] for row in rows if not row["cuda"]], ["quantized_conv_transpose"])
        self.assertIn("roi_align", self.run_osprey("ops").out)
        self.assertTrue(self.run_osprey("ops", "--passes", "--json").json())

    def test_zoo(self):
        configs = [row["config"] for row in self.run_osprey("zoo", "--json").json()]
        self.assertGreater(len(configs), 20)
        self.assertTrue(any("mask_rcnn_R_50_FPN_3x" in c for c in configs))

    def test_doctor(self):
        found = {row["what"]: row["state"] for row in self.run_osprey("doctor", "--json").json()}
        self.assertTrue({"osprey", "cpu", "instructions", "onednn", "fonts", "cuda"} <= set(found))
        if self.has_cuda():
            self.assertTrue({"cudnn", "cublaslt", "driver"} <= set(found))
            self.assertRegex(found["cuda"], r"^\d+\.\d+")
        self.assertIn("onednn", self.run_osprey("doctor").out)

    def test_demo(self):
        result = self.run_osprey("demo", "-o", "demo")
        score = float(result.out.split("mask mAP ")[1].split()[0].rstrip(","))
        self.assertGreater(score, 0.6)
        files = self.only_files(self.folder / "demo")
        self.assertIn("demo.osprey", files)
        self.assertEqual(sum(f.startswith("pictures/") for f in files), len(list(SCENES.glob("*.jpg"))))


class Spellings(CommandTest):
    """The commands of the samples that Osprey replaces, with their flags."""

    def test_underscores(self):
        self.photo()
        self.run_osprey("infer", self.engine(), "photo.jpg", "--score_threshold", "0.5", "--mask_threshold=0.5", "-o", "out")

    def test_infer(self):
        self.photo()
        self.run_osprey("infer", "--engine", self.engine(), "--input", "photo.jpg", "--output", "out", "--nms_threshold", "0.5",
                        "--iou_threshold", "0.5", "--det2_config", "unused.yaml")
        found = json.loads((self.folder / "out/detections.json").read_text())["images"][0]["detections"]
        self.assertTrue(found and all(d["score"] > 0.5 for d in found))

    def test_build_engine(self):
        shutil.copyfile(DEMO / "demo_mask_rcnn.pkl", self.folder / "m.pkl")
        self.run_osprey("build_engine", "--onnx", "m.pkl", "--config", DEMO / "demo_mask_rcnn.yaml", "--engine", "m.osprey",
                        "--precision", "fp32", "--batch_size", "1", "--workspace", "1")
        self.assertTrue((self.folder / "m.osprey").exists())

    def test_create_onnx(self):
        if "import" not in self.run_osprey("--help").out.split():
            self.skipTest("this command has no verb import")
        self.run_osprey("create_onnx", "--exported_onnx", "unused.onnx", "--onnx", "m.onnx", "--det2_config",
                        DEMO / "demo_mask_rcnn.yaml", "--det2_weights", DEMO / "demo_mask_rcnn.pkl", "--sample_image", "unused.jpg")
        self.run_osprey("build_engine", "--onnx", "m.onnx", "--engine", "m.osprey", "--precision", "fp32")
        self.run_osprey("infer", "m.osprey", self.photo(), "-o", "out")

    def test_input_shapes_of_efficientdet(self):
        for shape in ("1,320,448,3", "1,3,320,448"):
            self.run_osprey("create_onnx", "--saved_model", DEMO / "demo_mask_rcnn.pkl", "--pipeline_config", DEMO / "demo_mask_rcnn.yaml",
                            "--onnx", "m.onnx", "--input_shape", shape, "--input_format", "NHWC", "--nms_threshold", "0.3",
                            "--legacy_plugins")
            layers = self.run_osprey("inspect", "m.onnx", "--layers").out
            self.assertIn("canvas_height=320", layers)
            self.assertIn("canvas_width=448", layers)
        self.run_osprey("create_onnx", "--saved_model", DEMO / "demo_mask_rcnn.pkl", "--input_shape", "7,7", "--onnx", "m.onnx",
                        expect=USAGE)

    def test_eval_coco(self):
        told = self.run_osprey("eval_coco", "--engine", self.engine(), "--input", SCENES, "--annotations", SCENES / "instances.json",
                               "--detection_type", "segmentation", "--det2_config", "unused.yaml", "--json").json()
        self.assertEqual(set(told), {"segm"})

    def test_trtexec(self):
        result = self.run_osprey("bench", f"--loadEngine={self.engine()}", "--useCudaGraph", "--noDataTransfers", "--iterations=2",
                                 "--avgRuns=2", "--size", "240x320")
        self.assertIn("Latency: min =", result.out)
