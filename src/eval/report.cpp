#include "eval/report.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "eval/json_text.h"

namespace osprey {

std::string summary_text(const CocoEval& eval) {
  std::string out;
  for (const auto& line : summary_lines(eval)) {
    const auto iou =
        line.iou ? fmt::format("{:.2f}", *line.iou)
                 : fmt::format("{:.2f}:{:.2f}", eval.iou_thresholds.front(), eval.iou_thresholds.back());
    out += fmt::format(" {:<18} {} @[ IoU={:<9} | area={:>6} | maxDets={:>3} ] = {:.3f}\n",
                       line.precision ? "Average Precision" : "Average Recall",
                       line.precision ? "(AP)" : "(AR)", iou, line.area, line.max_detections, line.value);
  }
  return out;
}

std::string class_table_text(const CocoEval& eval) {
  std::size_t width = 5;
  for (const auto& c : eval.classes) width = std::max(width, c.name.size());
  std::string out = fmt::format("{:<{}}  {:>6}  {:>6}  {:>6}  {:>7}  {:>9}\n", "class", width, "AP", "AP50",
                                "AP75", "images", "instances");
  const auto percent = [](double v) { return v < 0 ? std::string("-") : fmt::format("{:.2f}", 100 * v); };
  std::size_t without = 0;
  for (const auto& c : eval.classes) {
    without += c.instances == 0;
    if (c.instances == 0) continue;
    out += fmt::format("{:<{}}  {:>6}  {:>6}  {:>6}  {:>7}  {:>9}\n", c.name, width, percent(c.ap),
                       percent(c.ap50), percent(c.ap75), c.images, c.instances);
  }
  if (without != 0)
    out += fmt::format("{} more {} no instance\n", without, without == 1 ? "class has" : "classes have");
  return out;
}

std::string eval_json(std::span<const CocoEval> evals, std::span<const ProposalRecall> recall) {
  std::string out = "{";
  for (const auto& eval : evals) {
    if (out.size() > 1) out += ", ";
    out += fmt::format("\"{}\": {{\"stats\": [{}], \"classes\": [", name_of(eval.type),
                       fmt::join(eval.stats, ", "));
    bool first = true;
    for (const auto& c : eval.classes) {
      out += fmt::format(
          "{}{{\"id\": {}, \"name\": {}, \"AP\": {}, \"AP50\": {}, \"AP75\": {}, \"images\": {}, "
          "\"instances\": {}}}",
          std::exchange(first, false) ? "" : ", ", c.id, json_string(c.name), c.ap, c.ap50, c.ap75, c.images,
          c.instances);
    }
    out += "]}";
  }
  if (!recall.empty()) {
    std::string numbers;
    for (const ProposalRecall& r : recall)
      numbers += fmt::format("{}\"{}\": {}", numbers.empty() ? "" : ", ", r.name, r.value);
    out += fmt::format(", \"box_proposals\": {{{}}}", numbers);
  }
  return out + "}\n";
}

}  // namespace osprey
