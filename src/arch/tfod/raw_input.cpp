#include "arch/tfod/raw_input.h"

#include "ops/normalize_image.h"
#include "ops/resize_image.h"

namespace osprey::tfod {
namespace {

constexpr int kMaxSide = 1 << 14;  // more than any detector has

void expect_bilinear(Config& config, const std::string& resizer) {
  if (config.text(resizer + ".resize_method", "BILINEAR") != "BILINEAR")
    config.refuse(resizer + ".resize_method", "only BILINEAR is");
  config.expect(resizer + ".convert_to_grayscale", false, false, "pictures have three channels here");
}

void read_keep_aspect(Config& config, const std::string& path, int height, int width, RawInput& out) {
  expect_bilinear(config, path);
  for (const float pad : config.numbers(path + ".per_channel_pad_value"))
    if (pad != 0) config.refuse(path + ".per_channel_pad_value", "only 0 is");
  out.keep_aspect = true;
  out.shortest = config.integer(path + ".min_dimension", 600, 1, kMaxSide);
  out.longest = config.integer(path + ".max_dimension", 1024, 1, kMaxSide);
  if (out.shortest > out.longest) config.refuse(path + ".min_dimension", "max_dimension is smaller");
  const bool pad = config.flag(path + ".pad_to_max_dimension", false);
  if (height > 0) {
    require(height == width,
            "{}: a fixed size of {}x{} is not supported: only a square is, which photos "
            "are fitted into",
            path, height, width);
    out.shortest = out.longest = height;
  }
  if (pad || height > 0) out.canvas_height = out.canvas_width = out.longest;
}

void read_fixed_shape(Config& config, const std::string& path, int height, int width, RawInput& out) {
  expect_bilinear(config, path);
  out.keep_aspect = false;
  out.canvas_height = config.integer(path + ".height", 300, 1, kMaxSide);
  out.canvas_width = config.integer(path + ".width", 300, 1, kMaxSide);
  if (height > 0) out.canvas_height = height, out.canvas_width = width;
}

}  // namespace

RawInput read_raw_input(Config& config, const std::string& path, int height, int width) {
  const std::string kind = config.alternative(path);
  RawInput out;
  if (kind == "keep_aspect_ratio_resizer")
    read_keep_aspect(config, path + "." + kind, height, width, out);
  else if (kind == "fixed_shape_resizer")
    read_fixed_shape(config, path + "." + kind, height, width, out);
  else
    config.refuse(path, "only keep_aspect_ratio_resizer and fixed_shape_resizer are");
  return out;
}

NetworkInput raw_input(Net& net, const RawInput& m) {
  const Dim n = Dim::symbol("N");
  const ValueId photos =
      net.graph().add_input("photos", {DType::kU8, {n, Dim::symbol("H"), Dim::symbol("W"), 3}});
  const ValueId sizes = net.graph().add_input("sizes", {DType::kI32, {n, 2}});
  const ResizeImage resize{.rule = ResizeRule::kTfBilinear,
                           .shortest = m.shortest,
                           .longest = m.longest,
                           .canvas_height = m.canvas_height,
                           .canvas_width = m.canvas_width,
                           .bgr = m.bgr,
                           .fit = m.keep_aspect ? Fit::kKeepAspect : Fit::kStretch};
  const auto resized = net.add_all(resize, {photos, sizes}, "input.resize");
  net.stage("resized", resized.at(0));
  net.stage("geometry", resized.at(1));
  const NormalizeImage normalize{.mean = m.mean,
                                 .std = m.std,
                                 .canvas_height = m.canvas_height,
                                 .canvas_width = m.canvas_width,
                                 .scale = m.scale};
  const ValueId image = net.add(normalize, resized, "input.normalize");
  return {net.stage("preprocessed", image), resized[1]};
}

}  // namespace osprey::tfod
