#include "eval/plots.h"

#include <gtest/gtest.h>

#include "osprey/image.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;

TEST(Plots, WritesThreePicturesAType) {
  const CocoAnnotations truth{
      .source = "gt.json",
      .images = {{1, "a", 100, 100}},
      .categories = {{3, "cat"}, {5, "dog"}},
      .annotations = {
          {.id = 1, .image_id = 1, .category_id = 3, .area = 1600, .box = XywhBox{10, 10, 40, 40}}}};
  const CocoResults found{"dt.json",
                          {{.image_id = 1, .category_id = 3, .score = .9, .box = XywhBox{12, 10, 40, 40}}}};
  std::string folder = (fs::temp_directory_path() / "osprey_plots_XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const auto eval = evaluate(truth, found, CocoType::kBbox);
  const auto files =
      write_plots(fs::path(folder) / "new", eval, confusion_matrix(truth, found, CocoType::kBbox));
  ASSERT_EQ(files.size(), 3u);
  EXPECT_EQ(files[2].filename(), "bbox_confusion.png");
  for (const auto& file : files) EXPECT_GT(read_image(file).width, 100) << file;
  fs::remove_all(folder);
}

}  // namespace
}  // namespace osprey
