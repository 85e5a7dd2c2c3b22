#include "draw/plot.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "core/error.h"
#include "draw/plot_style.h"
#include "draw/side_by_side.h"

namespace osprey {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

int count_pixels(const Image& image, Color color) {
  int count = 0;
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) {
    count += Color{image.pixels[i], image.pixels[i + 1], image.pixels[i + 2]} == color;
  }
  return count;
}

TEST(Ticks, AreRoundNumbersWithinTheAxis) {
  const Ticks unit = make_ticks({0, 1}, 5);
  ASSERT_EQ(unit.values.size(), 6u);
  EXPECT_EQ(unit.text(unit.values[1]), "0.2");
  EXPECT_EQ(unit.text(unit.values[5]), "1.0");
  const Ticks wide = make_ticks({-130, 2400}, 6);
  EXPECT_EQ(wide.values.front(), 0);
  EXPECT_EQ(wide.text(wide.values.back()), "2000");
  EXPECT_EQ(make_ticks({0.0012, 0.0019}, 4).decimals, 4);
}

TEST(Ticks, TheRangeFitsAnyData) {
  EXPECT_EQ(fit_range({0, 1}, {5, 6}, 5).high, 1);
  EXPECT_EQ(fit_range({}, {3, kNan, 97, kInf}, 5).high, 100);
  EXPECT_EQ(fit_range({}, {3, 97}, 5).low, 0);
  for (const std::vector<double>& data : std::vector<std::vector<double>>{
           {}, {kNan}, {0}, {7, 7}, {1e-200, 2e-200}, {-1e299, 1e299}, {1e15, 1e15 + 1}, {-3, -3}}) {
    for (const AxisRange wanted : {AxisRange{}, AxisRange{kNan, 1}, AxisRange{2, 1}, AxisRange{0, 1e-320}}) {
      const AxisRange range = fit_range(wanted, data, 5);
      EXPECT_LT(range.low, range.high);
      const Ticks ticks = make_ticks(range, 5);
      EXPECT_GE(ticks.values.size(), 2u);
      EXPECT_LE(ticks.values.size(), 12u);
    }
  }
}

TEST(LinePlot, DrawsEachCurveInItsColour) {
  const LinePlot plot{.title = "title",
                      .x_label = "x",
                      .y_label = "y",
                      .curves = {{"a", {0, 1}, {0.2, 0.2}}, {"b", {0, 1}, {0.7, 0.7}}},
                      .x_range = {0, 1},
                      .y_range = {0, 1},
                      .width = 400,
                      .height = 300};
  const Image image = draw_plot(plot);
  EXPECT_EQ(image.width, 400);
  EXPECT_EQ(image.height, 300);
  EXPECT_GT(count_pixels(image, plot_color(0)), 200);
  EXPECT_GT(count_pixels(image, plot_color(1)), 200);
  EXPECT_EQ(image.pixels, draw_plot(plot).pixels);
}

TEST(LinePlot, HostileValuesAreSafe) {
  LinePlot plot{
      .curves = {{"", {kNan, 0, kInf, 1}, {0, 1, 2, -kInf}}, {"", {0, 1e308}, {-1e308, 5}}, {"", {}, {}}}};
  plot.x_range = {0, 1};
  EXPECT_EQ(draw_plot(plot).width, plot.width);
  EXPECT_EQ(draw_plot(LinePlot{}).width, 960);
  plot.curves.assign(60, {"one of many", {0, 1}, {1, 0}});
  EXPECT_EQ(draw_plot(plot).width, plot.width);
  plot.curves = {{"", {1, 2}, {1}}};
  EXPECT_THROW(draw_plot(plot), Error);
  EXPECT_THROW(draw_plot(LinePlot{.width = 5}), Error);
}

TEST(BarPlot, LongerBarsForLargerValues) {
  const auto painted = [](double value) {
    return count_pixels(draw_plot(BarPlot{.bars = {{"a", {value}}}, .range = {0, 100}}), plot_color(0));
  };
  EXPECT_NEAR(double(painted(80)) / painted(40), 2, 0.05);
  EXPECT_EQ(painted(-1), 0);
  EXPECT_EQ(painted(kNan), 0);
  EXPECT_GT(painted(1e300), painted(90));
}

TEST(BarPlot, PartsAreStackedInTheirColours) {
  const Image image = draw_plot(BarPlot{.parts = {"one", "two"}, .bars = {{"a", {30, 60}}, {"b", {10, 20}}}});
  EXPECT_NEAR(double(count_pixels(image, plot_color(1))) / count_pixels(image, plot_color(0)), 2, 0.2);
  EXPECT_THROW(draw_plot(BarPlot{.bars = {{"a", {1, 2}}}}), Error);
  EXPECT_GT(draw_plot(BarPlot{}).height, 0);
}

TEST(ConfusionPlot, TheShareOfTheRowDecidesTheColour) {
  const ConfusionPlot plot{.labels = {"a", "b"}, .counts = {5, 0, 700, 700}};
  const Image image = draw_plot(plot);
  const Color full = mix(kWhite, {8, 48, 107}, 1);
  EXPECT_GT(count_pixels(image, full), 1500);  // the one cell that has all of its row
  EXPECT_LT(count_pixels(image, full), 56 * 56 + 100);
}

TEST(ConfusionPlot, AnyNumberOfClassesFits) {
  for (const std::size_t n : {1, 20, 26, 90, 600}) {
    const ConfusionPlot plot{
        .title = "t",
        .labels = std::vector<std::string>(n, "some class"),
        .counts = std::vector<std::int64_t>(n * n, std::numeric_limits<std::int64_t>::max())};
    const Image image = draw_plot(plot);
    EXPECT_GT(image.width, 100);
    EXPECT_LT(image.width, 2200);
  }
  EXPECT_GT(draw_plot(ConfusionPlot{.labels = {"a"}, .counts = {-4}}).width, 0);
  EXPECT_THROW(draw_plot(ConfusionPlot{.labels = {"a"}, .counts = {1, 2}}), Error);
  EXPECT_THROW(draw_plot(ConfusionPlot{}), Error);
}

TEST(SideBySide, KeepsEveryPixel) {
  Image red(30, 20), blue(50, 40);
  for (std::size_t i = 0; i < red.pixels.size(); i += 3) red.pixels[i] = 201;
  for (std::size_t i = 2; i < blue.pixels.size(); i += 3) blue.pixels[i] = 202;
  const std::vector<Panel> panels{{red, "ours"}, {blue, "theirs"}, {red, ""}};
  const Image row = side_by_side(panels);
  EXPECT_EQ(count_pixels(row, {201, 0, 0}), 2 * 30 * 20);
  EXPECT_EQ(count_pixels(row, {0, 0, 202}), 50 * 40);
  const Image grid = side_by_side(panels, 2);
  EXPECT_EQ(count_pixels(grid, {201, 0, 0}), 2 * 30 * 20);
  EXPECT_LT(grid.width, row.width);
  EXPECT_GT(grid.height, row.height);
}

TEST(SideBySide, RefusesWhatCannotBeDrawn) {
  EXPECT_EQ(side_by_side({}).width, 0);
  const Image wide(20000, 1);
  const std::vector<Panel> two{{wide, "a"}, {wide, "b"}};
  EXPECT_THROW(side_by_side(two), Error);
  EXPECT_EQ(side_by_side(std::vector<Panel>{{ImageView{}, "nothing"}}).pixels.empty(), false);
  EXPECT_THROW(side_by_side(std::vector<Panel>{{ImageView{nullptr, 4, 4, 12}, ""}}), Error);
}

}  // namespace
}  // namespace osprey
