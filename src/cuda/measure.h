// How long work takes on the device.
#pragma once

#include <functional>
#include <optional>

#include <cuda_runtime_api.h>

namespace osprey {

// Seconds that one `launch` takes among others like it in a replayed CUDA graph, the least of a few tries;
// none when the launch fails.
std::optional<double> measure_launches(cudaStream_t stream, const std::function<void()>& launch);

}  // namespace osprey
