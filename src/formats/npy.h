// numpy's .npy files, versions 1 to 3, and .npz archives of them (numpy.savez, stored, and savez_compressed,
// deflated). After numpy's format description NEP 1.
#pragma once

#include "core/named_tensor.h"
#include "formats/source.h"
#include "formats/zip.h"

namespace osprey {

bool is_npy(Bytes bytes);
bool is_npz(const ZipArchive& zip);

// One tensor, without a name.
Checkpoint read_npy(const Source& source);

// The arrays under their keys. Deflated ones are inflated when they are loaded, up to 4 GiB each.
Checkpoint read_npz(const Source& source);

}  // namespace osprey
