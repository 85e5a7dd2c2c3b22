#include "arch/family/select.h"

#include <algorithm>

#include "core/error.h"

namespace osprey {
namespace {

// "pickle of 4 tensors: a, b, c, ..."
std::string describe(const Checkpoint& checkpoint) {
  constexpr std::size_t kShown = 5;
  std::string text = fmt::format("{} of {} tensors", checkpoint.format, checkpoint.tensors.size());
  for (std::size_t i = 0; i < std::min(kShown, checkpoint.tensors.size()); ++i)
    text += (i == 0 ? ": " : ", ") + checkpoint.tensors[i].name;
  return checkpoint.tensors.size() > kShown ? text + ", ..." : text;
}

std::string names_of(const std::vector<const Family*>& list) {
  std::string text;
  for (const Family* family : list) text += (text.empty() ? "" : ", ") + family->name;
  return text;
}

}  // namespace

const Family& select_family(const ImportRequest& request) {
  int surest = 0;
  std::vector<const Family*> all, best;
  for (const Family& family : families()) {
    all.push_back(&family);
    const int sure = family.recognise(request);
    if (sure > surest) best.clear();
    surest = std::max(surest, sure);
    if (sure > 0 && sure == surest) best.push_back(&family);
  }
  require(!best.empty(), "{}: no family of models that is known here ({}) has such weights: {}",
          request.source, names_of(all), describe(request.checkpoint));
  require(best.size() == 1, "{}: could be of several families ({}): {}", request.source, names_of(best),
          describe(request.checkpoint));
  return *best.front();
}

Model import_model(const ImportRequest& request) { return select_family(request).build(request); }

}  // namespace osprey
