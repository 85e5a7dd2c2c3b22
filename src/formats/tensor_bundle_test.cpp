// Tensor bundles, on the files of scripts/make_tf_corpus.py, and the folders they come in.
#include "formats/tensor_bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/file.h"
#include "formats/checkpoint.h"
#include "formats/snappy.h"
#include "formats/tf_checkpoint.h"
#include "formats/tf_object_graph.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

std::string corpus(const std::string& folder, const std::string& name) {
  return read_text(fs::path(OSPREY_SOURCE_DIR) / "fuzz" / "corpus" / folder / name);
}

// What the error of `body` says.
template <class Body>
std::string refusal(Body body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    return e.what();
  }
  return "no error";
}

// A folder of its own, removed with the test, in which corpus files become bundles.
class Bundle : public testing::Test {
 protected:
  Bundle() { fs::create_directories(folder_); }
  ~Bundle() override { fs::remove_all(folder_); }

  // Writes PREFIX.index and PREFIX.data-..., and gives the prefix.
  fs::path unpack(const std::string& name, const fs::path& prefix) {
    const std::string bytes = corpus("tensor_bundle", name);
    std::uint32_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof size);
    const fs::path path = folder_ / prefix;
    fs::create_directories(path.parent_path());
    write_file(path.string() + ".index", bytes.substr(4, size));
    const auto data = bytes.size() > 4 + std::size_t{size} ? bytes.substr(4 + std::size_t{size}) : "";
    write_file(shard_name(path.string(), 0, 1), data);
    return path;
  }
  fs::path unpack(const std::string& name) { return unpack(name, name); }

  fs::path write(const fs::path& name, const std::string& text) {
    fs::create_directories((folder_ / name).parent_path());
    write_file(folder_ / name, text);
    return folder_ / name;
  }

  std::string refused(const fs::path& path) {
    return refusal([&] {
      for (const auto& t : read_checkpoint(path).tensors) t.load();
    });
  }

  fs::path folder_ = fs::temp_directory_path() / fmt::format("osprey_bundle_test_{}", ::getpid());
};

std::vector<float> values(const Checkpoint& checkpoint, const std::string& name) {
  for (const auto& t : checkpoint.tensors) {
    if (t.name != name) continue;
    const Tensor floats = t.load().to_f32();
    const auto span = floats.values<float>();
    return {span.begin(), span.end()};
  }
  throw std::out_of_range("no tensor " + name);
}

TEST(Crc32c, KnownValues) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xe3069283u);
  EXPECT_EQ(crc32c(as_bytes("56789"), crc32c(as_bytes("1234"))), 0xe3069283u);
  EXPECT_EQ(crc32c(as_bytes(std::string(32, '\0'))), 0x8a9136aau);  // RFC 3720, B.4
  EXPECT_EQ(crc32c({}), 0u);
}

TEST(Snappy, LiteralsAndCopies) {
  const auto text = [](const std::string& name) {
    const std::string block = corpus("snappy", name);
    return std::string(as_text(snappy_decompress(as_bytes(block), 1 << 20)));
  };
  std::string expected;
  for (int i = 0; i < 4; ++i) expected += "the quick brown fox, the quick brown dog, the lazy fox";
  EXPECT_EQ(text("text"), expected);
  EXPECT_EQ(text("run"), std::string(100, 'a'));
  EXPECT_EQ(text("long_literal"), std::string(300, 'y'));
  EXPECT_EQ(text("empty"), "");
}

TEST(Snappy, DamageIsRefused) {
  const auto error = [](const std::string& name) {
    const std::string block = corpus("snappy", name);
    return refusal([&] { snappy_decompress(as_bytes(block), 1 << 20); });
  };
  EXPECT_EQ(error("bad_back"), "snappy: a copy from 9 bytes back after 1 bytes");
  EXPECT_EQ(error("bad_zero"), "snappy: a copy from 0 bytes back after 1 bytes");
  EXPECT_EQ(error("bad_more"), "snappy: more than the 2 bytes it should hold");
  EXPECT_EQ(error("bad_less"), "snappy: 3 bytes of 9 (is it truncated?)");
  EXPECT_THAT(error("bad_cut"), StartsWith("snappy: "));
  EXPECT_EQ(error("bad_size"), "snappy: a size of more than 32 bits");
  EXPECT_EQ(error("bad_bomb"), "snappy: 5 bytes cannot hold 524288");
  const std::string text = corpus("snappy", "text");
  EXPECT_THAT(refusal([&] { snappy_decompress(as_bytes(text), 10); }), HasSubstr("more than the 10"));
}

