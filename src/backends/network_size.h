// The size that ops/resize_image.h gives a photo, for every executor; constexpr, since device code calls it.
#pragma once

#include <algorithm>
#include <array>

#include "image/resize.h"
#include "ops/resize_image.h"

namespace osprey {

constexpr double canvas_scale(int width, int height, int canvas_width, int canvas_height) {
  return std::min(static_cast<double>(canvas_height) / height, static_cast<double>(canvas_width) / width);
}

// The shorter side of a very long strip may round to nothing.
constexpr ImageSize at_least_one_pixel(ImageSize size) {
  return {std::max(size.width, 1), std::max(size.height, 1)};
}

// The largest size of the photo's shape that fits the canvas. On a square canvas that is
// shortest_edge_size(side, side) to the last rounding, which is how NVIDIA's sample letterboxes.
constexpr ImageSize size_on_canvas(int width, int height, int canvas_width, int canvas_height) {
  if (canvas_width == canvas_height)
    return at_least_one_pixel(shortest_edge_size(width, height, canvas_width, canvas_width));
  const double scale = canvas_scale(width, height, canvas_width, canvas_height);
  return at_least_one_pixel({static_cast<int>(width * scale + 0.5), static_cast<int>(height * scale + 0.5)});
}

// To the next whole number, halves to the even one; of values below 2^23.
constexpr int round_half_even(float v) {
  const int whole = static_cast<int>(v);
  const float rest = v - static_cast<float>(whole);
  return rest > 0.5f || (rest == 0.5f && whole % 2 == 1) ? whole + 1 : whole;
}

// The scale at which a photo fits into height x width, in TensorFlow's float32.
constexpr float fitting_scale(int width, int height, int into_width, int into_height) {
  return std::min(static_cast<float>(into_height) / static_cast<float>(height),
                  static_cast<float>(into_width) / static_cast<float>(width));
}

// To the next whole number, halves to the even one; of values from 0 to 2^31.
constexpr int round_half_even(double v) {
  const int whole = static_cast<int>(v);
  const double rest = v - whole;
  return rest > 0.5 || (rest == 0.5 && whole % 2 == 1) ? whole + 1 : whole;
}

// Fit::kShortSide. Doubles, as Python has them: products of two sizes are exact.
constexpr ImageSize short_side_size(int width, int height, int shortest, int longest) {
  const double shorter = std::min(width, height), longer = std::max(width, height);
  int side = shortest;
  // (The framework fails where that is 0.)
  if (longer / shorter * side > longest) side = std::max(round_half_even(longest * shorter / longer), 1);
  const auto scaled = [&](int from) { return static_cast<int>(static_cast<double>(side) * from / shorter); };
  return width < height ? ImageSize{side, scaled(height)} : ImageSize{scaled(width), side};
}

struct NetworkSize {
  ImageSize size;
  std::array<float, 6> geometry;  // the photo's row of `geometry`
};

// What of ops/resize_image.h decides the size: device code takes it as an argument.
struct FitRule {
  Fit fit;
  int shortest, longest, canvas_height, canvas_width;

  constexpr FitRule(const ResizeImage& op)  // NOLINT: an op is a rule
      : fit(op.fit),
        shortest(op.shortest),
        longest(op.longest),
        canvas_height(op.canvas_height),
        canvas_width(op.canvas_width) {}
};

// Fit::kStretch, kKeepAspect (which its canvas holds) and kTruncate.
constexpr NetworkSize tensorflow_size(const FitRule& op, int width, int height) {
  const auto w = static_cast<float>(width), h = static_cast<float>(height);
  const auto canvas_w = static_cast<float>(op.canvas_width), canvas_h = static_cast<float>(op.canvas_height);
  if (op.fit == Fit::kStretch)
    return {{op.canvas_width, op.canvas_height}, {canvas_h, canvas_w, h / canvas_h, w / canvas_w, h, w}};
  if (op.fit == Fit::kTruncate) {
    const float scale = fitting_scale(width, height, op.canvas_width, op.canvas_height);
    return {at_least_one_pixel({static_cast<int>(w * scale), static_cast<int>(h * scale)}),
            {canvas_h, canvas_w, 1 / scale, 1 / scale, h, w}};
  }
  const bool landscape = height < width;
  const float scale = landscape ? fitting_scale(width, height, op.longest, op.shortest)
                                : fitting_scale(width, height, op.shortest, op.longest);
  const ImageSize size = at_least_one_pixel({round_half_even(w * scale), round_half_even(h * scale)});
  const auto to_w = static_cast<float>(size.width), to_h = static_cast<float>(size.height);
  return {size, {to_h, to_w, h / to_h, w / to_w, h, w}};
}

constexpr NetworkSize network_size(const FitRule& op, int width, int height) {
  if (op.fit != Fit::kShortestEdge && op.fit != Fit::kShortSide) return tensorflow_size(op, width, height);
  const bool canvas = op.canvas_height > 0;
  const ImageSize size =
      canvas ? size_on_canvas(width, height, op.canvas_width, op.canvas_height)
             : at_least_one_pixel(op.fit == Fit::kShortSide
                                      ? short_side_size(width, height, op.shortest, op.longest)
                                      : shortest_edge_size(width, height, op.shortest, op.longest));
  const auto w = static_cast<float>(width), h = static_cast<float>(height);
  if (canvas) {
    const auto back =
        static_cast<float>(1.0 / canvas_scale(width, height, op.canvas_width, op.canvas_height));
    return {size,
            {static_cast<float>(op.canvas_height), static_cast<float>(op.canvas_width), back, back, h, w}};
  }
  return {size,
          {static_cast<float>(size.height), static_cast<float>(size.width),
           static_cast<float>(static_cast<double>(height) / size.height),
           static_cast<float>(static_cast<double>(width) / size.width), h, w}};
}

}  // namespace osprey
