// The images that a user names: files, folders, globs.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace osprey {

// Files as they are; of a folder its images (jpg, jpeg, png, bmp) by name; of a glob what it matches. Throws
// when something is not there, or nothing is left.
std::vector<std::filesystem::path> find_images(const std::vector<std::string>& inputs);

// Creates a folder for output; an error when a file is in the way.
void make_folder(const std::filesystem::path& folder);

}  // namespace osprey