TEST_F(Bundle, PlainAndSnappyBlocksHoldTheSame) {
  for (const char* name : {"plain", "snappy"}) {
    const Checkpoint read = read_checkpoint(unpack(name));
    EXPECT_EQ(read.format, "TensorFlow bundle");
    std::vector<std::string> names;
    for (const auto& t : read.tensors) names.push_back(t.name);
    EXPECT_THAT(names, ElementsAre("conv/bias", "conv/kernel", "conv/kernel/ExponentialMovingAverage",
                                   "global_step"));
    EXPECT_EQ(read.tensors[1].shape, (Shape{2, 3}));
    EXPECT_THAT(values(read, "conv/kernel"), ElementsAre(0, 1, 2, 3, 4, 5));
    EXPECT_THAT(values(read, "conv/bias"), ElementsAre(0, 1, 2));
    EXPECT_EQ(read.object_graph, nullptr);
    EXPECT_EQ(read.tensors[0].full_name, "");
  }
}

TEST_F(Bundle, EveryElementType) {
  const Checkpoint read = read_checkpoint(unpack("types"));
  for (const char* name : {"f4", "f8", "f2", "i4", "i8", "u1", "bf16"})
    EXPECT_THAT(values(read, name), ElementsAre(0, 1, 2, 3)) << name;
  EXPECT_THAT(values(read, "b1"), ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(values(read, "empty"), IsEmpty());
  EXPECT_EQ(read.scalars.at("complex"), "complex64 of shape [2], which is not read");
  EXPECT_EQ(read.scalars.at("text"), "string of shape [], which is not read");
}

TEST_F(Bundle, ObjectGraphGivesFullNamesAndPaths) {
  const Checkpoint read = read_checkpoint(unpack("graph"));
  ASSERT_NE(read.object_graph, nullptr);
  const TfObjectGraph& graph = *read.object_graph;
  EXPECT_EQ(graph.size(), 8u);
  EXPECT_EQ(graph.key("model/backbone/kernel"), "_model/variables/0");
  EXPECT_EQ(graph.key("model/alias/kernel"), "_model/variables/0");
  EXPECT_EQ(graph.key("model/backbone/a.Sb..c"), "_model/variables/1");
  EXPECT_EQ(graph.key("kernel", *graph.find("model/backbone")), "_model/variables/0");
  EXPECT_EQ(graph.key("model/backbone"), "");
  EXPECT_EQ(graph.key("model/absent/kernel"), "");
  EXPECT_EQ(graph.children(TfObjectGraph::kRoot).size(), 3u);
  EXPECT_EQ(read.tensors[0].full_name, "conv/kernel");
  EXPECT_TRUE(graph.is_slot("optimizer/slot"));
  EXPECT_FALSE(graph.is_slot("_model/variables/0"));
}

TEST(TrainingState, ByKey) {
  for (const char* key :
       {"save_counter/.ATTRIBUTES/VARIABLE_VALUE", "optimizer/iter/.ATTRIBUTES/VARIABLE_VALUE",
        "step/.ATTRIBUTES/VARIABLE_VALUE", "global_step", "conv/kernel/Momentum",
        "model/a/kernel/.OPTIMIZER_SLOT/optimizer/momentum/.ATTRIBUTES/VARIABLE_VALUE"})
    EXPECT_TRUE(is_training_state(key)) << key;
  for (const char* key : {"model/a/kernel/.ATTRIBUTES/VARIABLE_VALUE", "steps", "conv/kernel"})
    EXPECT_FALSE(is_training_state(key)) << key;
}

struct Hostile {
  std::string file, expected;
};

TEST_F(Bundle, HostileFilesAreRefusedByName) {
  for (const Hostile& c :
       {Hostile{"bad_graph_child", "\"_CHECKPOINTABLE_OBJECT_GRAPH\": object graph: \"x\" is object 9 of 1"},
        Hostile{"bad_graph_cut", "object graph: needs bytes"},
        Hostile{"bad_graph_empty", "object graph: no objects, not even a root"},
        Hostile{"bad_sliced", "tensor \"part\": is stored in slices (a partitioned variable)"},
        Hostile{"bad_no_shard", "\"far\": is in data file 1 of 1"},
        Hostile{"bad_checksum", "tensor \"wrong\": the checksum of its data is"},
        Hostile{"bad_outside", "data-00000-of-00001: needs bytes 1099511627776 to"},
        Hostile{"bad_size", "\"small\": shape [5] of float in 8 bytes"},
        Hostile{"bad_huge", "\"huge\": shape: 1099511627776"},
        Hostile{"bad_negative", "\"less\": shape"},
        Hostile{"bad_big_endian", "its data are big-endian"},
        Hostile{"bad_version", "asks for version 7"},
        Hostile{"bad_v1", "V1?"},
        Hostile{"bad_no_header", "its first entry is no tensor bundle's header"},
        Hostile{"bad_index_cut", "does not end as a table"},
        Hostile{"bad_data_cut", "is the file truncated?"},
        Hostile{"bad_block_checksum", "the block at byte 0: its checksum is"},
        Hostile{"bad_compression", "compressed in way 2"},
        Hostile{"bad_bomb", "snappy: 1073741824 bytes are more than"},
        Hostile{"bad_order", "keys that do not ascend"}}) {
    const std::string error = refused(folder_ / (unpack(c.file).filename().string() + ".index"));
    EXPECT_THAT(error, HasSubstr(c.expected)) << c.file;
    EXPECT_THAT(error, StartsWith((folder_ / c.file).string())) << c.file;
  }
}

TEST_F(Bundle, WithoutAShardTensorsAreListedAndLoadingNamesIt) {
  const fs::path prefix = unpack("bad_missing_shard");
  fs::rename(shard_name(prefix.string(), 0, 1), shard_name(prefix.string(), 0, 2));
  const Checkpoint read = read_checkpoint(prefix);
  ASSERT_EQ(read.tensors.size(), 2u);
  EXPECT_THAT(refusal([&] { read.tensors[0].load(); }),
              HasSubstr("tensor \"elsewhere\": its data file " + shard_name(prefix.string(), 1, 2) +
                        " does not exist"));
  EXPECT_THAT(values(read, "here"), ElementsAre(0));

  fs::remove(shard_name(unpack("graph").string(), 0, 1));
  EXPECT_EQ(read_checkpoint(folder_ / "graph").object_graph, nullptr);
}

TEST_F(Bundle, EveryFileOfACheckpointMeansIt) {
  const fs::path prefix = unpack("plain", "model/ckpt-0");
  write("model/ckpt-0.meta", "a graph");
  for (const char* ending : {"", ".index", ".meta", ".data-00000-of-00001"})
    EXPECT_EQ(read_checkpoint(prefix.string() + ending).tensors.size(), 4u) << ending;
  EXPECT_EQ(read_checkpoint(folder_ / "model").tensors.size(), 4u);
}

TEST_F(Bundle, FoldersNameTheirCheckpoint) {
  unpack("plain", "training/ckpt-1");
  unpack("types", "training/ckpt-2");
  EXPECT_THAT(refused(folder_ / "training"),
              HasSubstr("holds several checkpoints (ckpt-1.index, ckpt-2.index)"));
  write("training/checkpoint", "model_checkpoint_path: \"/elsewhere/ckpt-1\"\n");
  EXPECT_EQ(read_checkpoint(folder_ / "training").tensors.size(), 4u);
  unpack("plain", "moved/ckpt-0");
  write("moved/checkpoint", "model_checkpoint_path: \"ckpt-7\"\n");
  EXPECT_EQ(read_checkpoint(folder_ / "moved").tensors.size(), 4u);
  write("gone/checkpoint", "model_checkpoint_path: \"ckpt-7\"\n");
  EXPECT_THAT(refused(folder_ / "gone"), HasSubstr("names ckpt-7.index, which does not exist"));
  write("empty/readme.txt", "");
  EXPECT_THAT(refused(folder_ / "empty"), HasSubstr("holds no TensorFlow checkpoint"));
  EXPECT_THAT(refused(folder_ / "absent"), HasSubstr("absent: cannot open"));
}

TEST_F(Bundle, ExportedFoldersAndSavedModels) {
  unpack("graph", "export/saved_model/variables/variables");
  write("export/saved_model/saved_model.pb", corpus("saved_model", "good"));
  const std::string config = write("export/pipeline.config", "model {}").string();
  const auto config_beside = [&](const fs::path& path) {
    return find_beside_tf_checkpoint(path, "pipeline.config").value_or("none").string();
  };
  for (const char* path : {"export", "export/saved_model", "export/saved_model/saved_model.pb",
                           "export/saved_model/variables", "export/saved_model/variables/variables"}) {
    const Checkpoint read = read_checkpoint(folder_ / path);
    EXPECT_EQ(read.tensors.size(), 4u) << path;
    EXPECT_EQ(read.scalars.at("saved_model.signature.serving_default.input.input_tensor"),
              "uint8[1, ?, ?, 3]")
        << path;
    EXPECT_EQ(config_beside(folder_ / path), config);
  }
  EXPECT_EQ(config_beside(folder_ / "export/"), config);
  // The training's own checkpoint comes first.
  unpack("plain", "export/checkpoint/ckpt-0");
  EXPECT_EQ(read_checkpoint(folder_ / "export").object_graph, nullptr);
  EXPECT_EQ(config_beside(folder_ / "export/checkpoint/ckpt-0"), config);
  EXPECT_FALSE(find_beside_tf_checkpoint(folder_ / "export/checkpoint/ckpt-0", "absent"));

  write("frozen/saved_model.pb", corpus("saved_model", "good"));
  EXPECT_THAT(refused(folder_ / "frozen"), HasSubstr("no variables/variables.index (a frozen graph?)"));
  const fs::path graph = write("frozen_inference_graph.pb", corpus("saved_model", "bad_frozen"));
  EXPECT_THAT(refused(graph), HasSubstr("is a graph of TensorFlow's"));
}

}  // namespace
}  // namespace osprey
