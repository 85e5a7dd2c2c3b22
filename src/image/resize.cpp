#include "image/resize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "image/resize_kernels.h"

namespace osprey {
namespace {

using resize_kernels::kColumnBytes;
using resize_kernels::kRows;

// Packed RGB rows to [x][row][red, green, blue, unused] and back. Four bytes are moved where three are meant:
// that is one instruction, and the fourth is either never looked at or overwritten by the next pixel.
void interleave(const std::array<const std::uint8_t*, kRows>& rows, int width, std::uint8_t* out) {
  for (std::ptrdiff_t x = 0; x + 1 < width; ++x)
    for (int r = 0; r < kRows; ++r)
      std::memcpy(out + x * kColumnBytes + 4 * r, rows[static_cast<std::size_t>(r)] + 3 * x, 4);
  const std::ptrdiff_t last = width - 1;
  for (int r = 0; r < kRows; ++r)
    std::memcpy(out + last * kColumnBytes + 4 * r, rows[static_cast<std::size_t>(r)] + 3 * last, 3);
}

void deinterleave(const std::uint8_t* in, int width, const std::array<std::uint8_t*, kRows>& rows) {
  for (std::ptrdiff_t x = 0; x + 1 < width; ++x)
    for (int r = 0; r < kRows; ++r)
      std::memcpy(rows[static_cast<std::size_t>(r)] + 3 * x, in + x * kColumnBytes + 4 * r, 4);
  const std::ptrdiff_t last = width - 1;
  for (int r = 0; r < kRows; ++r)
    std::memcpy(rows[static_cast<std::size_t>(r)] + 3 * last, in + last * kColumnBytes + 4 * r, 3);
}

}  // namespace

// Pillow's precompute_coeffs and normalize_coeffs_8bpc in meaning: the triangle is sampled at pixel centres,
// its sum made 1 in double precision, and only then is each weight rounded.
void PilResizer::Axis::prepare(int in_size, int out_size) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double reach = std::max(scale, 1.0);  // half of the triangle's base, in source pixels
  const double per_reach = 1.0 / reach;
  taps = static_cast<int>(std::ceil(reach)) * 2 + 1;
  const auto outputs = static_cast<std::size_t>(out_size), stride = static_cast<std::size_t>(taps);
  first.resize(outputs), count.resize(outputs), exact.resize(stride), weights.resize(outputs * stride);
  for (std::size_t i = 0; i < outputs; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const int begin = std::max(static_cast<int>(center - reach + 0.5), 0);
    const int end = std::min(static_cast<int>(center + reach + 0.5), in_size);
    double sum = 0;
    for (int k = 0; k < end - begin; ++k) {
      const double distance = std::abs((k + begin - center + 0.5) * per_reach);
      sum += exact[static_cast<std::size_t>(k)] = distance < 1.0 ? 1.0 - distance : 0.0;
    }
    for (int k = 0; k < end - begin; ++k) {
      const double share = sum != 0 ? exact[static_cast<std::size_t>(k)] / sum : 0.0;
      weights[i * stride + static_cast<std::size_t>(k)] =
          static_cast<std::int32_t>(0.5 + share * (1 << resize_kernels::kWeightBits));
    }
    first[i] = begin;
    count[i] = end - begin;
  }
}

void PilResizer::prepare(int in_width, int in_height, int out_width, int out_height) {
  check(in_width > 0 && in_height > 0 && out_width > 0 && out_height > 0,
        "resize of {} x {} pixels to {} x {}", in_width, in_height, out_width, out_height);
  in_width_ = in_width, in_height_ = in_height, out_width_ = out_width, out_height_ = out_height;
  if (has_horizontal()) x_.prepare(in_width, out_width);
  if (has_vertical()) y_.prepare(in_height, out_height);
  first_row_ = has_vertical() ? y_.first.front() : 0;
  last_row_ = has_vertical() ? y_.first.back() + y_.count.back() : in_height;
}

std::size_t PilResizer::workspace_bytes() const {
  const auto in_width = static_cast<std::size_t>(in_width_), out_width = static_cast<std::size_t>(out_width_);
  return (in_width + out_width) * kColumnBytes + out_width * 3;
}

void PilResizer::horizontal(ImageView in, int begin, int end, std::uint8_t* out, std::ptrdiff_t stride,
                            std::span<std::uint8_t> workspace) const {
  check(workspace.size() >= workspace_bytes(), "resize: a workspace of {} bytes, not {}", workspace.size(),
        workspace_bytes());
  std::uint8_t* const before = workspace.data();
  std::uint8_t* const after = before + static_cast<std::ptrdiff_t>(in_width_) * kColumnBytes;
  std::uint8_t* const spare = after + static_cast<std::ptrdiff_t>(out_width_) * kColumnBytes;
  const resize_kernels::Taps taps{x_.first.data(), x_.count.data(), x_.weights.data(), x_.taps};
  for (int y = begin; y < end; y += kRows) {
    std::array<const std::uint8_t*, kRows> from;
    std::array<std::uint8_t*, kRows> to;
    for (int r = 0; r < kRows; ++r) {  // the last group repeats its last row, and drops what comes of it
      from[static_cast<std::size_t>(r)] = in.row(std::min(y + r, end - 1));
      to[static_cast<std::size_t>(r)] = y + r < end ? out + (y + r - first_row_) * stride : spare;
    }
    interleave(from, in_width_, before);
    resize_kernels::kernels().back().horizontal(before, taps, out_width_, after);
    deinterleave(after, out_width_, to);
  }
}

void PilResizer::vertical(ImageView in, int begin, int end, std::uint8_t* out, std::ptrdiff_t stride) const {
  const std::size_t bytes = static_cast<std::size_t>(out_width_) * 3;
  for (int y = begin; y < end; ++y) {
    const auto i = static_cast<std::size_t>(y);
    resize_kernels::kernels().back().vertical(in.row(y_.first[i] - first_row_), in.stride,
                                              y_.weights.data() + i * static_cast<std::size_t>(y_.taps),
                                              y_.count[i], bytes, out + y * stride);
  }
}

Image resize_pil_bilinear(ImageView in, int width, int height) {
  const PilResizer resizer(in.width, in.height, width, height);
  Image wide;  // the needed source rows at the output's width
  ImageView rows{in.row(resizer.first_row()), in.width, resizer.last_row() - resizer.first_row(), in.stride};
  if (resizer.has_horizontal()) {
    wide = Image(width, rows.height);
    std::vector<std::uint8_t> workspace(resizer.workspace_bytes());
    resizer.horizontal(in, resizer.first_row(), resizer.last_row(), wide.row(0), 3 * std::ptrdiff_t{width},
                       workspace);
    if (!resizer.has_vertical()) return wide;
    rows = wide;
  }
  Image out(width, height);
  if (resizer.has_vertical()) {
    resizer.vertical(rows, 0, height, out.row(0), 3 * std::ptrdiff_t{width});
  } else {
    for (int y = 0; y < height; ++y) std::memcpy(out.row(y), in.row(y), static_cast<std::size_t>(width) * 3);
  }
  return out;
}

}  // namespace osprey
