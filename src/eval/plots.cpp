#include "eval/plots.h"

#include <algorithm>

#include <fmt/format.h>

#include "eval/curves.h"
#include "osprey/image.h"

namespace osprey {

namespace {

// Best class first; those without an instance are left out.
BarPlot class_plot(const CocoEval& eval) {
  BarPlot plot{.title = fmt::format("{}: AP of each class", name_of(eval.type)),
               .value_label = "AP (IoU 0.50:0.95), %"};
  plot.range = {0, 100};
  auto classes = eval.classes;
  std::erase_if(classes, [](const ClassSummary& c) { return c.ap < 0; });
  std::stable_sort(classes.begin(), classes.end(), [](const auto& a, const auto& b) { return a.ap > b.ap; });
  if (classes.size() > kMaxBars) classes.resize(kMaxBars);
  for (const auto& c : classes) plot.bars.push_back({c.name, {100 * c.ap}});
  return plot;
}

}  // namespace

std::vector<std::filesystem::path> write_plots(const std::filesystem::path& folder, const CocoEval& eval,
                                               const ConfusionMatrix& confusion) {
  std::filesystem::create_directories(folder);
  std::vector<std::filesystem::path> files;
  const auto write = [&](std::string_view name, const Image& picture) {
    files.push_back(folder / fmt::format("{}_{}.png", name_of(eval.type), name));
    write_image(files.back(), picture);
  };
  write("precision_recall",
        draw_plot(LinePlot{.title = fmt::format("{}: precision over recall", name_of(eval.type)),
                           .x_label = "recall",
                           .y_label = "precision",
                           .curves = precision_recall_curves(eval),
                           .x_range = {0, 1},
                           .y_range = {0, 1}}));
  write("class_ap", draw_plot(class_plot(eval)));
  write("confusion", draw_plot(ConfusionPlot{.title = fmt::format("{}: confusion", name_of(eval.type)),
                                             .labels = confusion.labels,
                                             .counts = confusion.counts}));
  return files;
}

}  // namespace osprey
