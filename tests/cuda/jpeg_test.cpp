// nvJPEG beside libjpeg-turbo, which is the exact reference: which files it gets, how far pixels depart, and
// what that does to detections.
#include "cuda/jpeg.h"

#include <cstdlib>
#include <filesystem>

#include "core/file.h"
#include "cuda/check.h"
#include "cuda/cuda_harness.h"
#include "image/codec.h"
#include "osprey/engine.h"
#include "parity/fixtures.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;

Image photo() {
  Image out(48, 32);
  for (std::size_t i = 0; i < out.pixels.size(); ++i) out.pixels[i] = static_cast<std::uint8_t>(i * 7 % 251);
  return out;
}

// The file with one more segment behind its first two bytes.
std::string with_segment(const std::string& jpeg, int marker, const std::string& payload) {
  const std::size_t length = payload.size() + 2;
  std::string segment{'\xff', static_cast<char>(marker), static_cast<char>(length >> 8),
                      static_cast<char>(length)};
  return jpeg.substr(0, 2) + segment + payload + jpeg.substr(2);
}

std::string exif(char orientation) {
  return std::string("Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", 24) +
         std::string{orientation, 0, 0, 0} + std::string(4, '\0');
}

TEST(GpuJpeg, TakesOnlyFilesThatMeanTheSameToBothDecoders) {
  const std::string plain = encode_jpeg(photo(), 90);
  EXPECT_TRUE(gpu_decodes(as_bytes(plain)));
  EXPECT_TRUE(gpu_decodes(as_bytes(with_segment(plain, 0xe1, exif(1)))));
  for (const char turned : {2, 3, 6, 8})
    EXPECT_FALSE(gpu_decodes(as_bytes(with_segment(plain, 0xe1, exif(turned))))) << int{turned};
  EXPECT_FALSE(
      gpu_decodes(as_bytes(with_segment(plain, 0xee, std::string("Adobe\0d\0\0\0\0\0", 12)))));  // RGB
  EXPECT_TRUE(gpu_decodes(as_bytes(with_segment(plain, 0xee, std::string("Adobe\0d\0\0\0\0\1", 12)))));
  EXPECT_FALSE(gpu_decodes(as_bytes(encode_png(photo()))));

  const std::size_t frame = plain.find("\xff\xc0");
  ASSERT_NE(frame, std::string::npos);
  const auto changed = [&](std::size_t at, int value) {
    std::string out = plain;
    out[frame + at] = static_cast<char>(value);
    return gpu_decodes(as_bytes(out));
  };
  EXPECT_TRUE(changed(1, 0xc2));   // progressive
  EXPECT_FALSE(changed(1, 0xc9));  // arithmetic coding
  EXPECT_FALSE(changed(4, 12));    // bits
  EXPECT_FALSE(changed(9, 4));     // CMYK
}

TEST(GpuJpeg, DamagedHeadersAreLookedAtWithoutHarm) {
  const std::string plain = with_segment(encode_jpeg(photo(), 90), 0xe1, exif(1));
  for (std::size_t size = 0; size < plain.size(); ++size) gpu_decodes(as_bytes(plain.substr(0, size)));
  for (std::size_t at = 2; at < std::min<std::size_t>(plain.size(), 700); ++at) {
    std::string broken = plain;
    broken[at] = static_cast<char>(broken[at] ^ 0xff);
    gpu_decodes(as_bytes(broken));
  }
}

// nullptr, and the test is skipped, where there is a GPU but no nvJPEG.
std::unique_ptr<GpuJpegDecoder> decoder(std::string& why) {
  try {
    return std::make_unique<GpuJpegDecoder>();
  } catch (const Error& error) {
    why = error.what();
    return nullptr;
  }
}

Image downloaded(const ImageView& view) {
  Image out(view.width, view.height);
  cuda_check(cudaMemcpy(out.pixels.data(), view.pixels, out.pixels.size(), cudaMemcpyDeviceToHost),
             "download");
  return out;
}

fs::path demo_folder() { return source_folder() / "assets/demo"; }

std::vector<fs::path> scenes() {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(demo_folder() / "scenes"))
    if (entry.path().extension() == ".jpg") out.push_back(entry.path());
  return out;
}

