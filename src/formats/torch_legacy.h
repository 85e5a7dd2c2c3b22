// torch.save before 1.6 (and _use_new_zipfile_serialization=False): five pickles, one after the other: a
// magic number, the protocol version, the writer's machine, the object, the list of storage keys; then each
// storage in that order, as its number of elements (int64) and its elements.
#pragma once

#include "core/named_tensor.h"
#include "formats/source.h"

namespace osprey {

// Whether the bytes start with torch's magic number.
bool is_torch_legacy(Bytes bytes);

Checkpoint read_torch_legacy(const Source& source);

}  // namespace osprey
