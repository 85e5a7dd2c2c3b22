// What the plots share: colours, letters, ticks.
#pragma once

#include <string>
#include <vector>

#include "draw/canvas.h"
#include "draw/plot.h"

namespace osprey {

inline constexpr Color kInk{45, 49, 57}, kFaintInk{110, 116, 126}, kGrid{228, 231, 235};
inline constexpr double kPlotMargin = 24;
inline constexpr TextStyle kTitleStyle{.size = 19, .bold = true}, kAxisStyle{.size = 14},
    kTickStyle{.size = 12.5};

// The i-th colour that shows on white.
Color plot_color(std::size_t i);

enum class Align { kLeft, kCenter, kRight };
// `x` is where the text is aligned to, `y` the middle of its line.
void put_text(const Canvas& canvas, const Text& text, double x, double y, Align align, Color color = kInk);
// The same turned to be read from below, around (x, y).
void put_text_upwards(const Canvas& canvas, const Text& text, double x, double y, Align align,
                      Color color = kInk);

// Hairline of one pixel, on the pixel grid.
void hairline(const Canvas& canvas, double x0, double y0, double x1, double y1, Color color);

// Round numbers (1, 2 or 5 times a power of ten apart) within an axis, and how to write them.
struct Ticks {
  std::vector<double> values;
  int decimals = 0;
  std::string text(double value) const;
};
Ticks make_ticks(AxisRange range, int about);

// The range as asked for; else of the data's finite values, widened to whole steps of about so many ticks.
AxisRange fit_range(AxisRange wanted, const std::vector<double>& data, int about);

// The colour's sample before a name in a legend, and the width to leave for it.
void draw_chip(const Canvas& canvas, double x, double y, Color color);
inline constexpr double kChipWidth = 22;

}  // namespace osprey
