// What the heads of a two-stage detector compute on boxes that are given, without what the shifts of its own
// boxes would add.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "parity/match.h"
#include "parity/model_case.h"

namespace osprey {

struct GivenBoxesRun {
  std::map<std::string, Tensor> stages;          // those asked for, half-precision ones in f32
  std::vector<std::optional<std::size_t>> rows;  // of the stages, for each box
};

// A run on one photo in which RoIAlign takes its crops at `boxes` (in pixels of the network's input) wherever
// it would read the value `instead_of`: "proposal_boxes" or "det_boxes_net". `rows`: how many of those the
// run has of its own, which the heads' other inputs have, too; boxes beyond them are left out.
GivenBoxesRun run_on_given_boxes(const LoadedEngine& engine, const Image& photo,
                                 const std::string& instead_of, const std::vector<Corners>& boxes,
                                 std::int64_t rows, const std::vector<std::string>& stages);

}  // namespace osprey
