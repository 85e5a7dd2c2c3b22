// The detection kernels on inputs like those of Mask R-CNN R50-FPN and RetinaNet, each by itself.
//
//   bench_kernels [threads [runs [block]]]      on the CPU at 800 x 1216; block: of feature maps, as
//   CpuLayout
//                                               has it
//   bench_kernels cuda [height width [images]]  on the GPU (built where CUDA is) in fp16, 1344 x 1344 unless
//   said:
//                                               the time between launches in a CUDA graph of many, whose data
//                                               stay in the cache where they fit
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <fmt/core.h>

#include "backends/network_size.h"
#include "cpu/kernel_harness.h"
#include "ops/conv.h"
#include "ops/decode_keypoints.h"
#include "ops/max_pool.h"
#include "ops/nms.h"
#include "ops/normalize_image.h"
#include "ops/paste_masks.h"
#include "ops/roi_align.h"
#include "ops/select_anchors.h"
#include "ops/select_boxes.h"
#include "ops/select_class.h"
#ifdef OSPREY_HAS_CUDA
#include "cuda/cuda_harness.h"
#endif

namespace osprey {
namespace {

[[maybe_unused]] constexpr int kLaunches = 20;  // of a kernel in one CUDA graph

struct Settings {
  int threads = 2, runs = 10, block = 0;
  bool cuda = false;
  std::int64_t height = 800, width = 1216, images = 1;
};

class Bench {
 public:
  explicit Bench(const Settings& s) : s_(s) {
    if (s.cuda) {
      fmt::print("{} x {}, {} images\n{:<44}{:>10}\n", s.height, s.width, s.images, "kernel", "us");
    } else {
      fmt::print("{:<44}{:>10}{:>14}\n", "kernel", "ms", "processor ms");
    }
  }

  void run() {
    pictures();
    if (s_.cuda) stem();
    proposals();
    retinanet("select_anchors, RetinaNet", -2.9f);
    retinanet("select_anchors, RetinaNet, few above 0.05", -2.941f);
    rois("roi_align, 1000 boxes, 256 x 7 x 7", 1000, 7);
    rois("roi_align, 100 boxes, 256 x 14 x 14", 100, 14);
    nms("nms, 4800 boxes, 1000 kept", 4800, 5, 1000);
    nms("nms, 4800 boxes around 200 objects", 4800, 5, 1000, 200);
    nms("nms, 500 boxes of 80 classes", 500, 80, 100);
    second_stage();
    masks();
    keypoints();
  }

 private:
  void report(const std::string& name, KernelCase test) {
    test.threads = s_.threads;
#ifdef OSPREY_HAS_CUDA
    if (s_.cuda) {
      fmt::print("{:<44}{:>10.1f}\n", name, time_cuda(test, kLaunches, s_.runs) * 1e6);
      return;
    }
#endif
    const KernelTime t = time_kernel(test, s_.runs);
    fmt::print("{:<44}{:>10.2f}{:>14.2f}\n", name, t.wall * 1e3, t.processor * 1e3);
  }

  // Feature maps, in the type that the device's networks compute in.
  Tensor features(Shape shape, float low, float high, std::uint32_t seed) const {
    const Tensor values = random_tensor(std::move(shape), low, high, seed);
    if (!s_.cuda) return values;
    Tensor out = Tensor::zeros(DType::kF16, values.shape());
    std::ranges::transform(values.values<float>(), out.mutable_values<Half>().begin(), to_half);
    return out;
  }

  Tensor geometry(float scale = 0.6f) const {
    const auto h = static_cast<float>(s_.height), w = static_cast<float>(s_.width);
    std::vector<float> out;
    for (std::int64_t n = 0; n < s_.images; ++n)
      out.insert(out.end(), {h, w, scale, scale, std::round(h * scale), std::round(w * scale)});
    return tensor_of(out, {s_.images, 6});
  }

  std::int64_t all(std::int64_t an_image) const { return s_.images * an_image; }

