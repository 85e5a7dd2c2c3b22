#include "cli/support/bench_photos.h"

#include <algorithm>
#include <cstdio>
#include <random>

#include "cli/support/inputs.h"
#include "core/error.h"

namespace osprey {
namespace {

// Timing on constant data would flatter.
Image noise(const std::string& size) {
  int height = 0, width = 0;
  if (std::sscanf(size.c_str(), "%dx%d", &height, &width) != 2 || height < 1 || width < 1 || height > 16384 ||
      width > 16384)
    fail(ErrorCode::kUsage, "--size {}: write HEIGHTxWIDTH of the photo, like 800x1333", size);
  Image out(width, height);
  std::mt19937 random(1);
  for (auto& p : out.pixels) p = static_cast<std::uint8_t>(random());
  return out;
}

}  // namespace

BenchPhotos::BenchPhotos(const std::vector<std::string>& inputs, const std::string& size, bool decode)
    : decode_(decode) {
  if (decode && inputs.empty()) fail(ErrorCode::kUsage, "--end-to-end needs --input with photos to read");
  if (inputs.empty()) {
    kept_.push_back(noise(size));
    return;
  }
  files_ = find_images(inputs);
  if (!decode)
    for (const auto& file : files_) kept_.push_back(read_image(file));
}

bool BenchPhotos::one_size() const {
  return !decode_ && std::all_of(kept_.begin(), kept_.end(), [&](const Image& photo) {
    return photo.width == kept_[0].width && photo.height == kept_[0].height;
  });
}

std::vector<ImageView> BenchPhotos::round(int number, int batch, PhotoReader& reader) const {
  std::vector<ImageView> out;
  const auto first = static_cast<std::size_t>(number) * static_cast<std::size_t>(batch);
  for (std::size_t i = 0; i < static_cast<std::size_t>(batch); ++i)
    out.push_back(decode_ ? reader.read(files_[(first + i) % files_.size()], i)
                          : kept_[(first + i) % kept_.size()].view());
  return out;
}

}  // namespace osprey
