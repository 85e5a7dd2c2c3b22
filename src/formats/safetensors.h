// safetensors: the size of a JSON header (u64), the header, the tensors' bytes. The header maps each name to
// its type, shape and byte range; the ranges must follow each other without gaps or overlaps and cover the
// rest of the file, as the format demands. `__metadata__` becomes scalars.
#pragma once

#include "core/named_tensor.h"
#include "formats/source.h"

namespace osprey {

// Whether the bytes may be a safetensors file: a plausible header size, then '{'.
bool is_safetensors(Bytes bytes);

// Limit: 16 MiB of header. Throws Error(kBadInput).
Checkpoint read_safetensors(const Source& source);

}  // namespace osprey
