// TensorFlow's real files. They are no part of the repository: the tests skip where they are absent.
#include <fstream>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/file.h"
#include "formats/checkpoint.h"
#include "formats/fixture_files.h"
#include "formats/protobuf_text.h"
#include "formats/tf_object_graph.h"

namespace osprey {
namespace {

using testing::HasSubstr;

struct Row {
  std::string name, second, shape;  // second: the full name, or the type
  auto operator<=>(const Row&) const = default;
};

// Tables of the keys as TensorFlow itself lists them.
std::vector<Row> read_table(const fs::path& file) {
  std::vector<Row> out;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const auto first = line.find('\t'), last = line.rfind('\t');
    Row row{line.substr(0, first), line.substr(first + 1, last - first - 1), line.substr(last + 1)};
    if (row.name != kObjectGraphKey) out.push_back(std::move(row));
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<Row> rows_of(const Checkpoint& checkpoint, bool types) {
  const std::map<DType, std::string> names{{DType::kF32, "float32"}, {DType::kI64, "int64"}};
  std::vector<Row> out;
  for (const NamedTensor& t : checkpoint.tensors)
    out.push_back({t.name, types ? names.at(t.dtype) : t.full_name, to_string(t.shape)});
  std::sort(out.begin(), out.end());
  return out;
}

TEST(TfFixtures, OfficialIndexesListWithoutTheirData) {
  const fs::path folder = fixtures() / "tfod/official_index_fpnlite_320";
  if (!fs::exists(folder)) GTEST_SKIP() << "no fixture " << folder;
  const Checkpoint training = read_checkpoint(folder);
  EXPECT_EQ(training.format, "TensorFlow bundle");
  EXPECT_EQ(rows_of(training, true), read_table(folder / "ckpt0_keys.tsv"));
  EXPECT_EQ(rows_of(read_checkpoint(folder / "saved_model/variables/variables"), true),
            read_table(folder / "saved_model_keys.tsv"));
  try {
    training.tensors[0].load();
    FAIL() << "loaded data that are not there";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("ckpt-0.data-00000-of-00001 does not exist"));
  }
}

TEST(TfFixtures, KeysFullNamesAndShapesAreTensorFlows) {
  for (const char* name : {"tfod/ssd_mobilenet_v2_320", "efficientdet/efficientdet_d1_640"}) {
    const Unpacked unpacked(name);
    if (!unpacked.ok()) GTEST_SKIP() << "no fixture " << name;
    const fs::path folder = fs::exists(unpacked.file("checkpoint")) ? "" : "efficientdet-d1";
    const Checkpoint read = read_checkpoint(unpacked.file(folder));
    EXPECT_EQ(rows_of(read, false), read_table(fixtures() / name / "variables.tsv"));
    for (const NamedTensor& t : read.tensors) EXPECT_EQ(t.load().shape(), t.shape);  // with checksums
  }
}

// The SavedModel's keys are positions in lists; its object graph has the same paths.
TEST(TfFixtures, PathsMeanTheSameVariablesInASavedModel) {
  const Unpacked unpacked("tfod/ssd_mobilenet_v2_320");
  if (!unpacked.ok()) GTEST_SKIP() << "no fixture tfod/ssd_mobilenet_v2_320";
  const Checkpoint training = read_checkpoint(unpacked.file("checkpoint"));
  const Checkpoint exported = read_checkpoint(unpacked.file("saved_model"));
  EXPECT_EQ(exported.scalars.at("saved_model.signature.serving_default.output.detection_boxes"),
            "float[1, 100, 4]");
  std::map<std::string_view, const NamedTensor*> by_key;
  for (const NamedTensor& t : exported.tensors) by_key[t.name] = &t;
  constexpr std::string_view kEnding = "/.ATTRIBUTES/VARIABLE_VALUE";
  int found = 0;
  for (const NamedTensor& t : training.tensors) {
    if (is_training_state(t.name)) continue;
    const std::string path = '_' + t.name.substr(0, t.name.size() - kEnding.size());
    const auto key = exported.object_graph->key(path);
    ASSERT_TRUE(by_key.contains(key)) << path;
    EXPECT_EQ(by_key[key]->full_name, t.full_name);
    EXPECT_EQ(as_text(by_key[key]->load().bytes()), as_text(t.load().bytes())) << path;
    ++found;
  }
  EXPECT_EQ(found, 324);
}

TEST(TfFixtures, EveryPipelineConfigReads) {
  int read = 0;
  std::error_code ignored;
  for (const auto& folder : fs::directory_iterator(fixtures() / "tfod", ignored)) {
    const fs::path file = folder.path() / "pipeline.config";
    if (!fs::exists(file)) continue;
    const auto config = parse_protobuf_text(read_text(file), file.string());
    EXPECT_GE(config.tree.at("model").items.size(), 1u) << file;
    EXPECT_TRUE(config.warnings.empty()) << file;
    ++read;
  }
  if (read == 0) GTEST_SKIP() << "no fixtures";
  EXPECT_GE(read, 9);
}

}  // namespace
}  // namespace osprey
