// saved_model.pb, of which nothing is run: what it says of its signatures and of who wrote it
// (tensorflow/core/protobuf/saved_model.proto, meta_graph.proto). Its graph is stepped over unread.
#pragma once

#include <map>
#include <string>

#include "formats/source.h"

namespace osprey {

// Of every meta graph, the first one's keys without a number behind "saved_model":
//   saved_model.tags                                     "serve"
//   saved_model.tensorflow_version                       "2.15.1"
//   saved_model.signature.serving_default.input.NAME     "uint8[1, ?, ?, 3]"
//   saved_model.signature.serving_default.output.NAME    "float[1, 100, 4]"
// Throws Error(kBadInput) naming the file. Limits: 16 meta graphs, 4,096 keys, 1 MiB of text.
std::map<std::string, std::string> read_saved_model(const Source& file);

}  // namespace osprey
