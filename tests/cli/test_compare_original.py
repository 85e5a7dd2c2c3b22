"""osprey compare against detections made elsewhere: a file of them, or another framework that is run for it."""
import json
import stat
import sys

from harness import BAD_INPUT, INTERNAL, SCENES, USAGE, CommandTest, osprey

# Stands in for a Python that has the framework: answers with detections recorded beforehand.
STAND_IN = """#!{python}
import json, os, sys
values = dict(zip(sys.argv[2::2], sys.argv[3::2]))
if values["--model"].endswith("broken"):
    sys.exit("it fell over")
photos = json.load(open(values["--photos"]))
recorded = json.load(open({recorded!r}))
by_name = {{image["file"]: image for image in recorded["images"]}}
recorded["images"] = [dict(by_name[os.path.basename(p)], file=p) for p in photos]
print("progress 0", len(photos), flush=True)
json.dump(recorded, open(values["--output"], "w"))
"""


class Original(CommandTest):
    def setUp(self):
        super().setUp()
        self.run_osprey("infer", self.engine(), SCENES, "--format", "json", "-o", "out")
        self.recorded = self.folder / "out" / "detections.json"

    def compare(self, other, *options):
        return osprey("compare", self.engine(), other, "--input", SCENES, "--num-images", "4", *options, cwd=self.folder)

    def change(self, edit):
        found = json.loads(self.recorded.read_text())
        edit(found)
        self.recorded.write_text(json.dumps(found))

    def stand_in(self):
        program = self.folder / "python"
        program.write_text(STAND_IN.format(python=sys.executable, recorded=str(self.recorded)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program

    def saved_model(self, name="saved_model"):
        folder = self.folder / name
        folder.mkdir()
        (folder / "saved_model.pb").touch()
        return folder

    def test_what_infer_wrote(self):
        told = self.compare(self.recorded, "--json", "-o", "side").json()
        self.assertTrue(told["same"])
        self.assertEqual((told["missing"], told["extra"], told["images"]), (0, 0, 4))
        self.assertGreater(told["matched"], 10)
        self.assertEqual(told["worst_mask_iou"], 1)
        self.assertEqual(len(self.only_files(self.folder / "side")), 4)

    def test_a_detection_more_and_one_elsewhere(self):
        def edit(found):
            first = found["images"][0]["detections"]
            first.append(dict(first[0], box=[1, 2, 30, 40], mask=first[0]["mask"]))
            first[1]["box"][0] += 9

        self.change(edit)
        result = self.compare(self.recorded, "--json")
        self.assertEqual(result.status, INTERNAL, str(result))
        told = result.json()
        self.assertEqual((told["missing"], told["extra"]), (2, 1))  # the file is the reference

    def test_masks_as_lists_of_numbers(self):
        def edit(found):
            for image in found["images"]:
                for d in image["detections"]:
                    d["mask"]["counts"] = [image["width"] * image["height"]]

        self.change(edit)
        told = self.compare(self.recorded, "--json").json()
        self.assertEqual(told["worst_mask_iou"], 0)

    def test_damaged_files(self):
        edits = {
            "class": lambda d: d.update({"class": 24}),
            "score": lambda d: d.update(score=1e300),
            "box": lambda d: d.update(box=[1, 2, 3]),
            "mask": lambda d: d["mask"].update(size=[3, 3]),
            "counts": lambda d: d["mask"].update(counts=[1, 2]),
        }
        text = self.recorded.read_text()
        for what, edit in edits.items():
            self.recorded.write_text(text)
            self.change(lambda found: edit(found["images"][0]["detections"][0]))
            result = self.compare(self.recorded)
            self.assertEqual(result.status, BAD_INPUT, f"{what}: {result}")
            self.assertIn("detections.json", result.err)
        self.recorded.write_text(text[:-400])
        self.assertEqual(self.compare(self.recorded).status, BAD_INPUT)

    def test_a_framework_is_run(self):
        result = self.compare(self.saved_model(), "--python", self.stand_in())
        self.assertIn("verdict: the same", result.out)
        self.assertIn("of saved_model", result.out)
        alias = osprey("compare_tf", "--engine", self.engine(), "--saved_model", self.folder / "saved_model", "--input", SCENES,
                       "--num_images", "2", "--preprocessor", "fixed_shape_resizer", "--output", "side", "--python",
                       self.stand_in(), cwd=self.folder)
        self.assertIn("2 images", alias.out, str(alias))
        self.assertEqual(len(self.only_files(self.folder / "side")), 2)

    def test_a_framework_that_fails_or_is_absent(self):
        result = self.compare(self.saved_model("broken"), "--python", self.stand_in())
        self.assertEqual(result.status, BAD_INPUT, str(result))
        self.assertIn("it fell over", result.err)
        absent = self.compare(self.saved_model(), "--python", self.folder / "no-such-python")
        self.assertEqual(absent.status, USAGE, str(absent))
        self.assertIn("--python", absent.err)
        unknown = self.compare(self.folder / "out")
        self.assertEqual(unknown.status, USAGE, str(unknown))
        self.assertIn("--framework", unknown.err)

    def test_a_python_without_the_framework(self):
        # -S and -I: a Python that finds no packages, whatever this machine has.
        program = self.folder / "bare-python"
        program.write_text(f"#!/bin/sh\nexec {sys.executable} -I -S \"$@\"\n")
        program.chmod(0o755)
        result = self.compare(self.saved_model(), "--python", program)
        self.assertEqual(result.status, USAGE, str(result))
        self.assertIn("is not installed", result.err)

    def test_neither_is_an_engine(self):
        result = osprey("compare", self.recorded, self.recorded, "--input", SCENES, cwd=self.folder)
        self.assertEqual(result.status, USAGE, str(result))
        self.assertIn("osprey build", result.err)
