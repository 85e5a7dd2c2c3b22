// --proposals FILE: where engines that need proposals (Fast R-CNN) get them from.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "engine/runtime.h"
#include "eval/coco_data.h"
#include "eval/proposal_file.h"

namespace osprey {

void declare_proposals(CLI::App& app, std::string& file);

// What a file may call an image: by name, by name without extension, by number.
using ImageNames = std::vector<std::string>;
ImageNames names_of(const std::filesystem::path& file);
ImageNames names_of(const CocoImage& image);

class ProposalSource {
 public:
  ProposalSource() = default;  // for engines that make their own
  // Wrong usage where an engine needs a file and has none, or has one and no need.
  ProposalSource(const std::string& file, const std::string& engine_name, const LoadedEngine& engine);

  // Those of each image of a batch; empty for engines that make their own.
  std::vector<std::vector<Proposal>> of(const std::vector<ImageNames>& images) const;

 private:
  std::optional<ProposalFile> file_;
};

}  // namespace osprey
