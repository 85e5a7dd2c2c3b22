"""What goes wrong says where, and ends with the exit status of the contract."""
import array
import os
import pickle
import shutil

import files
from harness import BAD_INPUT, DEMO, DEVICE, INTERNAL, SCENES, USAGE, CommandTest

PKL, YAML = DEMO / "demo_mask_rcnn.pkl", DEMO / "demo_mask_rcnn.yaml"


class Usage(CommandTest):
    def test_what_makes_no_sense(self):
        engine = self.engine()
        for arguments in (
            [],
            ["dream"],
            ["infer"],
            ["infer", engine],
            ["infer", engine, self.photo()],
            ["infer", engine, self.photo(), "-o", "out", "--no-such-flag"],
            ["infer", engine, self.photo(), "-o", "out", "--score-threshold", "half"],
            ["infer", engine, self.photo(), "-o", "out", "--format", "hologram"],
            ["infer", engine, self.photo(), "-o", "out", "--dump", "res2"],
            ["infer", engine, self.photo("a/x.jpg"), self.photo("b/x.jpg"), "-o", "out"],
            ["build", PKL, "--config", YAML],
            ["build", PKL, "--config", YAML, "-o", "m.osprey", "--set", "NUM_CLASSES"],
            ["build", PKL, "--config", YAML, "-o", "m.osprey", "--size", "big"],
            ["build", PKL, "--config", YAML, "-o", "m.osprey", "--precision", "fp7"],
            ["build", PKL, "--config", YAML, "-o", "m.osprey", "--score-threshold", "1.5"],
            ["bench", engine, "--iterations", "0"],
            ["bench", engine, "--end-to-end"],
            ["bench", engine, "--threads", "-1"],
            ["eval", "--annotations", SCENES / "instances.json"],
            ["eval", engine, "--annotations", SCENES / "instances.json"],
            ["eval", engine, "--images", SCENES, "--annotations", SCENES / "instances.json", "--type", "keypoints"],
            ["eval", engine, "--images", SCENES, "--annotations", SCENES / "instances.json", "--type", "smell"],
        ):
            with self.subTest(arguments=[str(a) for a in arguments]):
                result = self.run_osprey(*arguments, expect=USAGE)
                self.assertEqual(len(result.err.strip().splitlines()), 1, result.err)
        self.assertFalse((self.folder / "m.osprey").exists())


