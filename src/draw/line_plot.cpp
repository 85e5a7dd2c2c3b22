#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "draw/label_layout.h"
#include "draw/plot_style.h"

namespace osprey {
namespace {

constexpr std::size_t kMaxLegendRows = 24;
constexpr std::size_t kFewPoints = 12;  // short curves show their points

struct Axes {
  Rect area;
  AxisRange x, y;

  double to_x(double v) const { return place(v, x, area.x0, area.x1); }
  double to_y(double v) const { return place(v, y, area.y1, area.y0); }

 private:
  // Far outside the axes all points are the same to the eye, but not to Cairo's fixed-point numbers.
  static double place(double v, AxisRange r, double from, double to) {
    return std::clamp(from + (v - r.low) / (r.high - r.low) * (to - from), -1e5, 1e5);
  }
};

std::vector<double> all_values(const std::vector<Curve>& curves, std::vector<double> Curve::*axis) {
  std::vector<double> out;
  for (const Curve& c : curves) out.insert(out.end(), (c.*axis).begin(), (c.*axis).end());
  return out;
}

double widest(const Canvas& canvas, const Ticks& ticks) {
  double out = 0;
  for (const double v : ticks.values) out = std::max(out, canvas.text(ticks.text(v), kTickStyle).width());
  return out;
}

void draw_grid(const Canvas& canvas, const Axes& axes, const Ticks& xs, const Ticks& ys) {
  const Rect& a = axes.area;
  for (const double v : xs.values) {
    hairline(canvas, axes.to_x(v), a.y0, axes.to_x(v), a.y1, kGrid);
    put_text(canvas, canvas.text(xs.text(v), kTickStyle), axes.to_x(v), a.y1 + 14, Align::kCenter, kFaintInk);
  }
  for (const double v : ys.values) {
    hairline(canvas, a.x0, axes.to_y(v), a.x1, axes.to_y(v), kGrid);
    put_text(canvas, canvas.text(ys.text(v), kTickStyle), a.x0 - 8, axes.to_y(v), Align::kRight, kFaintInk);
  }
  hairline(canvas, a.x0, a.y1, a.x1, a.y1, kInk);
  hairline(canvas, a.x0, a.y0, a.x0, a.y1, kInk);
}

void draw_curve(const Canvas& canvas, const Axes& axes, const Curve& curve, Color color) {
  cairo_t* cairo = canvas.cairo();
  canvas.set_color(color);
  cairo_set_line_width(cairo, 2.2);
  cairo_new_path(cairo);
  for (std::size_t i = 0; i < curve.x.size(); ++i) {
    if (!std::isfinite(curve.x[i]) || !std::isfinite(curve.y[i])) {
      cairo_new_sub_path(cairo);
      continue;
    }
    cairo_line_to(cairo, axes.to_x(curve.x[i]), axes.to_y(curve.y[i]));
  }
  cairo_stroke(cairo);
  if (curve.x.size() > kFewPoints) return;
  for (std::size_t i = 0; i < curve.x.size(); ++i) {
    if (!std::isfinite(curve.x[i]) || !std::isfinite(curve.y[i])) continue;
    cairo_new_path(cairo);
    cairo_arc(cairo, axes.to_x(curve.x[i]), axes.to_y(curve.y[i]), 3.5, 0, 2 * std::numbers::pi);
    cairo_fill(cairo);
  }
}

std::vector<Text> legend_texts(const Canvas& canvas, const std::vector<Curve>& curves) {
  std::vector<Text> out;
  const bool labelled = std::ranges::any_of(curves, [](const Curve& c) { return !c.label.empty(); });
  if (!labelled) return out;
  TextStyle style = kTickStyle;
  style.max_width = 0.3 * canvas.width();
  for (std::size_t i = 0; i < std::min(curves.size(), kMaxLegendRows); ++i) {
    out.push_back(canvas.text(curves[i].label, style));
  }
  if (curves.size() > kMaxLegendRows) {
    out.push_back(canvas.text(fmt::format("and {} more", curves.size() - kMaxLegendRows), style));
  }
  return out;
}

void check_plot(const LinePlot& plot) {
  for (const Curve& c : plot.curves) {
    if (c.x.size() != c.y.size()) {
      fail(ErrorCode::kUsage, "line plot: curve '{}' has {} x and {} y", c.label, c.x.size(), c.y.size());
    }
  }
  if (plot.width < 200 || plot.height < 150) {
    fail(ErrorCode::kUsage, "line plot: {} x {} pixels are too few, expected 200 x 150 or more", plot.width,
         plot.height);
  }
}

}  // namespace

Image draw_plot(const LinePlot& plot) {
  check_plot(plot);
  const Canvas canvas(plot.width, plot.height, kWhite);
  const int columns = std::max(2, plot.width / 120), rows = std::max(2, plot.height / 70);
  Axes axes{.x = fit_range(plot.x_range, all_values(plot.curves, &Curve::x), columns),
            .y = fit_range(plot.y_range, all_values(plot.curves, &Curve::y), rows)};
  const Ticks xs = make_ticks(axes.x, columns), ys = make_ticks(axes.y, rows);
  const std::vector<Text> legend = legend_texts(canvas, plot.curves);
  double legend_width = 0;
  for (const Text& text : legend) legend_width = std::max(legend_width, text.width() + kChipWidth + 16);

  Rect& area = axes.area;
  area.x0 = kPlotMargin + widest(canvas, ys) + 8 + (plot.y_label.empty() ? 0 : 24);
  area.x1 = plot.width - kPlotMargin - legend_width;
  area.y0 = kPlotMargin + (plot.title.empty() ? 0 : 34);
  area.y1 = plot.height - kPlotMargin - 20 - (plot.x_label.empty() ? 0 : 24);

  const double middle = (area.x0 + area.x1) / 2;
  put_text(canvas, canvas.text(plot.title, kTitleStyle), area.x0, kPlotMargin + 8, Align::kLeft);
  put_text(canvas, canvas.text(plot.x_label, kAxisStyle), middle, plot.height - kPlotMargin - 2,
           Align::kCenter);
  put_text_upwards(canvas, canvas.text(plot.y_label, kAxisStyle), kPlotMargin, (area.y0 + area.y1) / 2,
                   Align::kCenter);
  draw_grid(canvas, axes, xs, ys);

  cairo_save(canvas.cairo());
  cairo_rectangle(canvas.cairo(), area.x0 - 4, area.y0 - 4, area.width() + 8, area.height() + 8);
  cairo_clip(canvas.cairo());
  for (std::size_t i = plot.curves.size(); i-- > 0;) draw_curve(canvas, axes, plot.curves[i], plot_color(i));
  cairo_restore(canvas.cairo());

  for (std::size_t i = 0; i < legend.size(); ++i) {
    const double x = area.x1 + 16, y = area.y0 + 10 + 21 * static_cast<double>(i);
    if (i < kMaxLegendRows) draw_chip(canvas, x, y, plot_color(i));
    put_text(canvas, legend[i], x + kChipWidth, y, Align::kLeft);
  }
  return canvas.image();
}

}  // namespace osprey
