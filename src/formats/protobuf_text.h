// Protobuf's text format (protobuf.dev/reference/protobuf/textformat-spec) without a schema: pipeline.config,
// label_map.pbtxt, the `checkpoint` file of a folder of checkpoints.
//
// A message is a map. Since the schema would say which fields are repeated, and is not here:
//   - a field that is there once is its value,
//   - a field that is there several times, or is written [a, b], is a list, in the file's order.
// So a reader asks for a repeated field with ConfigReader::repeated() (formats/config_reader.h), which takes
// both, and for any other with find(): a single field that is there twice then is "a list" where a value is
// expected, an error as in protobuf.
//
// Scalars keep their text: numbers without the suffix f, infinities and NaN as YAML writes them, enums and
// `true` as they stand; strings are marked `quoted`, with their escapes decoded and neighbours joined. The
// key of an extension keeps its brackets: "[object_detection.thing]".
//
// Limits: 4 MiB of text, 64 levels, 500,000 values, 256 bytes a key. Errors are "file:line:column: ...".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/config_tree.h"

namespace osprey {

struct ProtobufText {
  ConfigTree tree;  // a map
  // What was passed over, as "file:line: ...". Only the letter s right behind a string is: the official Mask
  // R-CNN config has `input_path: "PATH_TO_BE_CONFIGURED"s`.
  std::vector<std::string> warnings;
};

// `name` is the file in messages. Throws Error(kBadInput).
ProtobufText parse_protobuf_text(std::string_view text, const std::string& name);

}  // namespace osprey
