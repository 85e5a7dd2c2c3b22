#include "cli/support/evaluation.h"

#include <algorithm>
#include <deque>

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
  struct UnderWay {
    const CocoImage& image;
    Image photo;
    std::size_t index;
  };
  std::deque<UnderWay> under_way;
  const auto finish = [&] {
    const UnderWay& first = under_way.front();
    on_image(first.image, first.photo, session.finish().front(), first.index);
    under_way.pop_front();
  };
  for (std::size_t i = 0; i < truth.images.size(); ++i) {
    const CocoImage& image = truth.images[i];
    // A name from the file must not lead out of the folder.
    const std::filesystem::path name = std::filesystem::path(image.file_name).filename();
    require(!name.empty(), "{}: image {} has no \"file_name\"", truth.source, image.id);
    under_way.push_back({image, read_image(folder / name), i});
    const ImageView view = under_way.back().photo;
    session.start({&view, 1}, options, proposals.of({names_of(image)}));
    if (under_way.size() == 2) finish();
  }
  while (!under_way.empty()) finish();
}

}  // namespace osprey
