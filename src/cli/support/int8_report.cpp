#include "cli/support/int8_report.h"

#include <algorithm>

#include <fmt/core.h>

#include "cli/support/inputs.h"
#include "core/file.h"
#include "draw/side_by_side.h"
#include "osprey/draw.h"

namespace osprey {
namespace {

constexpr std::size_t kPictures = 8;
constexpr float kLeastScore = 0.3f;

std::string table(const Int8Report& report) {
  std::string out = "value\tblock\tprecision\tleast\tlargest\tlimit\tsaturated\tsqnr_db\n";
  for (const Int8Layer& l : report.layers)
    out += fmt::format("{}\t{}\t{}\t{:.6g}\t{:.6g}\t{:.6g}\t{:.3g}\t{:.1f}\n", l.value, l.block, l.precision,
                       l.least, l.largest, l.limit, l.saturated, l.sqnr);
  return out;
}

std::string table_of_choices(const Int8Report& report) {
  std::string out = "blocks\tap_drop\tap_error\tholds\n";
  for (const Int8Choice& c : report.choices)
    out += fmt::format("{}\t{:.5f}\t{:.5f}\t{}\n", c.blocks, c.ap_drop, c.ap_error, c.holds ? "yes" : "no");
  return out;
}

}  // namespace

void write_int8_report(const std::filesystem::path& folder, const Int8Report& report,
                       const std::vector<std::string>& labels) {
  make_folder(folder);
  write_file(folder / "layers.tsv", table(report));
  if (!report.choices.empty()) write_file(folder / "choices.tsv", table_of_choices(report));
  for (std::size_t i = 0; i < std::min(kPictures, report.photos.size()); ++i) {
    const Image photo = read_image(report.photos[i]);
    const DrawOptions drawn{.min_score = kLeastScore};
    const Image before = draw_detections(photo, report.before[i], labels, drawn),
                after = draw_detections(photo, report.after[i], labels, drawn);
    const std::vector<Panel> panels{{before, "fp32"}, {after, "int8"}};
    write_image(folder / report.photos[i].filename().replace_extension(".jpg"), side_by_side(panels));
  }
}

}  // namespace osprey
