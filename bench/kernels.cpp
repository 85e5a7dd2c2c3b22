// The detection kernels of the CPU on inputs like those of Mask R-CNN R50-FPN and RetinaNet at 800 x 1216,
// each by itself.
//
//   bench_kernels [threads [runs [block]]]      block: of feature maps, as CpuLayout has it
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include <fmt/core.h>

#include "backends/network_size.h"
#include "cpu/kernel_harness.h"
#include "ops/decode_keypoints.h"
#include "ops/nms.h"
#include "ops/normalize_image.h"
#include "ops/paste_masks.h"
#include "ops/roi_align.h"
#include "ops/select_anchors.h"
#include "ops/select_boxes.h"
#include "ops/select_class.h"

namespace osprey {
namespace {

constexpr std::int64_t kHeight = 800, kWidth = 1216;

struct Settings {
  int threads = 2, runs = 10, block = 0;
};

class Bench {
 public:
  explicit Bench(const Settings& s) : s_(s) {
    fmt::print("{:<44}{:>10}{:>14}\n", "kernel", "ms", "processor ms");
  }

  void run() {
    pictures();
    proposals();
    retinanet();
    rois("roi_align, 1000 boxes, 256 x 7 x 7", 1000, 7);
    rois("roi_align, 100 boxes, 256 x 14 x 14", 100, 14);
    nms("nms, 4800 boxes, 1000 kept", 4800, 5, 1000);
    nms("nms, 500 boxes of 80 classes", 500, 80, 100);
    second_stage();
    masks();
    keypoints();
  }

 private:
  void report(const std::string& name, KernelCase test) {
    test.threads = s_.threads;
    const KernelTime t = time_kernel(test, s_.runs);
    fmt::print("{:<44}{:>10.2f}{:>14.2f}\n", name, t.wall * 1e3, t.processor * 1e3);
  }

  static Tensor geometry() { return tensor_of<float>({kHeight, kWidth, 0.6f, 0.6f, 480, 730}, {1, 6}); }

  // Sides from 16 to 600 pixels, as many of each octave.
  static Tensor boxes(std::int64_t count) {
    const std::vector<float> r = random_floats(count * 4, 0, 1, 1);
    Tensor out = Tensor::zeros(DType::kF32, {count, 5});
    for (std::int64_t i = 0; i < count; ++i) {
      const float* v = &r[static_cast<std::size_t>(i) * 4];
      const float w = 16 * std::exp2(5.2f * v[2]), h = std::min(w * (0.5f + 1.5f * v[3]), 600.0f);
      float* box = out.mutable_values<float>().data() + 5 * i;
      box[1] = v[0] * (kWidth - w), box[2] = v[1] * (kHeight - h);
      box[3] = box[1] + w, box[4] = box[2] + h;
    }
    return out;
  }

  void pictures() {
    Image photo(640, 427);
    for (std::size_t i = 0; i < photo.pixels.size(); ++i) photo.pixels[i] = static_cast<std::uint8_t>(i * 7);
    const ResizeImage op{.bgr = true};
    const ImageSize size = network_size(op, photo.width, photo.height).size;
    report("resize_image, 640 x 427 to 1199 x 800",
           {.op = op,
            .inputs = {{Tensor::zeros(DType::kU8, {1, 1, 1, 3})}, {Tensor::zeros(DType::kI32, {1, 2})}},
            .photos = {photo},
            .bindings = {{"rh", size.height}, {"rw", size.width}}});
    report("normalize_image, 1216 x 800",
           {.op = NormalizeImage{.mean = {103, 116, 123}, .multiple = 32},
            .inputs = {{Tensor::zeros(DType::kU8, {1, kHeight, kWidth, 3})}, {geometry()}},
            .bindings = {{"h", kHeight / 32}, {"w", kWidth / 32}}});
  }

