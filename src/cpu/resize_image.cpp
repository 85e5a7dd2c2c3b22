#include "ops/resize_image.h"

#include <algorithm>
#include <cstring>

#include <omp.h>

#include "backends/network_size.h"
#include "cpu/boxes.h"
#include "cpu/tf_bilinear.h"
#include "image/resize_cubic.h"

namespace osprey {
namespace {

constexpr int kRows = 16;  // rows a task

// Red for blue and back.
void swap_colours(std::uint8_t* row, std::int64_t width) {
  for (std::int64_t x = 0; x < width; ++x) std::swap(row[3 * x], row[3 * x + 2]);
}

template <class Body>
void for_rows(int rows, int threads, Body&& body) {
  cpu_for((rows + kRows - 1) / kRows, threads, [&](std::int64_t chunk) {
    const int begin = static_cast<int>(chunk) * kRows;
    body(begin, std::min(begin + kRows, rows));
  });
}

// Writes each photo's geometry and calls resize(resizer, photo, size, n) with the resizer of its place in the
// batch.
template <class Resizer, class Resize>
void for_photos(const ResizeImage& op, CpuRun& run, std::vector<Resizer>& resizers, Resize&& resize) {
  const std::span<const ImageView> photos = run.photos();
  auto* const geometry = mutable_rows_of<std::array<float, 6>>(run.out(1));
  resizers.resize(std::max(resizers.size(), photos.size()));
  for (std::size_t n = 0; n < photos.size(); ++n) {
    const NetworkSize to = network_size(op, photos[n].width, photos[n].height);
    geometry[n] = to.geometry;
    resize(resizers[n], photos[n], to.size, n);
  }
}

class ResizeImageStep final : public CpuStep {
 public:
  explicit ResizeImageStep(CpuPrepare& prepare) : op_(prepare.op<ResizeImage>()) {}

  void run(CpuRun& run) override {
    const CpuValue& out = run.out(0);
    const std::ptrdiff_t stride = out.dims[2] * 3, slot = out.dims[1] * stride;
    for_photos(
        op_, run, resizers_, [&](Resizer& resizer, const ImageView& photo, ImageSize to, std::size_t n) {
          check(to.height <= out.dims[1] && to.width <= out.dims[2], "resize_image: {}x{} in a slot of {}x{}",
                to.width, to.height, out.dims[2], out.dims[1]);
          resize(resizer, photo, to,
                 mutable_rows_of<std::uint8_t>(out) + static_cast<std::ptrdiff_t>(n) * slot, stride,
                 run.threads());
        });
  }

 private:
  // What one photo of the batch needed last time.
  struct Resizer {
    ImageSize from, to;
    PilResizer pil;
  };

  void resize(Resizer& r, const ImageView& photo, ImageSize to, std::uint8_t* out, std::ptrdiff_t stride,
              int threads) {
    if (const ImageSize from{photo.width, photo.height}; r.from != from || r.to != to) {
      r.pil.prepare(from.width, from.height, to.width, to.height);
      r.from = from, r.to = to;
    }
    const PilResizer& pil = r.pil;
    ImageView rows{photo.row(pil.first_row()), photo.width, pil.last_row() - pil.first_row(), photo.stride};
    if (pil.has_horizontal()) {
      const std::ptrdiff_t wide_stride = pil.has_vertical() ? 3 * std::ptrdiff_t{to.width} : stride;
      std::uint8_t* const wide = pil.has_vertical() ? wide_rows(rows.height, wide_stride) : out;
      const std::size_t bytes = pil.workspace_bytes();
      workspaces_.resize(std::max(workspaces_.size(), bytes * static_cast<std::size_t>(threads)));
      for_rows(rows.height, threads, [&](int begin, int end) {
        const auto thread = static_cast<std::size_t>(omp_get_thread_num());
        pil.horizontal(photo, pil.first_row() + begin, pil.first_row() + end, wide, wide_stride,
                       {workspaces_.data() + thread * bytes, bytes});
      });
      rows = {wide, to.width, rows.height, wide_stride};
    }
    for_rows(to.height, threads, [&](int begin, int end) {
      if (pil.has_vertical()) pil.vertical(rows, begin, end, out, stride);
      for (int y = begin; y < end; ++y) {
        std::uint8_t* const row = out + y * stride;
        if (!pil.has_vertical() && !pil.has_horizontal())
          std::memcpy(row, photo.row(y), static_cast<std::size_t>(to.width) * 3);
        if (op_.bgr) swap_colours(row, to.width);
      }
    });
  }

  std::uint8_t* wide_rows(int rows, std::ptrdiff_t stride) {
    wide_.resize(std::max(wide_.size(), static_cast<std::size_t>(rows * stride)));
    return wide_.data();
  }

