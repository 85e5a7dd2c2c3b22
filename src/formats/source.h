// What a reader of a container format gets: the bytes of a file, a name for messages, and what keeps them
// alive. The bytes are hostile: every reader of this folder ends in a Checkpoint (or tree) or in
// Error(kBadInput) that names the file, in memory bounded by the file's size and fixed limits.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "core/bytes.h"

namespace osprey {

struct Source {
  std::string name;  // the path as the user gave it
  Bytes bytes;
  std::shared_ptr<const void> owner;
};

// Maps the file. Throws Error(kBadInput) naming it when it cannot be read.
Source open_source(const std::filesystem::path& file);

// Text from a file as it may stand in a message: at most `limit` bytes of it, control and non-ASCII bytes
// escaped.
std::string printable(std::string_view text, std::size_t limit = 80);

}  // namespace osprey
