#include "eval/categories.h"

#include <map>
#include <set>

#include "core/error.h"

namespace osprey {

std::vector<std::int64_t> match_categories(const std::vector<Category>& classes,
                                           const CocoAnnotations& truth) {
  std::map<std::string, std::int64_t> by_name;
  std::set<std::int64_t> ids;
  for (const CocoCategory& c : truth.categories) {
    by_name.emplace(c.name, c.id);
    ids.insert(c.id);
  }
  std::vector<std::int64_t> out;
  std::size_t named = 0;
  bool clash = false;
  for (const Category& c : classes) {
    const auto it = by_name.find(c.name);
    const bool known = it != by_name.end();
    out.push_back(known ? it->second : c.id);
    if (known) ++named;
    clash |= !known && ids.contains(c.id);
  }
  // All classes are annotated, or all annotations have a class and no other class takes the id of one.
  if (named == classes.size() || (named == by_name.size() && !clash)) return out;
  require(truth.categories.size() == classes.size(),
          "{}: has {} categories, the engine {} classes of other names; give the names with --labels when "
          "building",
          truth.source, truth.categories.size(), classes.size());
  return {ids.begin(), ids.end()};
}

}  // namespace osprey
