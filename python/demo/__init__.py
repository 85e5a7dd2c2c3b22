"""The demo model of Osprey: a generated data set, a small Mask R-CNN trained on it, and its reference detections."""