TEST(CudaJpeg, PixelsAreNearTheReference) {
  SKIP_WITHOUT_GPU();
  if (!fs::exists(demo_folder())) GTEST_SKIP() << demo_folder() << " is not here";
  std::string why;
  const auto gpu = decoder(why);
  if (!gpu) GTEST_SKIP() << why;
  DeviceBuffer memory;
  std::size_t values = 0, far = 0;
  std::int64_t sum = 0;
  int most = 0;
  for (const fs::path& file : scenes()) {
    const auto mapped = MappedFile::open(file);
    ASSERT_TRUE(gpu_decodes(mapped->bytes())) << file;
    const Image got = downloaded(gpu->decode(mapped->bytes(), memory)), want = read_image(file);
    ASSERT_EQ(got.width, want.width);
    ASSERT_EQ(got.height, want.height);
    for (std::size_t i = 0; i < want.pixels.size(); ++i) {
      const int distance = std::abs(got.pixels[i] - want.pixels[i]);
      sum += distance;
      most = std::max(most, distance);
      far += distance > 8;
    }
    values += want.pixels.size();
  }
  const double mean = static_cast<double>(sum) / static_cast<double>(values);
  std::printf("  nvJPEG: %.3f levels from libjpeg-turbo on average, %d at most, %.4f %% by more than 8\n",
              mean, most, 100.0 * static_cast<double>(far) / static_cast<double>(values));
  EXPECT_LT(mean, 1.0);
  EXPECT_LT(static_cast<double>(far), 0.01 * static_cast<double>(values));
}

TEST(CudaJpeg, DamagedFilesAreErrorsAndTheNextIsDecoded) {
  SKIP_WITHOUT_GPU();
  std::string why;
  const auto gpu = decoder(why);
  if (!gpu) GTEST_SKIP() << why;
  const std::string plain = encode_jpeg(photo(), 90);
  DeviceBuffer memory;
  EXPECT_THROW(gpu->decode(as_bytes(plain.substr(0, 40)), memory), Error);
  EXPECT_THROW(gpu->decode(as_bytes("no JPEG at all, but some text"), memory), Error);
  EXPECT_EQ(gpu->decode(as_bytes(plain), memory).width, 48);
}

bool same_object(const Detection& a, const Detection& b) {
  const double w = std::min(a.box.x1, b.box.x1) - std::max(a.box.x0, b.box.x0),
               h = std::min(a.box.y1, b.box.y1) - std::max(a.box.y0, b.box.y0);
  if (a.class_index != b.class_index || w <= 0 || h <= 0) return false;
  return w * h >= 0.95 * (static_cast<double>(a.box.area()) + static_cast<double>(b.box.area()) - w * h);
}

// The trained demo model, in fp32: the decoder alone makes the difference.
TEST(CudaJpeg, DetectionsStay) {
  SKIP_WITHOUT_GPU();
  if (!fs::exists(demo_folder())) GTEST_SKIP() << demo_folder() << " is not here";
  std::string why;
  const auto gpu = decoder(why);
  if (!gpu) GTEST_SKIP() << why;
  const fs::path demo = demo_folder();
  const fs::path engine = fs::temp_directory_path() / "osprey_jpeg_test.osprey";
  BuildOptions options{.device = "cuda"};
  options.tuning.budget = 0;
  build_engine({.source = demo / "demo_mask_rcnn.pkl", .config = (demo / "demo_mask_rcnn.yaml").string()},
               options, engine);
  EngineOptions open;
  open.tuning.budget = 0;
  Session session(Engine(engine, open));
  fs::remove(engine);  // opened: its memory stays mapped
  DeviceBuffer memory;
  std::size_t all = 0, kept = 0, extra = 0;
  double most = 0;
  for (const fs::path& file : scenes()) {
    const auto mapped = MappedFile::open(file);
    const Detections want = session.detect(read_image(file));
    const Detections got = session.detect(gpu->decode(mapped->bytes(), memory));
    all += want.items.size();
    std::size_t found = 0;
    for (const Detection& w : want.items)
      for (const Detection& g : got.items)
        if (same_object(w, g)) {
          ++found;
          most = std::max(most, std::abs(static_cast<double>(w.score) - static_cast<double>(g.score)));
          break;
        }
    kept += found;
    extra += got.items.size() - std::min(found, got.items.size());
  }
  std::printf("  nvJPEG: %zu of %zu detections stay at IoU 0.95, %zu others; scores within %.4f\n", kept, all,
              extra, most);
  ASSERT_GT(all, 0u);
  EXPECT_GE(static_cast<double>(kept), 0.98 * static_cast<double>(all));
}

}  // namespace
}  // namespace osprey