  // So many an image. Sides from 16 to 600 pixels, as many of each octave; with `objects`, as many places
  // with boxes around them, moved by up to a fifth of their sides.
  Tensor boxes(std::int64_t an_image, std::int64_t objects = 0) const {
    const std::int64_t count = all(an_image);
    const std::vector<float> r = random_floats(count * 8, 0, 1, 1);
    Tensor out = Tensor::zeros(DType::kF32, {count, 5});
    for (std::int64_t i = 0; i < count; ++i) {
      const float* const own = &r[static_cast<std::size_t>(i) * 8];
      const float* const v = objects > 0 ? &r[static_cast<std::size_t>(i * 7919 % objects) * 8] : own;
      const float w = 16 * std::exp2(5.2f * v[2]), h = std::min(w * (0.5f + 1.5f * v[3]), 600.0f);
      float* box = out.mutable_values<float>().data() + 5 * i;
      box[0] = static_cast<float>(i / an_image);
      box[1] = v[0] * (static_cast<float>(s_.width) - w), box[2] = v[1] * (static_cast<float>(s_.height) - h);
      box[3] = box[1] + w, box[4] = box[2] + h;
      if (objects > 0)
        for (int k = 0; k < 4; ++k) box[1 + k] += (own[4 + k] - 0.5f) * 0.4f * (k % 2 ? h : w);
    }
    return out;
  }

  void resize(int width, int height) {
    Image photo(width, height);
    for (std::size_t i = 0; i < photo.pixels.size(); ++i) photo.pixels[i] = static_cast<std::uint8_t>(i * 7);
    const ResizeImage op{.bgr = true};
    const ImageSize size = network_size(op, width, height).size;
    const auto photos = static_cast<std::size_t>(s_.images);
    report(fmt::format("resize_image, {} x {} to {} x {}", width, height, size.width, size.height),
           {.op = op,
            .inputs = {{Tensor::zeros(DType::kU8, {s_.images, 1, 1, 3})},
                       {Tensor::zeros(DType::kI32, {s_.images, 2})}},
            .photos = std::vector<ImageView>(photos, photo),
            .bindings = {{"rh", size.height}, {"rw", size.width}}});
  }

  void pictures() {
    resize(640, 427);
    if (s_.cuda) resize(4000, 3000);
    report(fmt::format("normalize_image, {} x {}", s_.width, s_.height),
           {.op = NormalizeImage{.mean = {103, 116, 123},
                                 .multiple = 32,
                                 .to = s_.cuda ? FloatType::kF16 : FloatType::kF32},
            .inputs = {{Tensor::zeros(DType::kU8, {s_.images, s_.height, s_.width, 3})}, {geometry()}},
            .bindings = {{"h", s_.height / 32}, {"w", s_.width / 32}}});
  }

  // Only where they are kernels of our own.
  void stem() {
    const std::int64_t height = s_.height / 2, width = s_.width / 2;
    report("conv 7x7, 3 to 64 channels",
           {.op = Conv{.stride = {2, 2}, .pads = {3, 3, 3, 3}, .activation = Activation::kRelu},
            .inputs = {{features({s_.images, 3, s_.height, s_.width}, -2, 3, 11)},
                       {features({64, 3, 7, 7}, -0.1f, 0.1f, 12)},
                       {random_tensor({64}, -1, 1, 13)}}});
    report("max_pool 3x3, 64 channels", {.op = MaxPool{.pads = {1, 1, 1, 1}},
                                         .inputs = {{features({s_.images, 64, height, width}, 0, 3, 14)}}});
  }

  void dense(const std::string& name, SelectAnchors op, int first_stride, int levels, float low, float high) {
    KernelCase test{.op = op, .inputs = {}};
    for (int l = 0, stride = first_stride; l < levels; ++l, stride *= 2) {
      op.strides.push_back(stride);
      const std::int64_t h = (s_.height + stride - 1) / stride, w = (s_.width + stride - 1) / stride;
      for (int a = 0; a < op.anchors; ++a) {
        const auto side = static_cast<float>(stride * 4);
        op.cells.insert(op.cells.end(), {-side, -side, side, side});
      }
      const auto seed = static_cast<std::uint32_t>(l);
      test.inputs.push_back(
          {random_tensor({s_.images, op.anchors * op.classes, h, w}, low, high, seed), {s_.block}});
      test.inputs.push_back(
          {random_tensor({s_.images, op.anchors * 4, h, w}, -0.5f, 0.5f, seed + 9), {s_.block}});
    }
    test.op = op;
    test.inputs.push_back({geometry()});
    report(name, test);
  }

