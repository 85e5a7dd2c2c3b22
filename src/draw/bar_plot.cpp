#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "draw/plot_style.h"

namespace osprey {
namespace {

bool valid(const Bar& bar) {
  const auto good = [](double v) { return std::isfinite(v) && v >= 0; };
  return !bar.values.empty() && std::ranges::all_of(bar.values, good);
}

double total(const Bar& bar) {
  double sum = 0;
  for (const double v : bar.values) sum += v;
  return sum;
}

std::string value_text(const BarPlot& plot, const Bar& bar) {
  if (!valid(bar)) return "n/a";
  const double value = total(bar);
  if (value >= 1e9) return fmt::format("{:.4g}", value);
  return fmt::format("{:.{}f}", value, std::clamp(plot.decimals, 0, 9));
}

void check_plot(const BarPlot& plot) {
  const std::size_t parts = std::max<std::size_t>(plot.parts.size(), 1);
  for (const Bar& bar : plot.bars) {
    if (bar.values.size() > parts) {
      fail(ErrorCode::kUsage, "bar plot: '{}' has {} values for {} parts", bar.label, bar.values.size(),
           parts);
    }
  }
  if (plot.width < 200 || plot.range.low != 0) {
    fail(ErrorCode::kUsage, "bar plot: width {} and range from {}, expected 200 pixels or more and 0",
         plot.width, plot.range.low);
  }
}

int tick_count(const BarPlot& plot) { return std::max(2, plot.width / 120); }

AxisRange value_range(const BarPlot& plot) {
  std::vector<double> totals{0};
  for (const Bar& bar : plot.bars) {
    if (valid(bar)) totals.push_back(total(bar));
  }
  if (*std::ranges::max_element(totals) == 0) totals.push_back(1);
  return fit_range(plot.range, totals, tick_count(plot));
}

// The names of the parts in one row, from x on.
void draw_legend(const Canvas& canvas, const std::vector<std::string>& parts, double x, double y) {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Text text = canvas.text(parts[i], kTickStyle);
    draw_chip(canvas, x, y, plot_color(i));
    put_text(canvas, text, x + kChipWidth, y, Align::kLeft);
    x += kChipWidth + text.width() + 18;
  }
}

struct Layout {
  double x0, x1;     // the bars' left end, the axis' right end
  double y0, pitch;  // the first row's top, the rows' distance
  AxisRange range;

  double to_x(double value) const {
    return x0 + std::clamp((value - range.low) / (range.high - range.low), 0.0, 1.0) * (x1 - x0);
  }
  double row(std::size_t i) const { return y0 + (static_cast<double>(i) + 0.5) * pitch; }
};

void draw_bar(const Canvas& canvas, const Layout& layout, const Bar& bar, double y) {
  const double half = std::round(0.36 * layout.pitch);
  double sum = 0;
  for (std::size_t part = 0; part < bar.values.size(); ++part) {
    const double from = layout.to_x(sum), to = layout.to_x(sum += bar.values[part]);
    canvas.set_color(plot_color(part));
    cairo_rectangle(canvas.cairo(), from, std::round(y) - half, to - from, 2 * half);
    cairo_fill(canvas.cairo());
  }
}

}  // namespace

Image draw_plot(const BarPlot& plot) {
  check_plot(plot);
  const std::size_t rows = std::min(plot.bars.size(), kMaxBars);
  const double pitch = rows > 40 ? 19 : 25;
  const double head = kPlotMargin + (plot.title.empty() ? 0 : 34) + (plot.parts.empty() ? 0 : 28);
  const double foot = kPlotMargin + 20 + (plot.value_label.empty() ? 0 : 24);
  const int height = static_cast<int>(head + pitch * std::max<double>(static_cast<double>(rows), 1) + foot);
  const Canvas canvas(plot.width, height, kWhite);

  TextStyle label_style = kTickStyle;
  label_style.max_width = 0.3 * plot.width;
  std::vector<Text> labels, values;
  double label_width = 0, value_width = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    const Bar& bar = plot.bars[i];
    labels.push_back(canvas.text(bar.label, label_style));
    values.push_back(canvas.text(value_text(plot, bar), kTickStyle));
    label_width = std::max(label_width, labels.back().width());
    value_width = std::max(value_width, values.back().width());
  }
  const Layout layout{.x0 = kPlotMargin + label_width + 10,
                      .x1 = plot.width - kPlotMargin - value_width - 8,
                      .y0 = head,
                      .pitch = pitch,
                      .range = value_range(plot)};
  const double bottom = height - foot + 2;

  put_text(canvas, canvas.text(plot.title, kTitleStyle), kPlotMargin, kPlotMargin + 8, Align::kLeft);
  draw_legend(canvas, plot.parts, layout.x0, head - 16);
  const Ticks ticks = make_ticks(layout.range, tick_count(plot));
  for (const double v : ticks.values) {
    hairline(canvas, layout.to_x(v), head, layout.to_x(v), bottom, kGrid);
    put_text(canvas, canvas.text(ticks.text(v), kTickStyle), layout.to_x(v), bottom + 14, Align::kCenter,
             kFaintInk);
  }
  put_text(canvas, canvas.text(plot.value_label, kAxisStyle), (layout.x0 + layout.x1) / 2,
           height - kPlotMargin - 2, Align::kCenter);
  for (std::size_t i = 0; i < rows; ++i) {
    const Bar& bar = plot.bars[i];
    const double y = layout.row(i);
    put_text(canvas, labels[i], layout.x0 - 10, y, Align::kRight);
    if (valid(bar)) draw_bar(canvas, layout, bar, y);
    put_text(canvas, values[i], (valid(bar) ? layout.to_x(total(bar)) : layout.x0) + 6, y, Align::kLeft,
             valid(bar) ? kInk : kFaintInk);
  }
  hairline(canvas, layout.x0, head, layout.x0, bottom, kInk);
  return canvas.image();
}

}  // namespace osprey