  void dense(const std::string& name, SelectAnchors op, int first_stride, int levels, float low, float high) {
    KernelCase test{.op = op, .inputs = {}};
    for (int l = 0, stride = first_stride; l < levels; ++l, stride *= 2) {
      op.strides.push_back(stride);
      const std::int64_t h = (kHeight + stride - 1) / stride, w = (kWidth + stride - 1) / stride;
      for (int a = 0; a < op.anchors; ++a) {
        const auto side = static_cast<float>(stride * 4);
        op.cells.insert(op.cells.end(), {-side, -side, side, side});
      }
      const auto seed = static_cast<std::uint32_t>(l);
      test.inputs.push_back({random_tensor({1, op.anchors * op.classes, h, w}, low, high, seed), {s_.block}});
      test.inputs.push_back({random_tensor({1, op.anchors * 4, h, w}, -0.5f, 0.5f, seed + 9), {s_.block}});
    }
    test.op = op;
    test.inputs.push_back({geometry()});
    report(name, test);
  }

  void proposals() { dense("select_anchors, RPN", {.anchors = 3, .stage = 1}, 4, 5, -8, 4); }
  void retinanet() {
    dense("select_anchors, RetinaNet",
          {.anchors = 9,
           .classes = 80,
           .activation = Activation::kSigmoid,
           .has_threshold = true,
           .threshold = 0.05f,
           .clip = false,
           .drop_empty = false,
           .group = AnchorGroup::kClass},
          8, 5, -12, -2.9f);
  }

  void rois(const std::string& name, std::int64_t count, int out) {
    const RoiAlign op{.out = out, .scales = {0.25f, 0.125f, 0.0625f, 0.03125f}};
    KernelCase test{.op = op, .inputs = {}, .output_layout = {out == 7 ? 1 : s_.block}};
    for (int l = 2; l < 6; ++l)
      test.inputs.push_back(
          {random_tensor({1, 256, kHeight >> l, kWidth >> l}, -1, 1, static_cast<std::uint32_t>(l)),
           {s_.block}});
    test.inputs.push_back({boxes(count), {}, count});
    report(name, test);
  }

  void nms(const std::string& name, std::int64_t count, int groups, int most) {
    std::vector<std::int32_t> group(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < group.size(); ++i) group[i] = static_cast<std::int32_t>(i) % groups;
    report(name, {.op = Nms{.iou = 0.7f, .max_detections = most},
                  .inputs = {{boxes(count), {}, count},
                             {random_tensor({count}, 0, 1, 3), {}, count},
                             {tensor_of(group, {count}), {}, count},
                             {geometry()}}});
  }

  void second_stage() {
    Tensor scores = random_tensor({1000, 81}, 0, 0.0505f, 4);
    report("select_boxes, 1000 x 81", {.op = SelectBoxes{},
                                       .inputs = {{boxes(1000), {}, 1000},
                                                  {scores, {}, 1000},
                                                  {random_tensor({1000, 320}, -2, 2, 5), {}, 1000},
                                                  {geometry()}}});
  }

  void masks() {
    const std::int64_t count = 100;
    std::vector<std::int32_t> rows(count), classes(count);
    for (std::int32_t i = 0; i < count; ++i)
      rows[static_cast<std::size_t>(i)] = i, classes[static_cast<std::size_t>(i)] = i % 80;
    report("select_class, 100 x 80 x 28 x 28",
           {.op = SelectClass{},
            .inputs = {{random_tensor({count, 80, 28, 28}, -4, 4, 6), {s_.block}, count},
                       {tensor_of(classes, {count}), {}, count}}});
    report("paste_masks, 100 into 1216 x 800",
           {.op = PasteMasks{},
            .inputs = {{random_tensor({count, 28, 28}, 0, 1, 7), {}, count},
                       {boxes(count), {}, count},
                       {tensor_of(rows, {count}), {}, count},
                       {tensor_of<float>({kHeight, kWidth, 1, 1, kHeight, kWidth}, {1, 6})}}});
  }

  void keypoints() {
    report("decode_keypoints, 20 x 17",
           {.op = DecodeKeypoints{},
            .inputs = {{random_tensor({20, 17, 56, 56}, -4, 4, 8), {}, 20}, {boxes(20), {}, 20}}});
  }

  Settings s_;
};

}  // namespace
}  // namespace osprey

int main(int argc, char** argv) {
  osprey::Settings s;
  if (argc > 1) s.threads = std::atoi(argv[1]);
  if (argc > 2) s.runs = std::atoi(argv[2]);
  if (argc > 3) s.block = std::atoi(argv[3]);
  osprey::Bench(s).run();
}
