// Files that are shipped beside the command.
#pragma once

#include <filesystem>
#include <string>

namespace osprey {

// The folder `name` of an installed command's share/osprey, or `source` of the source tree that the command
// was built from: whichever holds `file`. Throws when neither does.
std::filesystem::path shared_folder(const std::string& name, const std::string& source,
                                    const std::string& file);

}  // namespace osprey
