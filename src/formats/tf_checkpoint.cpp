#include "formats/tf_checkpoint.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "formats/protobuf_text.h"
#include "formats/saved_model.h"
#include "formats/source.h"
#include "formats/tensor_bundle.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kIndex = ".index";
constexpr std::size_t kMaxStateFile = std::size_t{1} << 20;

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

fs::path with_ending(const fs::path& prefix, std::string_view ending) {
  return fs::path(prefix.string() + std::string(ending));
}

// The folder that a path lies in; "." for a bare name.
fs::path folder_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

std::vector<fs::path> indexes_in(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().filename().string().ends_with(kIndex) && is_file(entry.path()))
      out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

// The index that the folder's file `checkpoint` names. Only the name counts, not a folder that it may say:
// folders are moved, and a file must not choose what is read elsewhere.
std::optional<fs::path> index_by_state(const fs::path& folder) {
  const fs::path state = folder / "checkpoint";
  if (!is_file(state)) return std::nullopt;
  const auto text = parse_protobuf_text(read_text(state, kMaxStateFile), state.string());
  const std::string prefix = text.tree.at("model_checkpoint_path").as_string();
  const fs::path name = fs::path(prefix).filename();
  require(!name.empty() && name != "." && name != "..", "{}: \"{}\" names no checkpoint", state.string(),
          printable(prefix));
  return with_ending(folder / name, kIndex);
}

std::string listed(const std::vector<fs::path>& files) {
  constexpr std::size_t kShown = 5;
  std::string out;
  for (std::size_t i = 0; i < std::min(kShown, files.size()); ++i)
    out += (i == 0 ? "" : ", ") + files[i].filename().string();
  return files.size() > kShown ? out + ", ..." : out;
}

std::optional<fs::path> find_index(const fs::path& folder) {
  auto named = index_by_state(folder);
  if (named && is_file(*named)) return named;
  const auto all = indexes_in(folder);
  if (all.size() == 1) return all[0];
  require(all.empty(), "{}: holds several checkpoints ({}); give one of them", folder.string(), listed(all));
  if (named)
    bad_input("{}: its file `checkpoint` names {}, which does not exist", folder.string(),
              named->filename().string());
  return std::nullopt;
}

TfCheckpointFiles saved_model_in(const fs::path& folder) {
  const fs::path index = folder / "variables" / "variables.index";
  require(is_file(index),
          "{}: holds saved_model.pb, but no variables/variables.index (a frozen graph?); give the checkpoint "
          "that it was exported from",
          folder.string());
  return {.index = index, .saved_model = folder / "saved_model.pb"};
}

// An index that lies in a SavedModel's `variables` is read with it.
TfCheckpointFiles of_index(const fs::path& index) {
  const fs::path folder = folder_of(index);
  const fs::path model = folder_of(folder) / "saved_model.pb";
  if (folder.filename() == "variables" && is_file(model)) return {.index = index, .saved_model = model};
  return {.index = index};
}

TfCheckpointFiles find_in_folder(const fs::path& folder) {
  if (const auto index = find_index(folder)) return of_index(*index);
  if (is_folder(folder / "checkpoint"))
    if (const auto index = find_index(folder / "checkpoint")) return {.index = *index};
  for (const fs::path& model : {folder, folder / "saved_model"})
    if (is_file(model / "saved_model.pb")) return saved_model_in(model);
  bad_input(
      "{}: is a folder that holds no TensorFlow checkpoint: no file `checkpoint`, *.index or saved_model.pb",
      folder.string());
}

// PREFIX of PREFIX.meta and PREFIX.data-00000-of-00001; empty for other names.
std::string prefix_of_part(const std::string& path) {
  if (path.ends_with(".meta")) return path.substr(0, path.size() - 5);
  const auto data = path.rfind(".data-");
  const bool shard = data != std::string::npos && path.find("-of-", data) == data + 11;
  return shard ? path.substr(0, data) : std::string();
}

}  // namespace

std::optional<TfCheckpointFiles> find_tf_checkpoint(const fs::path& path) {
  if (is_folder(path)) return find_in_folder(path);
  const std::string name = path.string();
  if (!is_file(path)) {
    const fs::path index = with_ending(path, kIndex);
    return is_file(index) ? std::optional(of_index(index)) : std::nullopt;
  }
  if (path.filename() == "saved_model.pb") return saved_model_in(folder_of(path));
  if (name.ends_with(kIndex)) return of_index(path);
  const std::string prefix = prefix_of_part(name);
  const fs::path index = with_ending(prefix, kIndex);
  return !prefix.empty() && is_file(index) ? std::optional(of_index(index)) : std::nullopt;
}

Checkpoint read_tf_checkpoint(const TfCheckpointFiles& files) {
  Checkpoint out = read_tensor_bundle(open_source(files.index));
  if (!files.saved_model.empty()) out.scalars.merge(read_saved_model(open_source(files.saved_model)));
  return out;
}

std::optional<fs::path> find_beside_tf_checkpoint(const fs::path& path, std::string_view name) {
  fs::path folder = is_folder(path) ? path : folder_of(path);
  if (!folder.has_filename()) folder = folder.parent_path();  // "export/"
  constexpr int kMaxLevels = 3;                               // EXPORT/saved_model/variables
  for (int level = 0; level < kMaxLevels; ++level) {
    if (is_file(folder / name)) return folder / name;
    const std::string last = folder.filename().string();
    if (last != "checkpoint" && last != "variables" && !last.starts_with("saved_model")) return std::nullopt;
    folder = folder_of(folder);
  }
  return std::nullopt;
}

}  // namespace osprey
