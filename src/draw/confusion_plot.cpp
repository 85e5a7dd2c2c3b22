#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "draw/plot_style.h"

namespace osprey {
namespace {

constexpr Color kFull{8, 48, 107};
constexpr std::size_t kMaxClasses = 4000;
constexpr double kBarWidth = 16, kBarRoom = 90;  // of the colour bar, and with its gap and ticks

// Small shares must show: a confusion of 2 % is what the reader looks for.
Color share_color(double share) {
  return mix({247, 249, 252}, kFull, std::sqrt(std::clamp(share, 0.0, 1.0)));
}

int cell_size(std::size_t classes) {
  if (classes <= 10) return 56;
  if (classes <= kMaxCountedClasses) return 40;
  if (classes <= 100) return 14;  // as narrow as every label can be read
  return std::max(2, static_cast<int>(1400 / classes));
}

// 4 digits at most: 9999, 12k, 3M.
std::string short_count(std::int64_t count) {
  if (count < 10'000) return fmt::format("{}", count);
  if (count < 1'000'000) return fmt::format("{}k", count / 1000);
  return fmt::format("{:.3g}M", static_cast<double>(count) / 1e6);
}

void check_plot(const ConfusionPlot& plot) {
  const std::size_t n = plot.labels.size();
  if (n == 0 || n > kMaxClasses || plot.counts.size() != n * n) {
    fail(ErrorCode::kUsage, "confusion plot: {} counts for {} labels, expected n * n for n from 1 to {}",
         plot.counts.size(), n, kMaxClasses);
  }
}

// Draws cell by cell; a row of truth without objects stays empty.
void draw_cells(const Canvas& canvas, const ConfusionPlot& plot, double x0, double y0, int cell) {
  const std::size_t n = plot.labels.size();
  const double gap = cell >= 10 ? 1 : 0;
  for (std::size_t row = 0; row < n; ++row) {
    const std::int64_t* counts = &plot.counts[row * n];
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(std::max<std::int64_t>(counts[i], 0));
    for (std::size_t column = 0; column < n; ++column) {
      const double count = static_cast<double>(std::max<std::int64_t>(counts[column], 0));
      const Color color = share_color(sum > 0 ? count / sum : 0);
      const double x = x0 + static_cast<double>(column) * cell, y = y0 + static_cast<double>(row) * cell;
      canvas.set_color(color);
      cairo_rectangle(canvas.cairo(), x, y, cell - gap, cell - gap);
      cairo_fill(canvas.cairo());
      if (n > kMaxCountedClasses || count == 0) continue;
      const Text text = canvas.text(short_count(counts[column]), {.size = cell * 0.2 + 5});
      put_text(canvas, text, x + cell / 2.0, y + cell / 2.0, Align::kCenter, contrasting(color));
    }
  }
}

void draw_color_bar(const Canvas& canvas, double x, double y, double height) {
  const int steps = static_cast<int>(height);
  for (int i = 0; i < steps; ++i) {
    canvas.set_color(share_color(1 - (i + 0.5) / steps));
    cairo_rectangle(canvas.cairo(), x, std::floor(y) + i, kBarWidth, 1);
    cairo_fill(canvas.cairo());
  }
  for (const int percent : {0, 25, 50, 75, 100}) {
    put_text(canvas, canvas.text(fmt::format("{} %", percent), kTickStyle), x + kBarWidth + 8,
             y + height * (1 - percent / 100.0), Align::kLeft, kFaintInk);
  }
}

}  // namespace

Image draw_plot(const ConfusionPlot& plot) {
  check_plot(plot);
  const std::size_t n = plot.labels.size();
  const int cell = cell_size(n);
  const double side = static_cast<double>(n) * cell;
  const TextStyle style{.size = cell >= 40 ? 13.0 : 11.0, .max_width = 180};
  // As many labels as stand clear of one another.
  const std::size_t every = static_cast<std::size_t>(std::ceil(1.15 * style.size / cell));

  const Canvas ruler(1, 1, kWhite);
  std::vector<Text> labels;
  double label_width = 0;
  for (std::size_t i = 0; i < n; i += every) {
    labels.push_back(ruler.text(plot.labels[i], style));
    label_width = std::max(label_width, labels.back().width());
  }
  const Text title = ruler.text(plot.title, kTitleStyle);
  const double x0 = std::ceil(kPlotMargin + 28 + label_width + 8);
  const double y0 = std::ceil(kPlotMargin + (plot.title.empty() ? 0 : 34));
  const double width = std::max(x0 + side + kBarRoom, x0 + title.width()) + kPlotMargin;
  const double height = y0 + side + 8 + label_width + 28 + kPlotMargin;
  const Canvas canvas(static_cast<int>(width), static_cast<int>(height), kWhite);

  put_text(canvas, title, x0, kPlotMargin + 8, Align::kLeft);
  draw_cells(canvas, plot, x0, y0, cell);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const double middle = (static_cast<double>(i * every) + 0.5) * cell;
    put_text(canvas, labels[i], x0 - 8, y0 + middle, Align::kRight);
    put_text_upwards(canvas, labels[i], x0 + middle, y0 + side + 8, Align::kRight);
  }
  put_text_upwards(canvas, canvas.text("truth", kAxisStyle), kPlotMargin, y0 + side / 2, Align::kCenter,
                   kFaintInk);
  put_text(canvas, canvas.text("predicted", kAxisStyle), x0 + side / 2, height - kPlotMargin, Align::kCenter,
           kFaintInk);
  draw_color_bar(canvas, x0 + side + 18, y0, std::min(side, 240.0));
  return canvas.image();
}

}  // namespace osprey
