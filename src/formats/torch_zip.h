// torch.save since 1.6: a zip of `<prefix>/data.pkl`, whose tensors refer to `<prefix>/data/<key>`, stored
// uncompressed so that tensors are borrowed from the mapped file, and `<prefix>/byteorder`.
#pragma once

#include "core/named_tensor.h"
#include "formats/source.h"
#include "formats/zip.h"

namespace osprey {

// Whether the archive is torch's, by its entries.
bool is_torch_zip(const ZipArchive& zip);

// Throws Error(kBadInput): also for TorchScript programs, which hold code, by name.
Checkpoint read_torch_zip(const Source& source);

}  // namespace osprey
