#include "cli/support/evaluation.h"

#include <algorithm>

#include "core/error.h"

namespace osprey {

void pool_categories(CocoAnnotations& truth, const Category& all) {
  std::stable_sort(
      truth.annotations.begin(), truth.annotations.end(),
      [](const CocoAnnotation& a, const CocoAnnotation& b) { return a.category_id < b.category_id; });
  for (CocoAnnotation& a : truth.annotations) a.category_id = all.id;
  truth.categories = {{all.id, all.name}};
}

std::vector<CocoType> types_of(const LoadedEngine& engine) {
  std::vector<CocoType> out{CocoType::kBbox};
  if (engine.has_output("mask_ends")) out.push_back(CocoType::kSegm);
  if (engine.has_output("keypoints")) out.push_back(CocoType::kKeypoints);
  return out;
}

void detect_all(DetectionSession& session, const RunOptions& options, const CocoAnnotations& truth,
                const std::filesystem::path& folder, const OnImage& on_image,
                const ProposalSource& proposals) {
  for (std::size_t i = 0; i < truth.images.size(); ++i) {
    const CocoImage& image = truth.images[i];
    // A name from the file must not lead out of the folder.
    const std::filesystem::path name = std::filesystem::path(image.file_name).filename();
    require(!name.empty(), "{}: image {} has no \"file_name\"", truth.source, image.id);
    const Image photo = read_image(folder / name);
    const ImageView view = photo;
    const auto given = proposals.of({names_of(image)});
    on_image(image, photo, session.detect({&view, 1}, options, nullptr, given).front(), i);
  }
}

}  // namespace osprey
