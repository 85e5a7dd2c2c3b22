// osprey zoo: the official models whose config names work without the framework's files.
#include <nlohmann/json.hpp>

#include "arch/family.h"
#include "cli/support/verb.h"

namespace osprey {
namespace {

int zoo(bool as_json) {
  nlohmann::json rows = nlohmann::json::array();
  for (const Family& family : families()) {
    if (!as_json) fmt::print("{}:\n", family.name);
    for (const auto& [config, description] : family.zoo()) {
      if (as_json)
        rows.push_back({{"family", family.name}, {"config", config}, {"description", description}});
      else
        fmt::print("  {:<66} {}\n", config, description);
    }
  }
  if (as_json) fmt::print("{}\n", rows.dump(2));
  return 0;
}

}  // namespace

Verb zoo_verb() {
  return {"zoo", "Official models whose config names are built in",
          "  osprey zoo\n"
          "  osprey build model_final.pkl --config COCO-Detection/retinanet_R_50_FPN_3x.yaml -o r.osprey\n",
          [](CLI::App&, const CommonOptions& common) { return [&common] { return zoo(common.json); }; }};
}

}  // namespace osprey