class BadInput(CommandTest):
    def refused(self, *arguments, names=()):
        result = self.run_osprey(*arguments, expect=BAD_INPUT)
        for name in names:
            self.assertIn(str(name), result.err)
        return result

    def test_files_that_are_not_there(self):
        engine = self.engine()
        for arguments in (
            ["inspect", "gone.pkl"],
            ["build", "gone.pkl", "--config", YAML, "-o", "m.osprey"],
            ["build", PKL, "--config", "gone.yaml", "-o", "m.osprey"],
            ["build", PKL, "--config", YAML, "--labels", "gone.txt", "-o", "m.osprey"],
            ["infer", "gone.osprey", self.photo(), "-o", "out"],
            ["infer", engine, "gone.jpg", "-o", "out"],
            ["infer", engine, "gone/*.jpg", "-o", "out"],
            ["bench", "gone.osprey"],
            ["eval", "--detections", "gone.json", "--annotations", SCENES / "instances.json"],
            ["eval", engine, "--images", SCENES, "--annotations", "gone.json"],
            ["eval", engine, "--images", self.folder, "--annotations", SCENES / "instances.json"],
        ):
            with self.subTest(arguments=[str(a) for a in arguments]):
                self.refused(*arguments, names=["gone"] if any("gone" in str(a) for a in arguments) else ["scene_23"])
        self.assertFalse((self.folder / "m.osprey").exists())

    def test_files_of_another_kind(self):
        engine = self.engine()
        (self.folder / "text.pkl").write_text("not a pickle\n")
        (self.folder / "empty.pkl").touch()
        (self.folder / "empty").mkdir()
        (self.folder / "image.jpg").write_text("not a picture\n")
        photo = self.photo()
        self.refused("inspect", "text.pkl", names=["text.pkl"])
        self.refused("inspect", "empty.pkl", names=["empty.pkl"])
        self.refused("inspect", photo, names=["photo.jpg"])
        self.refused("inspect", self.folder, names=[self.folder])
        self.refused("build", photo, "--config", YAML, "-o", "m.osprey", names=["photo.jpg"])
        self.refused("build", engine, "--config", YAML, "-o", "m.osprey", names=["engine already"])
        self.refused("build", PKL, "--config", photo, "-o", "m.osprey", names=["photo.jpg"])
        self.refused("build", PKL, "-o", "m.osprey", names=["demo_mask_rcnn.pkl", "needs its config"])
        self.refused("infer", PKL, photo, "-o", "out", names=["demo_mask_rcnn.pkl"])
        self.refused("infer", photo, photo, "-o", "out", names=["photo.jpg"])
        self.refused("infer", engine, "image.jpg", "-o", "out", names=["image.jpg"])
        self.refused("infer", engine, "empty", "-o", "out", names=["no image"])
        fp16 = ["build", PKL, "--config", YAML, "--device", "cuda", "--precision", "fp16", "-o", "m.osprey", "--calib-input"]
        self.refused(*fp16, "empty", names=["no image"])
        self.refused(*fp16, "image.jpg", names=["image.jpg"])
        self.assertFalse((self.folder / "m.osprey").exists())
        self.refused("eval", "--detections", photo, "--annotations", SCENES / "instances.json", names=["photo.jpg"])
        self.refused("eval", "--detections", photo, "--annotations", photo, names=["photo.jpg"])

    def test_a_damaged_engine(self):
        data = bytearray(self.engine().read_bytes())
        data[len(data) // 2] ^= 1
        (self.folder / "damaged.osprey").write_bytes(data)
        self.refused("infer", "damaged.osprey", self.photo(), "-o", "out", names=["damaged.osprey"])
        self.assertFalse((self.folder / "out").exists())

    def test_configs(self):
        def with_text(old, new):
            text = YAML.read_text()
            self.assertIn(old, text)
            (self.folder / "c.yaml").write_text(text.replace(old, new, 1))
            return self.refused("build", PKL, "--config", "c.yaml", "-o", "m.osprey", names=["c.yaml"]).err

        self.assertRegex(with_text("NUM_GROUPS", "NUM_GROPS"), r"NUM_GROPS[\s\S]*NUM_GROUPS")
        self.assertIn("GeneralizedRCNNN", with_text("META_ARCHITECTURE: GeneralizedRCNN", "META_ARCHITECTURE: GeneralizedRCNNN"))
        self.assertIn("DEPTH", with_text("DEPTH: 50", "DEPTH: 51"))
        self.assertIn("DEPTH", with_text("DEPTH: 50", "DEPTH: many"))
        self.assertRegex(self.refused("build", PKL, "--config", YAML, "--set", "MODEL.ROI_HEADS.NUM_CLASES=3", "-o", "m.osprey").err,
                         r"NUM_CLASES[\s\S]*NUM_CLASSES")
        self.assertRegex(self.refused("build", PKL, "--config", "mask_rcnn_R_50_FPN_3xx.yaml", "-o", "m.osprey").err,
                         r"mask_rcnn_R_50_FPN_3x\b")

    def test_class_counts(self):
        wrong = self.refused("build", PKL, "--config", YAML, "--set", "MODEL.ROI_HEADS.NUM_CLASSES=3", "-o", "m.osprey").err
        for name in ("roi_heads.box_predictor.cls_score.weight", "roi_heads.box_predictor.bbox_pred.weight", "25", "4"):
            self.assertIn(name, wrong)
        (self.folder / "names.txt").write_text("cat\ndog\n")
        self.refused("build", PKL, "--config", YAML, "--labels", "names.txt", "-o", "m.osprey",
                     names=["names.txt: has 2 class names", "24"])
        self.refused("infer", self.engine(), self.photo(), "--labels", "names.txt", "-o", "out", names=["names.txt", "2", "24"])

    def test_missing_misshapen_and_leftover_weights_in_one_message(self):
        weights = files.read_detectron2(PKL)
        del weights["backbone.fpn_lateral3.weight"]
        del weights["roi_heads.box_head.fc2.bias"]
        weights["backbone.fpn_output2.bias"] = files.Array((47,))
        weights["proposal_generator.rpn_head.conv.weight"] = files.Array((48, 48, 1, 1))
        weights["backbone.fpn_lateral9.weight"] = files.Array((2, 3))
        for name, data in (("m.pkl", files.detectron2_pickle(weights)), ("m.pth", files.torch_zip({"model": weights})),
                           ("m.safetensors", files.safetensors(weights))):
            with self.subTest(name):
                (self.folder / name).write_bytes(data)
                message = self.refused("build", name, "--config", YAML, "-o", "m.osprey").err
                for wanted in ("backbone.fpn_lateral3.weight", "roi_heads.box_head.fc2.bias", "backbone.fpn_output2.bias", "[47]",
                               "[48]", "proposal_generator.rpn_head.conv.weight", "[48, 48, 1, 1]", "[48, 48, 3, 3]",
                               "backbone.fpn_lateral9.weight"):
                    self.assertIn(wanted, message)
                self.assertEqual(message.count("osprey: "), 1)
        self.assertEqual(self.only_files(self.folder), ["m.pkl", "m.pth", "m.safetensors"])

    def test_leftover_weights_alone_are_a_warning(self):
        weights = files.read_detectron2(PKL)
        weights["backbone.extra.weight"] = files.Array((2,))
        (self.folder / "m.pkl").write_bytes(files.detectron2_pickle(weights))
        result = self.run_osprey("build", "m.pkl", "--config", YAML, "-o", "m.osprey")
        self.assertIn("backbone.extra.weight", result.err)

    def test_every_container_gives_the_same_detections(self):
        weights = files.read_detectron2(PKL)
        self.run_osprey("infer", self.engine(), self.photo(), "-o", "wanted", "--format", "tsv")
        for name, data in (("m.pkl", files.detectron2_pickle(weights)), ("m.pth", files.torch_zip({"model": weights, "iteration": 9})),
                           ("bare.pth", files.torch_zip(weights)), ("m.safetensors", files.safetensors(weights))):
            with self.subTest(name):
                (self.folder / name).write_bytes(data)
                self.run_osprey("build", name, "--config", YAML, "-o", name + ".osprey")
                self.run_osprey("infer", name + ".osprey", "photo.jpg", "-o", "out", "--format", "tsv")
                self.assertEqual((self.folder / "out/photo.tsv").read_text(), (self.folder / "wanted/photo.tsv").read_text())


class Command:
    """Unpickling runs it."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class NeverExecutes(CommandTest):
    def test_a_pickle_that_would_run_a_command(self):
        marker = self.folder / "ran"
        for function, arguments, name in ((os.system, (f"touch {marker}",), "posix.system"),
                                          (eval, (f"open({str(marker)!r}, 'w')",), "eval"),
                                          (exec, (f"open({str(marker)!r}, 'w')",), "exec"),
                                          (os.mkdir, (str(marker),), "mkdir"),
                                          (getattr, (os, "system"), "getattr")):
            for protocol in range(6):
                if function is getattr and protocol == 0:
                    continue
                with self.subTest(name=name, protocol=protocol):
                    try:
                        data = pickle.dumps({"model": Command(function, *arguments), "__author__": "x"}, protocol)
                    except TypeError:  # a module is no value that pickle can hold
                        data = pickle.dumps({"model": Command(getattr, "text", "upper")}, protocol)
                    (self.folder / "evil.pkl").write_bytes(data)
                    for arguments_of in (["inspect", "evil.pkl"], ["build", "evil.pkl", "--config", YAML, "-o", "m.osprey"]):
                        result = self.run_osprey(*arguments_of, expect=BAD_INPUT)
                        self.assertIn("evil.pkl", result.err)
                        self.assertIn(name, result.err)
                    self.assertFalse(marker.exists(), "the pickle's command ran")

    def test_the_same_inside_a_torch_file(self):
        marker = self.folder / "ran"
        data = files.torch_zip({"model": {"w": files.Array((2,))}, "hook": Command(os.system, f"touch {marker}")})
        (self.folder / "evil.pth").write_bytes(data)
        result = self.run_osprey("inspect", "evil.pth", expect=BAD_INPUT)
        self.assertIn("posix.system", result.err)
        self.assertFalse(marker.exists())


class Device(CommandTest):
    def build(self, *options, name="m.osprey", expect=0):
        return self.run_osprey("build", PKL, "--config", YAML, *options, "-o", name, expect=expect)

    def one_line(self, result, *names):
        self.assertEqual(len(result.err.strip().splitlines()), 1, result.err)
        for name in names:
            self.assertIn(name, result.err)

    def test_devices_and_precisions_that_there_are_not(self):
        for options in (["--device", "abacus"], ["--device", "cuda:"], ["--device", "cuda:-1"], ["--device", "cuda:x"],
                        ["--precision", "fp16"], ["--precision", "tf32"], ["--device", "cuda", "--precision", "fp7"],
                        ["--device", "cuda", "--batch", "0"], ["--device", "cuda", "--batch", "4,2,1"],
                        ["--device", "cuda", "--tuning-budget", "-1"]):
            with self.subTest(options):
                self.one_line(self.build(*options, expect=USAGE), options[-1])
        self.assertEqual(self.only_files(self.folder), [])

    def test_builds_for_cuda_need_no_gpu_and_repeat(self):
        for precision in ("fp32", "tf32", "bf16", "fp16"):
            with self.subTest(precision):
                self.build("--device", "cuda", "--precision", precision, "--tuning-budget", "0", name="a.osprey")
                self.build("--device", "cuda:1", "--precision", precision, "--tuning-budget", "0", name="b.osprey")
                self.assertEqual((self.folder / "a.osprey").read_bytes(), (self.folder / "b.osprey").read_bytes())
                told = self.run_osprey("inspect", "a.osprey", "--json").json()
                self.assertEqual((told["device"], told["precision"]), ("cuda", precision))

    def test_a_cuda_engine_without_a_gpu(self):
        if self.has_gpu():
            self.skipTest("this machine has a GPU")
        photo = self.photo()
        self.assertIn("not tuned", self.build("--device", "cuda").err)
        for arguments in (["infer", "m.osprey", photo, "-o", "out"], ["bench", "m.osprey"],
                          ["infer", self.engine(), photo, "-o", "out", "--device", "cuda:0"],
                          ["eval", "m.osprey", "--images", SCENES, "--annotations", SCENES / "instances.json"],
                          ["compare", self.engine(), "m.osprey", "--input", photo]):
            with self.subTest(arguments[0]):
                self.one_line(self.run_osprey(*arguments, expect=DEVICE), "osprey", "NVIDIA", "--device cpu")
        self.assertFalse((self.folder / "out").exists())

    def test_a_cuda_engine_on_the_cpu(self):
        photo = self.photo()
        self.run_osprey("infer", self.engine(), photo, "-o", "wanted", "--format", "tsv")
        for precision in ("fp32", "tf32"):
            self.build("--device", "cuda", "--precision", precision, "--tuning-budget", "0")
            self.run_osprey("infer", "m.osprey", photo, "-o", "out", "--format", "tsv", "--device", "cpu")
            self.assertEqual((self.folder / "out/photo.tsv").read_text(), (self.folder / "wanted/photo.tsv").read_text())
        self.build("--device", "cuda", "--precision", "fp16", "--tuning-budget", "0")
        self.one_line(self.run_osprey("infer", "m.osprey", photo, "-o", "half", "--device", "cpu", expect=USAGE), "m.osprey", "fp16")


class Fp16(CommandTest):
    def test_a_layer_that_overflows_is_named_and_stays_fp32(self):
        weights = files.read_detectron2(PKL)
        layer = "backbone.fpn_output3"
        large = array.array("f", weights[layer + ".weight"].data)
        weights[layer + ".weight"].data = array.array("f", [1e6 * w for w in large]).tobytes()
        (self.folder / "m.pkl").write_bytes(files.detectron2_pickle(weights))
        arguments = ["--config", YAML, "--device", "cuda", "--precision", "fp16", "--tuning-budget", "0", "-o", "m.osprey"]
        told = self.run_osprey("build", "m.pkl", *arguments).err
        self.assertRegex(told, rf"fp16: {layer} \(p3\) stays fp32: its values reach \d")
        self.assertRegex(told, r"fp16: roi_heads\.mask_pooler\S* (\(\S+\) )?stays fp32: it reads p3")
        self.assertNotIn("fpn_output4", told)
        layers = self.run_osprey("inspect", "m.osprey", "--layers").out
        self.assertRegex(layers, r"\bp3 = conv.*: f32\[")
        self.assertRegex(layers, r"\bp4 = conv.*: f16\[")
        self.assertNotIn("fp16:", self.run_osprey("build", PKL, *arguments).err)


class Output(CommandTest):
    def test_where_nothing_can_be_written(self):
        (self.folder / "file").touch()
        photo = self.photo()
        for arguments in (["build", PKL, "--config", YAML, "-o", "gone/m.osprey"],
                          ["build", PKL, "--config", YAML, "-o", "file/m.osprey"],
                          ["infer", self.engine(), photo, "-o", "file"],
                          ["infer", self.engine(), photo, "-o", "file/out"],
                          ["demo", "-o", "file/out"]):
            with self.subTest(arguments=[str(a) for a in arguments]):
                self.run_osprey(*arguments, expect=INTERNAL)
        self.assertEqual(self.only_files(self.folder), ["file", "photo.jpg"])

    def test_a_failed_build_leaves_an_earlier_engine_alone(self):
        target = self.folder / "m.osprey"
        shutil.copyfile(self.engine(), target)
        before = target.read_bytes()
        (self.folder / "cut.pkl").write_bytes(PKL.read_bytes()[:100000])
        self.run_osprey("build", "cut.pkl", "--config", YAML, "-o", target, expect=BAD_INPUT)
        self.assertEqual(target.read_bytes(), before)
        self.assertEqual(self.only_files(self.folder), ["cut.pkl", "m.osprey"])
