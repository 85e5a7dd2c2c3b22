// The maps that a backbone gives to its heads.
#pragma once

#include <string>
#include <vector>

#include "graph/net.h"

namespace osprey {

struct Feature {
  std::string name;  // "res4", "p3"
  ValueId value = kNoValue;
  int stride = 1;  // network pixels a feature pixel
};
using Features = std::vector<Feature>;

// Those with these names, in this order; a name that the backbone does not give is bad input, `key` being the
// config's key that asked for it.
Features select_features(const Features& features, const std::vector<std::string>& names,
                         const std::string& key);

}  // namespace osprey
