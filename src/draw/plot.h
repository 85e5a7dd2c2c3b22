// Plots of an evaluation or a benchmark: white ground, quiet axes, colours of palette.h that show on white.
//
// Values that are not finite are left out: a line breaks there, a bar says "n/a". All sizes are pixels.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "osprey/image.h"

namespace osprey {

struct Curve {
  std::string label;
  std::vector<double> x, y;  // of the same length
};

// An axis from low to high; low == high takes what the data need.
struct AxisRange {
  double low = 0, high = 0;
};

// Lines over two axes: precision over recall, loss over steps. The legend stands beside the axes where a
// curve has a label.
struct LinePlot {
  std::string title, x_label, y_label;
  std::vector<Curve> curves;
  AxisRange x_range, y_range;
  int width = 960, height = 600;
};

// A row of the chart: one value, or one for each of the chart's parts, drawn end to end.
struct Bar {
  std::string label;
  std::vector<double> values;
};

// Horizontal bars from zero, each with its number: AP of each class, time of each stage. A negative value
// (COCO's -1 for undefined) is "n/a".
struct BarPlot {
  std::string title, value_label;
  std::vector<std::string> parts;  // names in the legend; empty for plain bars
  std::vector<Bar> bars;           // at most kMaxBars are drawn
  AxisRange range;                 // `low` must be 0
  int decimals = 1;
  int width = 960;  // the height follows from the bars
};
inline constexpr std::size_t kMaxBars = 600;

// counts[truth * n + predicted], coloured by the share of the truth's row. Numbers are written in up to
// kMaxCountedClasses classes; the labels of very many are thinned out.
struct ConfusionPlot {
  std::string title;
  std::vector<std::string> labels;  // n of them, background included where it is counted
  std::vector<std::int64_t> counts;
};
inline constexpr std::size_t kMaxCountedClasses = 25;

// Throw Error(kUsage) where lengths or sizes do not fit one another.
Image draw_plot(const LinePlot& plot);
Image draw_plot(const BarPlot& plot);
Image draw_plot(const ConfusionPlot& plot);

}  // namespace osprey
