// The real files of the frameworks. They are no part of the repository: the tests skip where they are absent.
#include <map>

#include <gtest/gtest.h>

#include "formats/checkpoint.h"
#include "formats/fixture_files.h"

namespace osprey {
namespace {

std::map<std::string, const NamedTensor*> section(const Checkpoint& checkpoint, const std::string& name) {
  std::map<std::string, const NamedTensor*> out;
  for (const auto& tensor : checkpoint.tensors)
    if (tensor.section == name) out[tensor.name] = &tensor;
  return out;
}

TEST(Fixtures, PickleAndZipOfTheSameWeightsHoldEqualTensors) {
  const Unpacked unpacked("detectron2/mask_rcnn_narrow");
  if (!unpacked.ok()) GTEST_SKIP() << "no fixture detectron2/mask_rcnn_narrow";
  const Checkpoint pkl = read_checkpoint(unpacked.file("model_final.pkl"));
  const Checkpoint pth = read_checkpoint(unpacked.file("model_final.pth"));
  EXPECT_EQ(pkl.format, "pickle");
  EXPECT_EQ(pth.format, "torch zip");
  EXPECT_EQ(pkl.scalars.count("__author__"), 1u);
  EXPECT_EQ(pth.scalars.count("iteration"), 1u);

  const auto from_pkl = section(pkl, "model"), from_pth = section(pth, "model");
  EXPECT_GT(from_pkl.size(), 250u);
  for (const auto& [name, tensor] : from_pkl) {
    ASSERT_TRUE(from_pth.contains(name)) << name;
    const Tensor a = tensor->load(), b = from_pth.at(name)->load();
    EXPECT_EQ(a.dtype(), b.dtype()) << name;
    EXPECT_EQ(a.shape(), b.shape()) << name;
    EXPECT_EQ(as_text(a.bytes()), as_text(b.bytes())) << name;
  }
}

TEST(Fixtures, ReadsEveryFramework) {
  struct Case {
    std::string folder, file, format, section;
    std::size_t tensors;
  };
  for (const Case& c :
       {Case{"mrcnn_benchmark/e2e_mask_rcnn_narrow", "model_final.pth", "torch legacy", "model", 312},
        Case{"paddle/mask_rtdetr_narrow", "mask_rtdetr_narrow.pdparams", "pickle", "", 478}}) {
    const Unpacked unpacked(c.folder);
    if (!unpacked.ok()) GTEST_SKIP() << "no fixture " << c.folder;
    const Checkpoint checkpoint = read_checkpoint(unpacked.file(c.file));
    EXPECT_EQ(checkpoint.format, c.format);
    EXPECT_EQ(section(checkpoint, c.section).size(), c.tensors) << c.folder;
    for (const auto& tensor : checkpoint.tensors) EXPECT_EQ(tensor.load().shape(), tensor.shape);
  }
}

}  // namespace
}  // namespace osprey
