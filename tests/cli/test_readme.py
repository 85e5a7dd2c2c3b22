"""Runs what README.md tells users to run: the lines of every block marked ```sh run."""
import os
import random
import re
import shutil
import subprocess
from array import array as array_of_floats

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


# A small SSD of TensorFlow's Object Detection API.
PIPELINE = """
model {
  ssd {
    num_classes: 2
    image_resizer { fixed_shape_resizer { height: 320 width: 320 } }
    feature_extractor {
      type: "ssd_mobilenet_v2_fpn_keras" depth_multiplier: 0.25 min_depth: 8 use_depthwise: true
      fpn { min_level: 3 max_level: 7 additional_layer_depth: 64 }
      conv_hyperparams { activation: RELU_6 batch_norm { scale: true epsilon: 0.001 } }
      override_base_feature_extractor_hyperparams: true
    }
    box_coder { faster_rcnn_box_coder { y_scale: 10.0 x_scale: 10.0 height_scale: 5.0 width_scale: 5.0 } }
    box_predictor {
      weight_shared_convolutional_box_predictor {
        conv_hyperparams { activation: RELU_6 batch_norm { scale: true epsilon: 0.001 } }
        depth: 16 num_layers_before_predictor: 1 kernel_size: 3 share_prediction_tower: true use_depthwise: true
      }
    }
    anchor_generator {
      multiscale_anchor_generator { min_level: 3 max_level: 7 anchor_scale: 4.0 aspect_ratios: 1.0 scales_per_octave: 2 }
    }
    post_processing {
      batch_non_max_suppression { score_threshold: 1e-8 iou_threshold: 0.6 }
      score_converter: SIGMOID
    }
  }
}
train_input_reader { tf_record_input_reader { input_path: "PATH_TO_BE_CONFIGURED"s } }
"""
LABELS = "item { id: 1 name: 'bolt' }\nitem { id: 2 name: 'nut' }\n"


def tensorflow_shape(name, shape):
    """Of a weight that the command asks for in its own layout."""
    if name.endswith("/depthwise_kernel"):
        return [shape[2], shape[3], shape[0], shape[1]]
    if len(shape) == 4:
        return [shape[2], shape[3], shape[1], shape[0]]
    return shape[::-1]


class Readme(CommandTest):
    def provide_tensorflow(self, folder):
        """A folder as the API exports it, with random weights for all that the command says are missing."""
        folder.mkdir()
        (folder / "pipeline.config").write_text(PIPELINE)
        (folder / "label_map.pbtxt").write_text(LABELS)
        prefix = folder / "checkpoint" / "ckpt-0"
        files.write_tensorflow(prefix, {"model/_box_predictor/unknown": files.Array((1,))})
        refused = self.run_osprey("import", folder, "-o", "refused.onnx", expect=harness.BAD_INPUT)
        asked = re.findall(r"^  (model/\S+): \[([\d, ]+)\]$", refused.err, re.M)
        self.assertGreater(len(asked), 100, str(refused))
        numbers, tensors = random.Random(1), {}
        for name, extents in asked:
            shape = tensorflow_shape(name, [int(e) for e in extents.split(",")])
            array = files.Array(shape)
            spread = (2 * shape[-1] / array.size) ** 0.5 if len(shape) == 4 else 0
            centre = 1 if name.endswith(("/gamma", "/moving_variance")) else 0
            values = array_of_floats("f", (numbers.gauss(centre, spread) for _ in range(array.size)))
            tensors[name] = files.Array(shape, values.tobytes())
        files.write_tensorflow(prefix, tensors)

    def provide(self):
        self.provide_tensorflow(self.folder / "my_ssd")
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
        line = PIPELINE[:PIPELINE.index('"s ')].count("\n") + 1
        warning = f"pipeline.config:{line}: a stray 's'"
        for command in commands:
            with self.subTest(command):
                done = subprocess.run(["bash", "-c", command], cwd=self.folder, capture_output=True, encoding="utf-8", timeout=300,
                                      env=dict(os.environ, PATH=path, OMP_WAIT_POLICY="passive"))
                allowed = (OK, 1) if command.startswith(MAY_DIFFER) else (OK,)
                self.assertIn(done.returncode, allowed, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-1000:]}")
                if command.startswith("osprey build my_ssd "):
                    self.assertIn(warning, done.stderr, command)
                if done.returncode:
                    self.assertIn("verdict: ", done.stdout)
