#include <optional>

#include <fmt/format.h>

#include "core/error.h"
#include "eval/detections_io.h"
#include "eval/json_cursor.h"
#include "eval/json_entry.h"
#include "formats/source.h"
#include "image/rle.h"

namespace osprey {
namespace {

constexpr int kMaxExtent = 1 << 20;  // pixels a side, as of photos

float read_float(const JsonValue& value, double number) {
  const auto out = static_cast<float>(number);
  require(std::isfinite(out), "{}: {} does not fit a 32-bit float", value.key(), number);
  return out;
}

Box read_corners(const JsonValue& value) {
  const std::vector<double> b = value.numbers();
  require(b.size() == 4, "{}: expected 4 numbers, got {}", value.key(), b.size());
  return {read_float(value, b[0]), read_float(value, b[1]), read_float(value, b[2]), read_float(value, b[3])};
}

Rle read_counts(const JsonValue& counts, int height, int width) {
  if (counts.is_string()) return decompress_rle(counts.text(), height, width);
  std::vector<std::uint32_t> runs;
  counts.each([&](const JsonValue& run) {
    runs.push_back(static_cast<std::uint32_t>(run.integer(0, std::numeric_limits<std::uint32_t>::max())));
  });
  return rle_from_counts(runs, height, width);
}

Rle read_mask(const JsonValue& value) {
  std::vector<int> size;
  std::optional<JsonValue> counts;
  value.members([&](std::string_view key, const JsonValue& v) {
    if (key == "counts") counts = v;
    if (key != "size") return;
    size.clear();
    v.each([&](const JsonValue& extent) { size.push_back(static_cast<int>(extent.integer(1, kMaxExtent))); });
  });
  require(size.size() == 2 && counts.has_value(), "mask: needs a \"size\" of two numbers, and \"counts\"");
  require(std::int64_t{size[0]} * size[1] < (std::int64_t{1} << 31), "mask: {}x{} is too large", size[0],
          size[1]);
  return read_counts(*counts, size[0], size[1]);
}

Keypoint read_keypoint(const JsonValue& value) {
  const std::vector<double> p = value.numbers();
  require(p.size() == 3, "{}: expected x, y and score, got {} numbers", value.key(), p.size());
  return {read_float(value, p[0]), read_float(value, p[1]), read_float(value, p[2])};
}

Detection read_detection(const JsonValue& entry) {
  Detection out;
  KeysSeen seen;
  entry.members([&](std::string_view key, const JsonValue& v) {
    if (seen.is(key, "class")) out.class_index = static_cast<int>(v.integer(0, 1 << 20));
    if (seen.is(key, "score")) out.score = read_float(v, v.number());
    if (seen.is(key, "box")) out.box = read_corners(v);
    if (key == "mask") out.mask = read_mask(v);
    if (key == "keypoints") v.each([&](const JsonValue& p) { out.keypoints.push_back(read_keypoint(p)); });
  });
  seen.require_all({"class", "score", "box"});
  return out;
}

ImageDetections read_image(const JsonValue& entry) {
  ImageDetections out;
  KeysSeen seen;
  Detections& found = out.detections;
  entry.members([&](std::string_view key, const JsonValue& v) {
    if (seen.is(key, "file")) out.file = v.text();
    if (seen.is(key, "width")) found.width = static_cast<int>(v.integer(1, kMaxExtent));
    if (seen.is(key, "height")) found.height = static_cast<int>(v.integer(1, kMaxExtent));
    if (seen.is(key, "detections"))
      v.each([&](const JsonValue& d) { found.items.push_back(read_detection(d)); });
  });
  seen.require_all({"file", "width", "height", "detections"});
  for (const Detection& d : found.items)
    require(!d.mask || (d.mask->height == found.height && d.mask->width == found.width),
            "mask: is {}x{}, the image {}x{}", d.mask->height, d.mask->width, found.height, found.width);
  return out;
}

DetectionsFile read_file(std::string_view text) {
  DetectionsFile out;
  JsonParser parser;
  bool has_images = false;
  JsonCursor cursor(text);
  cursor.members([&](std::string_view key, JsonCursor& at) {
    if (key == "engine") {
      std::string_view name = at.value();
      if (name.size() >= 2) out.engine = printable(name.substr(1, name.size() - 2));
      return;
    }
    if (key != "images") return static_cast<void>(at.value());
    has_images = true;
    at.elements([&](std::string_view entry) {
      in_context(fmt::format("image {}", out.images.size()),
                 [&] { out.images.push_back(read_image(parser.object(entry))); });
    });
  });
  cursor.finish();
  require(has_images, "is no detections.json: it has no \"images\"");
  return out;
}

}  // namespace

DetectionsFile parse_detections_json(std::string_view text, const std::string& source) {
  return in_context(source, [&] { return read_file(text); });
}

DetectionsFile load_detections_json(const std::filesystem::path& file) {
  const Source source = open_source(file);
  return parse_detections_json(as_text(source.bytes), source.name);
}

}  // namespace osprey
