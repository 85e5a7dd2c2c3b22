#include "engine/trim.h"

#include <algorithm>
#include <array>
#include <map>

#include <fnmatch.h>

#include "arch/family/detectron1.h"
#include "arch/maskrcnn_benchmark/checkpoint.h"
#include "core/error.h"
#include "formats/checkpoint.h"
#include "formats/torch_write.h"

namespace osprey {
namespace {

bool matches(const std::string& pattern, std::string_view name) {
  if (name.starts_with("module.")) name.remove_prefix(7);
  return ::fnmatch(pattern.c_str(), std::string(name).c_str(), 0) == 0;
}

bool matches_any(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& p) { return matches(p, name); });
}

// maskrcnn-benchmark's names, those that it makes of Detectron's, and Detectron2's. The region proposal
// network's do not depend on the classes.
std::vector<std::string> class_layers() {
  return {"roi_heads.box.predictor.cls_score.*",
          "roi_heads.box.predictor.bbox_pred.*",
          "roi_heads.mask.predictor.mask_fcn_logits.*",
          "roi_heads.keypoint.predictor.kps_score_lowres.*",
          "cls_score.*",
          "bbox_pred.*",
          "mask_fcn_logits.*",
          "kps_score_lowres.*",
          "roi_heads.box_predictor.*",
          "roi_heads.mask_head.predictor.*",
          "roi_heads.keypoint_head.score_lowres.*"};
}

// The patterns to use; each must match a tensor.
std::vector<std::string> checked_patterns(const std::vector<std::string>& given,
                                          const std::vector<NamedTensor>& tensors) {
  std::vector<std::string> out;
  for (const std::string& pattern : given) {
    const auto meant = pattern == "classes" ? class_layers() : std::vector<std::string>{pattern};
    const bool any = std::any_of(tensors.begin(), tensors.end(),
                                 [&](const NamedTensor& t) { return matches_any(meant, t.name); });
    require(
        any,
        "{}: matches the name of no tensor; names are matched whole, as `osprey inspect` lists them, such "
        "as {}",
        pattern, tensors.back().name);
    out.insert(out.end(), meant.begin(), meant.end());
  }
  return out;
}

// The section that holds the model: "model", "state_dict", or the file itself.
std::string model_section(const Checkpoint& checkpoint) {
  for (const char* section : {"model", "state_dict"})
    for (const NamedTensor& t : checkpoint.tensors)
      if (t.section == section) return section;
  return "";
}

}  // namespace

TrimReport trim_checkpoint(const std::filesystem::path& source, const TrimOptions& options,
                           const std::filesystem::path& file) {
  return in_context(source.string(), [&] {
    const Checkpoint checkpoint = read_checkpoint(source);
    TrimReport report;
    std::vector<NamedTensor> model;
    if (is_detectron1(checkpoint)) {
      model = maskrcnn_benchmark::tensors_of(checkpoint);
    } else {
      const std::string section = model_section(checkpoint);
      std::map<std::string, std::size_t> beside;
      for (const NamedTensor& t : checkpoint.tensors) {
        if (t.section == section)
          model.push_back(t);
        else
          ++beside[t.section.substr(0, t.section.find('/'))];
      }
      for (const auto& [name, count] : beside)
        report.removed.push_back(fmt::format("{} ({} tensors)", name, count));
    }
    require(!model.empty(), "holds no tensors");
    const auto patterns = checked_patterns(options.patterns, model);
    const auto keep = checked_patterns(options.keep, model);
    std::vector<NamedTensor> kept;
    for (const NamedTensor& t : model) {
      if (matches_any(patterns, t.name) && !matches_any(keep, t.name))
        report.removed.push_back(t.name + " " + to_string(t.shape));
      else
        kept.push_back(t);
    }
    require(!kept.empty(), "nothing would be left of it");
    write_torch(file, kept);
    report.kept = kept.size();
    return report;
  });
}

}  // namespace osprey
