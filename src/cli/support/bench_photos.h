// The photos that `osprey bench` runs: of noise, or of the user's files.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "engine/devices.h"

namespace osprey {

class BenchPhotos {
 public:
  // Without inputs, one photo of noise; `size` is its "HEIGHTxWIDTH". With `decode`, files are read and
  // decoded for each round, and otherwise kept.
  BenchPhotos(const std::vector<std::string>& inputs, const std::string& size, bool decode);

  // Whether every run is of one size, so that the last one can be replayed for all.
  bool one_size() const;

  // A batch: the next photos in turn, those that are decoded each time by `reader`.
  std::vector<ImageView> round(int number, int batch, PhotoReader& reader) const;

 private:
  bool decode_;
  std::vector<std::filesystem::path> files_;
  std::vector<Image> kept_;
};

}  // namespace osprey
