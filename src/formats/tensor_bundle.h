// TensorFlow's tensor bundle, what tf.train.Saver (TF1, V2 format), tf.train.Checkpoint and SavedModels store
// variables in: PREFIX.index, a sorted table from names to where each tensor lies, and raw little-endian data
// in PREFIX.data-00000-of-0000N (tensorflow/core/protobuf/tensor_bundle.proto).
//
// Tensors have the index's keys for names and borrow from the mapped shards; the checksum of each is verified
// when it is loaded, and nothing else is touched. Without a shard names and shapes are still listed: loading
// says what is missing. Of TensorFlow 2 checkpoints the object graph is read, for full names
// (formats/tf_object_graph.h). Texts and types that are not read appear among the scalars with a note.
//
// Not read: big-endian data; variables stored in slices (partitioned), refused when one is loaded.
// Limits: 200,000 tensors, 64 MiB of names.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>

#include "core/named_tensor.h"
#include "formats/crc32c.h"
#include "formats/source.h"

namespace osprey {

// The file of shard `index` of `count`; none when it does not exist.
using OpenShard = std::function<std::optional<Source>(std::uint32_t index, std::uint32_t count)>;

// `index` is the contents of PREFIX.index.
Checkpoint read_tensor_bundle(const Source& index, const OpenShard& open_shard,
                              Checksums checksums = Checksums::kVerify);

// The same, with the shards beside it. A name without ".index" is taken for the prefix itself.
Checkpoint read_tensor_bundle(const Source& index);

// "model.data-00000-of-00002" for the prefix "model".
std::string shard_name(const std::string& prefix, std::uint32_t index, std::uint32_t count);

}  // namespace osprey
