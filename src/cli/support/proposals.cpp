#include "cli/support/proposals.h"

#include "core/error.h"

namespace osprey {

void declare_proposals(CLI::App& app, std::string& file) {
  app.add_option(
      "--proposals", file,
      "Proposals of each image, for engines that need them (Fast R-CNN): COCO results, detections.json "
      "of an RPN engine, or Detectron2's pickle");
}

ImageNames names_of(const std::filesystem::path& file) {
  ImageNames out{file.filename().string(), file.stem().string()};
  // COCO's files are numbered, with zeros in front, and its images called by the number.
  const std::string& stem = out[1];
  const auto digits = stem.find_first_not_of('0');
  if (!stem.empty() && stem.find_first_not_of("0123456789") == std::string::npos)
    out.push_back(digits == std::string::npos ? "0" : stem.substr(digits));
  return out;
}

ImageNames names_of(const CocoImage& image) {
  return {std::to_string(image.id), std::filesystem::path(image.file_name).filename().string()};
}

ProposalSource::ProposalSource(const std::string& file, const std::string& engine_name,
                               const LoadedEngine& engine) {
  if (engine.needs_proposals() && file.empty())
    fail(ErrorCode::kUsage,
         "{}: {}: this engine detects in proposals made beforehand; give them with --proposals FILE",
         engine_name, engine.data().model.description);
  if (!engine.needs_proposals() && !file.empty())
    fail(ErrorCode::kUsage, "--proposals {}: {} makes its own proposals", file, engine_name);
  if (!file.empty()) file_.emplace(file);
}

std::vector<std::vector<Proposal>> ProposalSource::of(const std::vector<ImageNames>& images) const {
  std::vector<std::vector<Proposal>> out;
  if (!file_) return out;
  for (const ImageNames& names : images) out.push_back(file_->of(names));
  return out;
}

}  // namespace osprey
