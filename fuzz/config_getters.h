// What the targets of config formats share.
#pragma once

#include "checkpoint_target.h"
#include "formats/config_tree.h"

namespace osprey::fuzz {

// Every getter on every node: each gives a value or Error(kBadInput).
inline void ask(const ConfigTree& node) {
  expect_bad_input_only([&] { node.as_int(); });
  expect_bad_input_only([&] { node.as_double(); });
  expect_bad_input_only([&] { node.as_bool(); });
  expect_bad_input_only([&] { node.as_string(); });
  expect_bad_input_only([&] { node.as_doubles(); });
  for (const auto& item : node.items) ask(item);
}

}  // namespace osprey::fuzz
