// Every container, on the files of scripts/make_corpus.py: what they hold, how hostile ones are refused, and
// that no damage to any of them leads to anything but values or Error(kBadInput).
#include "formats/checkpoint.h"

#include <algorithm>
#include <numeric>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/file.h"
#include "formats/npy.h"
#include "formats/numpy_pickle.h"
#include "formats/protobuf_text.h"
#include "formats/safetensors.h"
#include "formats/saved_model.h"
#include "formats/tensor_bundle.h"
#include "formats/torch_legacy.h"
#include "formats/torch_zip.h"
#include "formats/yaml.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

fs::path corpus(const std::string& name) { return fs::path(OSPREY_SOURCE_DIR) / "fuzz" / "corpus" / name; }

const NamedTensor& tensor(const Checkpoint& checkpoint, const std::string& name,
                          const std::string& section = "") {
  for (const auto& t : checkpoint.tensors)
    if (t.name == name && t.section == section) return t;
  throw std::out_of_range("no tensor " + section + "/" + name);
}

std::vector<float> values(const Checkpoint& checkpoint, const std::string& name,
                          const std::string& section = "") {
  const Tensor floats = tensor(checkpoint, name, section).load().to_f32();
  const auto span = floats.values<float>();
  return {span.begin(), span.end()};
}

std::string refusal(const fs::path& file) {
  try {
    for (const auto& t : read_checkpoint(file).tensors) t.load();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    EXPECT_THAT(e.what(), HasSubstr(file.filename().string()));
    return e.what();
  }
  return "no error";
}

class Torch : public testing::TestWithParam<std::string> {
 protected:
  Checkpoint read(const std::string& name) const { return read_checkpoint(corpus(GetParam() + "/" + name)); }
};