  ResizeImage op_;
  std::vector<Resizer> resizers_;         // one a photo
  std::vector<std::uint8_t> wide_;        // source rows at the output's width
  std::vector<std::uint8_t> workspaces_;  // of all threads
};

// By OpenCV's bicubic rule, to a whole canvas.
class CubicResizeStep final : public CpuStep {
 public:
  explicit CubicResizeStep(CpuPrepare& prepare) : op_(prepare.op<ResizeImage>()) {}

  void run(CpuRun& run) override {
    for_photos(op_, run, resizers_, [&](auto& resizer, const ImageView& photo, ImageSize to, std::size_t n) {
      resize(resizer, photo, to, n, run);
    });
  }

 private:
  void resize(CubicResizer& resizer, const ImageView& photo, ImageSize to, std::size_t n, CpuRun& run) {
    if (const ImageSize from{photo.width, photo.height}; !resizer.is_for(from, to)) resizer.prepare(from, to);
    const std::size_t floats = resizer.workspace_size();
    workspaces_.resize(std::max(workspaces_.size(), floats * static_cast<std::size_t>(run.threads())));
    const std::ptrdiff_t stride = 3 * std::ptrdiff_t{to.width};
    std::uint8_t* const slot =
        mutable_rows_of<std::uint8_t>(run.out(0)) + static_cast<std::ptrdiff_t>(n) * to.height * stride;
    for_rows(to.height, run.threads(), [&](int begin, int end) {
      const auto thread = static_cast<std::size_t>(omp_get_thread_num());
      resizer.rows(photo, begin, end, slot, stride, {workspaces_.data() + thread * floats, floats});
      if (!op_.bgr) return;
      for (int y = begin; y < end; ++y) swap_colours(slot + y * stride, to.width);
    });
  }

  ResizeImage op_;
  std::vector<CubicResizer> resizers_;  // one a photo
  std::vector<float> workspaces_;       // of all threads
};

// By TensorFlow's rules, into floats.
class TfResizeStep final : public CpuStep {
 public:
  explicit TfResizeStep(CpuPrepare& prepare) : op_(prepare.op<ResizeImage>()), table_(op_) {}

  void run(CpuRun& run) override {
    for_photos(op_, run, resizers_, [&](auto& resizer, const ImageView& photo, ImageSize to, std::size_t n) {
      resize(resizer, photo, to, n, run);
    });
  }

 private:
  void resize(TfBilinear& resizer, const ImageView& photo, ImageSize to, std::size_t n, CpuRun& run) {
    const CpuValue& out = run.out(0);
    const auto height = static_cast<int>(out.dims[1]), width = static_cast<int>(out.dims[2]);
    check(to.height <= height && to.width <= width, "resize_image: {}x{} in a slot of {}x{}", to.width,
          to.height, width, height);
    if (const ImageSize from{photo.width, photo.height}; !resizer.is_for(from, to))
      resizer.prepare(from, to, op_.rule == ResizeRule::kTfHalfPixel);
    const std::size_t floats = resizer.workspace_size();
    workspaces_.resize(std::max(workspaces_.size(), floats * static_cast<std::size_t>(run.threads())));
    const std::ptrdiff_t stride = 3 * std::ptrdiff_t{width};
    float* const slot = mutable_rows_of<float>(out) + static_cast<std::ptrdiff_t>(n) * height * stride;
    for_rows(height, run.threads(), [&](int begin, int end) {
      const auto thread = static_cast<std::size_t>(omp_get_thread_num());
      const int photo_end = std::clamp(to.height, begin, end);
      resizer.rows(photo, table_, begin, photo_end, slot, stride,
                   {workspaces_.data() + thread * floats, floats});
      for (int y = begin; y < photo_end; ++y)
        std::fill(slot + y * stride + 3 * std::ptrdiff_t{to.width}, slot + (y + 1) * stride, 0.0f);
      std::fill(slot + photo_end * stride, slot + end * stride, 0.0f);
    });
  }

  ResizeImage op_;
  LevelTable table_;
  std::vector<TfBilinear> resizers_;  // one a photo
  std::vector<float> workspaces_;     // of all threads
};

}  // namespace

CpuKernel resize_image_cpu() {
  return {.op = &kOpInfo<ResizeImage>,
          .dtypes = {DType::kU8},
          .prepare = [](CpuPrepare& prepare) -> std::unique_ptr<CpuStep> {
            if (prepare.op<ResizeImage>().to_float()) return std::make_unique<TfResizeStep>(prepare);
            if (prepare.op<ResizeImage>().rule == ResizeRule::kCvCubic)
              return std::make_unique<CubicResizeStep>(prepare);
            return std::make_unique<ResizeImageStep>(prepare);
          }};
}

}  // namespace osprey