  void proposals() { dense("select_anchors, RPN", {.anchors = 3, .stage = 1}, 4, 5, -8, 4); }
  void retinanet(const std::string& name, float highest) {
    dense(name,
          {.anchors = 9,
           .classes = 80,
           .activation = Activation::kSigmoid,
           .has_threshold = true,
           .threshold = 0.05f,
           .clip = false,
           .drop_empty = false,
           .group = AnchorGroup::kClass},
          8, 5, -12, highest);
  }

  void rois(const std::string& name, std::int64_t count, int out) {
    const RoiAlign op{.out = out, .scales = {0.25f, 0.125f, 0.0625f, 0.03125f}};
    KernelCase test{.op = op, .inputs = {}, .output_layout = {out == 7 ? 1 : s_.block}};
    for (int l = 2; l < 6; ++l)
      test.inputs.push_back(
          {features({s_.images, 256, s_.height >> l, s_.width >> l}, -1, 1, static_cast<std::uint32_t>(l)),
           {s_.block}});
    test.inputs.push_back({boxes(count), {}, all(count)});
    report(name, test);
  }

  void nms(const std::string& name, std::int64_t an_image, int groups, int most, std::int64_t objects = 0) {
    const std::int64_t count = all(an_image);
    std::vector<std::int32_t> group(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < group.size(); ++i) group[i] = static_cast<std::int32_t>(i) % groups;
    report(name, {.op = Nms{.iou = 0.7f, .max_detections = most},
                  .inputs = {{boxes(an_image, objects), {}, count},
                             {random_tensor({count}, 0, 1, 3), {}, count},
                             {tensor_of(group, {count}), {}, count},
                             {geometry()}}});
  }

  void second_stage() {
    const std::int64_t count = all(1000);
    report("select_boxes, 1000 x 81", {.op = SelectBoxes{},
                                       .inputs = {{boxes(1000), {}, count},
                                                  {random_tensor({count, 81}, 0, 0.0505f, 4), {}, count},
                                                  {random_tensor({count, 320}, -2, 2, 5), {}, count},
                                                  {geometry()}}});
  }

  void masks() {
    const std::int64_t count = all(100);
    std::vector<std::int32_t> rows(static_cast<std::size_t>(count)), classes(rows.size());
    for (std::int32_t i = 0; i < count; ++i)
      rows[static_cast<std::size_t>(i)] = i, classes[static_cast<std::size_t>(i)] = i % 80;
    report("select_class, 100 x 80 x 28 x 28",
           {.op = SelectClass{},
            .inputs = {{features({count, 80, 28, 28}, -4, 4, 6), {s_.block}, count},
                       {tensor_of(classes, {count}), {}, count}}});
    report(fmt::format("paste_masks, 100 into {} x {}", s_.width, s_.height),
           {.op = PasteMasks{},
            .inputs = {{random_tensor({count, 28, 28}, 0, 1, 7), {}, count},
                       {boxes(100), {}, count},
                       {tensor_of(rows, {count}), {}, count},
                       {geometry(1)}}});
  }

  void keypoints() {
    report("decode_keypoints, 20 x 17",
           {.op = DecodeKeypoints{},
            .inputs = {{random_tensor({all(20), 17, 56, 56}, -4, 4, 8), {}, all(20)},
                       {boxes(20), {}, all(20)}}});
  }

  Settings s_;
};

}  // namespace
}  // namespace osprey

int main(int argc, char** argv) {
  osprey::Settings s;
  const auto number = [&](int i, auto standard) { return argc > i ? std::atoi(argv[i]) : standard; };
  if (argc > 1 && std::strcmp(argv[1], "cuda") == 0) {
#ifdef OSPREY_HAS_CUDA
    std::string why;
    if (!osprey::cuda_available(&why)) {
      fmt::print(stderr, "bench_kernels: {}\n", why);
      return 4;
    }
    s = {.cuda = true, .height = number(2, 1344), .width = number(3, 1344), .images = number(4, 1)};
#else
    fmt::print(stderr, "bench_kernels: built without CUDA\n");
    return 4;
#endif
  } else {
    s = {.threads = number(1, s.threads), .runs = number(2, s.runs), .block = number(3, s.block)};
  }
  osprey::Bench(s).run();
}
