// Whether this build has machine code for the current GPU.
#pragma once

namespace osprey {

// Error(kDevice) naming the cure when it has none.
void probe_device_code();

}  // namespace osprey
