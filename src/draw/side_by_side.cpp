#include "draw/side_by_side.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "draw/canvas.h"

namespace osprey {
namespace {

constexpr Color kCaptionInk{45, 49, 57};

struct Track {
  std::int64_t start = 0, size = 0;
};

// Where columns or rows of these sizes start, with a gap around each.
std::vector<Track> stack(const std::vector<std::int64_t>& sizes, std::int64_t gap) {
  std::vector<Track> out;
  std::int64_t at = gap;
  for (const std::int64_t size : sizes) {
    out.push_back({at, size});
    at += size + gap;
  }
  return out;
}

}  // namespace

Image side_by_side(std::span<const Panel> panels, int columns) {
  if (panels.empty()) return {};
  const std::size_t wide = columns > 0 ? std::min<std::size_t>(columns, panels.size()) : panels.size();
  std::vector<std::int64_t> widths(wide), heights((panels.size() + wide - 1) / wide);
  for (std::size_t i = 0; i < panels.size(); ++i) {
    const ImageView& image = panels[i].image;
    check_view(image, "side by side: a panel");
    widths[i % wide] = std::max<std::int64_t>(widths[i % wide], image.width);
    heights[i / wide] = std::max<std::int64_t>(heights[i / wide], image.height);
  }
  // The captions' letters fit the panels as the tags' do (draw.cpp).
  const double side = static_cast<double>(*std::ranges::max_element(widths));
  const double font = std::max(10.0, 16 * std::pow(side / 640, 0.8));
  const bool captions = std::ranges::any_of(panels, [](const Panel& p) { return !p.caption.empty(); });
  const auto caption_height = static_cast<std::int64_t>(captions ? std::ceil(1.9 * font) : 0);
  const auto gap = static_cast<std::int64_t>(std::ceil(0.6 * font));
  for (std::int64_t& height : heights) height += caption_height;

  const std::vector<Track> x = stack(widths, gap), y = stack(heights, gap);
  const std::int64_t width = x.back().start + x.back().size + gap,
                     height = y.back().start + y.back().size + gap;
  require(width <= kMaxCanvasSide && height <= kMaxCanvasSide,
          "side by side: {} panels make {} x {} pixels, at most {} a side can be drawn", panels.size(), width,
          height, kMaxCanvasSide);
  Canvas canvas(static_cast<int>(width), static_cast<int>(height), kWhite);
  for (std::size_t i = 0; i < panels.size(); ++i) {
    const Track &column = x[i % wide], &row = y[i / wide];
    canvas.paste(panels[i].image, static_cast<int>(column.start),
                 static_cast<int>(row.start + caption_height));
    const TextStyle style{.size = font, .bold = true, .max_width = std::max(1.0, double(column.size))};
    const Text text = canvas.text(panels[i].caption, style);
    text.draw(canvas.cairo(), double(column.start),
              double(row.start) + (double(caption_height) - text.height()) / 2, kCaptionInk);
  }
  return canvas.image();
}

}  // namespace osprey