TEST_P(Torch, ViewsOfSharedStorages) {
  const auto file = read("strided.pth");
  EXPECT_THAT(values(file, "dense"), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(values(file, "transposed"), ElementsAre(0, 3, 1, 4, 2, 5));
  EXPECT_THAT(values(file, "part_6"), ElementsAre(6, 7, 8, 9, 10, 11));
  EXPECT_THAT(values(file, "repeated"), ElementsAre(0, 1, 2, 0, 1, 2));
  EXPECT_THAT(values(file, "scalar_7"), ElementsAre(7));
  EXPECT_EQ(tensor(file, "scalar_7").shape, Shape{});
  EXPECT_EQ(tensor(file, "empty").load().shape(), (Shape{0, 4}));
  std::vector<std::string> names;
  for (const auto& t : file.tensors) names.push_back(t.name);
  EXPECT_THAT(names, ElementsAre("dense", "transposed", "part_6", "repeated", "scalar_7", "empty"));
}

TEST_P(Torch, EveryElementType) {
  const auto file = read("types.pth");
  for (const char* name : {"f4", "f2", "f8", "i8", "i4", "i2", "i1", "u1", "bf16"})
    EXPECT_THAT(values(file, name), ElementsAre(0, 1, 2, 3)) << name;
  EXPECT_THAT(values(file, "b1"), ElementsAre(0, 1, 1, 0));
  EXPECT_EQ(tensor(file, "bf16").dtype, DType::kBF16);
}

TEST_P(Torch, ParametersAndOldTensors) {
  const auto file = read("wrapped.pth");
  for (const char* name : {"parameter", "old", "typed"})
    EXPECT_THAT(values(file, name), ElementsAre(0, 1, 2)) << name;
}

TEST_P(Torch, TrainingStateIsSectionsAndScalars) {
  const auto file = read("training.pth");
  EXPECT_THAT(values(file, "conv.bias", "model"), ElementsAre(0, 1));
  EXPECT_THAT(values(file, "momentum_buffer", "optimizer/state/0"), ElementsAre(5, 6));
  EXPECT_EQ(file.tensors.size(), 3u);
  EXPECT_EQ(file.scalars.at("iteration"), "89999");
  EXPECT_EQ(file.scalars.at("__author__"), "Someone");
  EXPECT_EQ(file.scalars.at("scheduler/milestones/60000"), "1");
}

TEST_P(Torch, BrokenTensorsAreRefused) {
  EXPECT_THAT(refusal(corpus(GetParam() + "/bad_past_end.pth")), HasSubstr("needs element 5, but only 4"));
  EXPECT_THAT(refusal(corpus(GetParam() + "/bad_missing.pth")), HasSubstr("the storage of a tensor is text"));
  EXPECT_THAT(refusal(corpus(GetParam() + "/bad_huge.pth")), HasSubstr("overflows"));
}

INSTANTIATE_TEST_SUITE_P(Containers, Torch, testing::Values("torch_zip", "torch_legacy"),
                         [](const auto& row) { return row.param; });

TEST(TorchZip, BigEndianAndTorchScript) {
  EXPECT_THAT(values(read_checkpoint(corpus("torch_zip/big_endian.pth")), "i2"), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(refusal(corpus("torch_zip/torchscript.pt")), HasSubstr("TorchScript"));
  EXPECT_THAT(refusal(corpus("torch_zip/deflated.pth")), HasSubstr("without compression"));
}

TEST(TorchZip, OnlyThePickleMayBeDeflated) {
  const auto file = read_checkpoint(corpus("torch_zip/deflated_pickle.pth"));
  EXPECT_THAT(values(file, "parameter"), ElementsAre(0, 1, 2));
  EXPECT_THAT(refusal(corpus("torch_zip/bad_deflated_pickle.pth")), HasSubstr("archive/data.pkl"));
}

TEST(TorchZip, BorrowsFromTheMapping) {
  const auto source = open_source(corpus("torch_zip/strided.pth"));
  const Tensor loaded = tensor(read_checkpoint(source), "dense").load();
  EXPECT_GE(loaded.bytes().data(), source.bytes.data());
  EXPECT_LT(loaded.bytes().data(), source.bytes.data() + source.bytes.size());
}

class NumpyPickle : public testing::TestWithParam<std::string> {};

TEST_P(NumpyPickle, HoldsTheSameModel) {
  const auto file = read_checkpoint(corpus("pickle/" + GetParam() + ".pkl"));
  EXPECT_THAT(values(file, "conv.weight", "model"), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(values(file, "conv.bias", "model"), ElementsAre(3, 4, 5));
  EXPECT_EQ(tensor(file, "conv.weight", "model").shape, (Shape{2, 3}));
  EXPECT_EQ(file.scalars.at("__author__"), "Detectron2");
  EXPECT_EQ(file.scalars.at("matching_heuristics"), "True");
}

INSTANTIATE_TEST_SUITE_P(Protocols, NumpyPickle,
                         testing::Values("protocol0", "protocol1", "protocol2", "protocol3", "protocol4",
                                         "protocol5", "numpy1"),
                         [](const auto& row) { return row.param; });

class NumpyKinds : public testing::TestWithParam<std::string> {};

TEST_P(NumpyKinds, TypesOrdersAndWhatIsNotRead) {
  const auto file = read_checkpoint(corpus("pickle/" + GetParam() + ".pkl"));
  for (const char* name : {"<f4", ">f4", "<f2", "<f8", ">i8", "<i4", "<i2", "i1", "u1"})
    EXPECT_THAT(values(file, name), ElementsAre(0, 1, 2, 3)) << name;
  EXPECT_THAT(values(file, "bools"), ElementsAre(1, 0));
  EXPECT_THAT(values(file, "fortran"), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(values(file, "scalar"), ElementsAre(2.5));
  EXPECT_THAT(values(file, "flag"), ElementsAre(1));
  EXPECT_EQ(tensor(file, "empty").shape, (Shape{0, 3}));
  for (const char* name : {"unsigned", "complex", "objects", "names"})
    EXPECT_THAT(file.scalars.at(name), HasSubstr("not read")) << name;
}

INSTANTIATE_TEST_SUITE_P(Protocols, NumpyKinds, testing::Values("kinds0", "kinds2", "kinds5"),
                         [](const auto& row) { return row.param; });

TEST(NumpyPickles, Detectron1AndPaddle) {
  const auto old = read_checkpoint(corpus("pickle/detectron1.pkl"));
  EXPECT_THAT(values(old, "conv1_w", "blobs"), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(values(old, "conv1_b", "blobs").back(), 100);
  EXPECT_EQ(old.scalars.at("blobs/lr"), "0.02");
  const auto paddle = read_checkpoint(corpus("pickle/paddle.pdparams"));
  EXPECT_EQ(paddle.tensors.size(), 1u);
  EXPECT_THAT(values(paddle, "conv.weight"), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(NumpyPickles, HostileOnesAreRefused) {
  const auto source = [](const std::string& name) {
    return open_source(corpus("pickle/bad_" + name + ".pkl"));
  };
  const auto said = [&](const std::string& name) -> std::string {
    try {
      read_numpy_pickle(source(name));
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_THAT(said("self"), HasSubstr("contain themselves"));
  EXPECT_THAT(said("deep"), HasSubstr("more than 64 levels"));
  EXPECT_THAT(said("laughs"), HasSubstr("contain themselves"));
  EXPECT_THAT(said("getattr"), HasSubstr("builtins.getattr"));
}

TEST(Npy, VersionsOrdersAndTypes) {
  for (const char* name : {"version1", "version2", "version3", "fortran", "big_endian"}) {
    const auto file = read_checkpoint(corpus(std::string("npy/") + name + ".npy"));
    EXPECT_THAT(values(file, ""), ElementsAre(0, 1, 2, 3, 4, 5)) << name;
  }
  EXPECT_THAT(values(read_checkpoint(corpus("npy/scalar.npy")), ""), ElementsAre(3));
  EXPECT_THAT(read_checkpoint(corpus("npy/structured.npy")).scalars.at(""), HasSubstr("structured"));
  EXPECT_THAT(refusal(corpus("npy/bad_huge.npy")), HasSubstr("[9999999999]"));
}

TEST(Npz, StoredDeflatedAndZip64) {
  for (const char* name : {"stored", "deflated"}) {
    const auto file = read_checkpoint(corpus(std::string("npz/") + name + ".npz"));
    EXPECT_THAT(values(file, "a"), ElementsAre(0, 1, 2, 3, 4, 5)) << name;
    EXPECT_EQ(values(file, "b").back(), 99) << name;
    EXPECT_EQ(file.scalars.count("u"), 1u) << name;
  }
  EXPECT_THAT(values(read_checkpoint(corpus("npz/zip64.npz")), "a"), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(Safetensors, OrderScalarsAndRefusals) {
  const auto file = read_checkpoint(corpus("safetensors/good.safetensors"));
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0].name, "a");  // by its bytes, not by the header
  EXPECT_THAT(values(file, "b"), ElementsAre(0, 1));
  EXPECT_EQ(file.scalars.at("format"), "pt");
  for (const char* name : {"overlap", "gap", "past_end", "shape", "huge", "negative", "header", "deep"})
    EXPECT_NE(refusal(corpus(fmt::format("safetensors/bad_{}.safetensors", name))), "no error") << name;
}

TEST(Checkpoint, CommonMistakesAreNamed) {
  EXPECT_THAT(refusal(corpus("checkpoint/bad_lfs.pth")), HasSubstr("git lfs pull"));
  EXPECT_THAT(refusal(corpus("checkpoint/bad_page.pth")), HasSubstr("web page"));
  EXPECT_THAT(refusal(corpus("yaml/paddle.yml")), HasSubstr("is no checkpoint that is read here"));
}

// ---- damage
// --------------------------------------------------------------------------------------------------------

using Rng = std::mt19937;

std::string damaged(std::string text, Rng& rng) {
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : rng() % n; };
  switch (rng() % 5) {
    case 0:
      return text.substr(0, below(text.size()));
    case 1:  // a few bits
      for (std::size_t i = 0; i < 1 + below(8); ++i)
        text[below(text.size())] ^= static_cast<char>(1u << rng() % 8);
      return text;
    case 2: {  // a run of one byte, as in a hole of a download
      const std::size_t at = below(text.size()),
                        size = std::min<std::size_t>(1 + below(64), text.size() - at);
      return text.replace(at, size, size, "\0\xff\x7f"[rng() % 3]);
    }
    case 3:  // something missing in the middle
      return text.erase(below(text.size()), 1 + below(32));
    default:  // something twice
      return text.insert(below(text.size()), text.substr(below(text.size()), below(64)));
  }
}

// An index and its data in one file, behind the index's size: fuzz/tensor_bundle.cpp.
Checkpoint read_split_bundle(const Source& source) {
  std::uint32_t size = 0;
  if (source.bytes.size() >= sizeof size) std::memcpy(&size, source.bytes.data(), sizeof size);
  const Bytes rest = source.bytes.subspan(std::min(sizeof size, source.bytes.size()));
  const std::size_t split = std::min<std::size_t>(size, rest.size());
  const OpenShard data = [&](std::uint32_t, std::uint32_t) {
    return std::optional(Source{.name = source.name, .bytes = rest.subspan(split), .owner = {}});
  };
  return read_tensor_bundle({.name = source.name, .bytes = rest.first(split), .owner = {}}, data);
}

struct Format {
  std::string folder;
  std::function<void(const Source&)> read;
};

std::vector<Format> formats() {
  const auto loading = [](auto read) {
    return [read](const Source& source) {
      for (const auto& t : read(source).tensors) t.load();
    };
  };
  return {{"torch_zip", loading(read_torch_zip)},
          {"torch_legacy", loading(read_torch_legacy)},
          {"pickle", loading(read_numpy_pickle)},
          {"npy", loading(read_npy)},
          {"npz", loading(read_npz)},
          {"safetensors", loading(read_safetensors)},
          {"checkpoint", loading([](const Source& source) { return read_checkpoint(source); })},
          {"tensor_bundle", loading(read_split_bundle)},
          {"saved_model", [](const Source& source) { read_saved_model(source); }},
          {"protobuf_text",
           [](const Source& source) { parse_protobuf_text(as_text(source.bytes), source.name); }},
          {"yaml", [](const Source& source) { parse_yaml(as_text(source.bytes), source.name); }}};
}

TEST(Damage, LoadsOrIsRefusedByName) {
  constexpr int kPerFile = 12;
  int total = 0, refused = 0;
  for (const auto& format : formats()) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(corpus(format.folder))) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
      const std::string text = read_text(file);
      if (text.empty()) continue;
      Rng rng(static_cast<std::uint32_t>(text.size()));
      for (int i = 0; i < kPerFile; ++i, ++total) {
        const std::string bytes = damaged(text, rng);
        const std::string name = fmt::format("{}#{}", file.filename().string(), i);
        try {
          format.read({.name = name, .bytes = as_bytes(bytes)});
        } catch (const Error& e) {
          EXPECT_EQ(e.code(), ErrorCode::kBadInput) << name << ": " << e.what();
          EXPECT_THAT(e.what(), StartsWith(name));
          ++refused;
        }
      }
    }
  }
  EXPECT_GE(total, 800);
  EXPECT_GE(refused, total / 2);
}

}  // namespace
}  // namespace osprey
