// The pickled form of a file of proposals (proposal_file.h).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "formats/source.h"
#include "osprey/detections.h"

namespace osprey {

// Each image's proposals by its id as text, read when they are asked for.
std::map<std::string, std::function<std::vector<Proposal>()>, std::less<>> read_proposal_pickle(
    const Source& source);

}  // namespace osprey
