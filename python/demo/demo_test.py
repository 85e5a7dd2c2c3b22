"""Tests of the scenes and their masks: python3 -m unittest demo.demo_test, from python/."""

import unittest

import numpy as np

from demo import rle, scenes


class Rle(unittest.TestCase):
    def test_known_text(self):
        mask = np.zeros((4, 4), bool)
        mask[1:3, 1:3] = True  # runs down the columns: 5, 2, 2, 2, 5
        self.assertEqual(rle.encode(mask), {"size": [4, 4], "counts": "52203"})

    def test_round_trip(self):
        rng = np.random.default_rng(1)
        for share in (0.0, 0.01, 0.5, 1.0):
            mask = rng.random((37, 53)) < share
            np.testing.assert_array_equal(rle.decode(rle.encode(mask)), mask)


class Scenes(unittest.TestCase):
    def test_same_seed_same_scene(self):
        first, again, other = scenes.scene(5, 3), scenes.scene(5, 3), scenes.scene(6, 3)
        np.testing.assert_array_equal(first.pixels, again.pixels)
        np.testing.assert_array_equal(first.owner, again.owner)
        self.assertFalse(first.pixels.shape == other.pixels.shape and (first.pixels == other.pixels).all())

    def test_annotations_say_what_is_visible(self):
        for index in range(4):
            drawn = scenes.scene(7, index)
            records = scenes.annotations(drawn, 1, 1)
            self.assertEqual(len(records), drawn.owner.max())
            for number, record in enumerate(records, start=1):
                mask = rle.decode(record["segmentation"])
                np.testing.assert_array_equal(mask, drawn.owner == number)
                self.assertGreaterEqual(record["area"], scenes.LEAST_PIXELS)
                x, y, width, height = record["bbox"]
                self.assertEqual(mask[y : y + height, x : x + width].sum(), record["area"])


if __name__ == "__main__":
    unittest.main()
