#include "arch/blocks/features.h"

#include <algorithm>

namespace osprey {

Features select_features(const Features& features, const std::vector<std::string>& names,
                         const std::string& key) {
  require(!names.empty(), "{} is empty, expected names of feature maps", key);
  require(names.size() <= features.size(), "{} names {} feature maps, but the backbone gives {}", key,
          names.size(), features.size());
  Features out;
  for (const std::string& name : names) {
    const auto it =
        std::find_if(features.begin(), features.end(), [&](const Feature& f) { return f.name == name; });
    if (it == features.end()) {
      std::string known;
      for (const Feature& f : features) known += (known.empty() ? "" : ", ") + f.name;
      bad_input("{} names '{}', but the backbone gives {}", key, name, known);
    }
    out.push_back(*it);
  }
  return out;
}

}  // namespace osprey
