#include "draw/plot_style.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/core.h>

namespace osprey {
namespace {

// The smallest of 1, 2 or 5 times a power of ten that gives at most about so many steps.
double tick_step(AxisRange range, int about) {
  const double rough = (range.high - range.low) / about;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10 * power;
}

}  // namespace

Color plot_color(std::size_t i) {
  static const std::vector<Color> colors = [] {
    std::vector<Color> out{palette_color(6)};  // blue first: most plots have one curve
    for (int k = 0; k < kPaletteSize; ++k) {
      if (k != 6 && luminance(palette_color(k)) < 0.45) out.push_back(palette_color(k));
    }
    return out;
  }();
  return colors[i % colors.size()];
}

void put_text(const Canvas& canvas, const Text& text, double x, double y, Align align, Color color) {
  const double shift = align == Align::kLeft ? 0 : align == Align::kCenter ? text.width() / 2 : text.width();
  text.draw(canvas.cairo(), x - shift, y - text.height() / 2, color);
}

void put_text_upwards(const Canvas& canvas, const Text& text, double x, double y, Align align, Color color) {
  cairo_save(canvas.cairo());
  cairo_translate(canvas.cairo(), x, y);
  cairo_rotate(canvas.cairo(), -std::numbers::pi / 2);
  put_text(canvas, text, 0, 0, align, color);
  cairo_restore(canvas.cairo());
}

void hairline(const Canvas& canvas, double x0, double y0, double x1, double y1, Color color) {
  const auto snap = [](double v) { return std::floor(v) + 0.5; };
  cairo_new_path(canvas.cairo());
  cairo_move_to(canvas.cairo(), snap(x0), snap(y0));
  cairo_line_to(canvas.cairo(), snap(x1), snap(y1));
  canvas.set_color(color);
  cairo_set_line_width(canvas.cairo(), 1);
  cairo_stroke(canvas.cairo());
}

std::string Ticks::text(double value) const {
  if (std::abs(value) >= 1e7 || decimals > 6) return fmt::format("{:.3g}", value);
  return fmt::format("{:.{}f}", value == 0 ? 0.0 : value, decimals);
}

Ticks make_ticks(AxisRange range, int about) {
  const double step = tick_step(range, about);
  Ticks out;
  out.decimals = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  const double first = std::ceil(range.low / step - 1e-6), last = std::floor(range.high / step + 1e-6);
  for (int i = 0; i <= last - first && i < 1000; ++i) out.values.push_back((first + i) * step);
  return out;
}

AxisRange fit_range(AxisRange wanted, const std::vector<double>& data, int about) {
  const auto usable = [](double v) { return std::isfinite(v) && std::abs(v) < 1e300; };
  // Narrower axes than this are noise of the numbers themselves.
  const auto least = [](double low, double high) {
    return std::max(1e-9 * std::max(std::abs(low), std::abs(high)), 1e-12);
  };
  const bool given = usable(wanted.low) && usable(wanted.high);
  if (given && wanted.high - wanted.low >= least(wanted.low, wanted.high)) return wanted;
  double low = 1e300, high = -1e300;
  for (const double v : data) {
    if (!usable(v)) continue;
    low = std::min(low, v);
    high = std::max(high, v);
  }
  if (low > high) return {0, 1};
  if (high - low < least(low, high)) {
    low -= std::max(std::abs(low) / 2, 0.5);
    high += std::max(std::abs(high) / 2, 0.5);
  }
  const double step = tick_step({low, high}, about);
  return {std::floor(low / step) * step, std::ceil(high / step) * step};
}

void draw_chip(const Canvas& canvas, double x, double y, Color color) {
  canvas.round_rectangle(x, y - 6, 14, 12, 3);
  canvas.set_color(color);
  cairo_fill(canvas.cairo());
}

}  // namespace osprey
