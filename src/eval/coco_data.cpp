#include "eval/coco_data.h"

#include <algorithm>
#include <unordered_map>

#include "core/error.h"
#include "core/file.h"
#include "core/parallel.h"
#include "eval/json_cursor.h"
#include "eval/json_entry.h"
#include "image/rle.h"

namespace osprey {

namespace {

using ImageSizes = std::unordered_map<std::int64_t, std::pair<int, int>>;  // id -> height, width

constexpr std::int64_t kEntriesPerPiece = 256;

// Parses every slice into its place of `out`. `name` is what one entry is called in messages.
template <class T, class Parse>
void parse_entries(const std::vector<std::string_view>& slices, std::string_view name, std::vector<T>& out,
                   Parse&& parse) {
  out.resize(slices.size());
  parallel_for(static_cast<std::int64_t>(slices.size()), kEntriesPerPiece,
               [&](std::int64_t begin, std::int64_t end) {
                 JsonParser parser;
                 for (auto i = begin; i < end; ++i) {
                   try {
                     parse(parser.object(slices[i]), out[i]);
                   } catch (const Error& e) {
                     const auto id = parser.id_of(slices[i]);
                     bad_input("{} {}{}: {}", name, i, id ? fmt::format(" (id {})", *id) : "", e.what());
                   }
                 }
               });
}

std::pair<int, int> size_of_image(const ImageSizes& sizes, std::int64_t image_id) {
  const auto found = sizes.find(image_id);
  require(found != sizes.end(), "polygons need the size of image {}, which is not in the annotations",
          image_id);
  const auto [height, width] = found->second;
  require(height > 0 && width > 0,
          "polygons need the size of image {}, which has no \"height\" and \"width\"", image_id);
  return found->second;
}

Rle rasterise(const JsonValue& polygons, int height, int width) {
  std::vector<Rle> parts;
  polygons.each([&](const JsonValue& polygon) {
    const auto xy = polygon.numbers();
    require(xy.size() >= 6 && xy.size() % 2 == 0,
            "{}: a polygon of {} numbers, expected x, y of at least 3 points", polygon.key(), xy.size());
    parts.push_back(
        in_context(std::string(polygon.key()), [&] { return rle_from_polygon(xy, height, width); }));
  });
  require(!parts.empty(), "{}: expected at least one polygon", polygons.key());
  return parts.size() == 1 ? std::move(parts[0]) : merge_masks(parts, false);
}

Rle read_mask(const JsonValue& value, const ImageSizes& sizes, std::int64_t image_id) {
  if (value.is_array()) {
    const auto [height, width] = size_of_image(sizes, image_id);
    return rasterise(value, height, width);
  }
  std::vector<double> size;
  std::optional<std::string_view> text;
  std::vector<std::uint32_t> counts;
  bool has_counts = false;
  value.members([&](std::string_view key, const JsonValue& member) {
    if (key == "size") size = member.numbers();
    if (key != "counts") return;
    has_counts = true;
    if (member.is_string()) {
      text = member.text();
    } else {
      counts.clear();
      member.each([&](const JsonValue& count) {
        counts.push_back(static_cast<std::uint32_t>(count.integer(0, std::int64_t{1} << 31)));
      });
    }
  });
  require(has_counts, "{}: neither polygons nor an object with \"size\" and \"counts\"", value.key());
  const auto extent = [](double v) { return v >= 0 && v < 2147483648. && v == static_cast<int>(v); };
  require(size.size() == 2 && extent(size[0]) && extent(size[1]), "{}: \"size\" must be [height, width]",
          value.key());
  const int height = static_cast<int>(size[0]), width = static_cast<int>(size[1]);
  return in_context(std::string(value.key()), [&] {
    return text ? decompress_rle(*text, height, width) : rle_from_counts(counts, height, width);
  });
}

std::optional<XywhBox> read_box(const JsonValue& value, bool may_be_empty) {
  const auto v = value.numbers();
  if (v.empty() && may_be_empty) return std::nullopt;
  require(v.size() == 4, "{}: expected 4 numbers, got {}", value.key(), v.size());
  return XywhBox{v[0], v[1], v[2], v[3]};
}

std::vector<double> read_keypoints(const JsonValue& value) {
  auto points = value.numbers();
  require(!points.empty() && points.size() % 3 == 0, "{}: expected three numbers a point, got {}",
          value.key(), points.size());
  return points;
}

void read_image(const JsonValue& entry, CocoImage& out) {
  KeysSeen seen;
  entry.members([&](std::string_view key, const JsonValue& value) {
    if (seen.is(key, "id")) out.id = value.integer();
    if (key == "file_name") out.file_name = value.text();
    if (key == "width") out.width = static_cast<int>(value.integer(0, 0x7fffffff));
    if (key == "height") out.height = static_cast<int>(value.integer(0, 0x7fffffff));
  });
  seen.require_all({"id"});
}

void read_category(const JsonValue& entry, CocoCategory& out) {
  KeysSeen seen;
  entry.members([&](std::string_view key, const JsonValue& value) {
    if (seen.is(key, "id")) out.id = value.integer();
    if (key == "name") out.name = value.text();
  });
  seen.require_all({"id"});
}

void read_annotation(const JsonValue& entry, const ImageSizes& sizes, CocoParts parts, CocoAnnotation& out) {
  KeysSeen seen;
  std::optional<JsonValue> mask;
  entry.members([&](std::string_view key, const JsonValue& value) {
    if (seen.is(key, "id")) out.id = value.integer();
    if (seen.is(key, "image_id")) out.image_id = value.integer();
    if (seen.is(key, "category_id")) out.category_id = value.integer();
    if (seen.is(key, "area")) out.area = value.number();
    if (key == "iscrowd") out.crowd = value.flag();
    if (key == "bbox") out.box = read_box(value, false);
    if (parts.keypoints && seen.is(key, "keypoints")) out.keypoints = read_keypoints(value);
    if (parts.keypoints && seen.is(key, "num_keypoints")) {
      out.labelled_keypoints = static_cast<int>(value.integer(0, 0x7fffffff));
    }
    if (parts.masks && seen.is(key, "segmentation")) mask = value;
  });
  seen.require_all({"id", "image_id", "category_id", "area"});
  if (parts.keypoints) seen.require_all({"keypoints", "num_keypoints"});
  if (parts.masks) seen.require_all({"segmentation"});
  // Of images that the file does not list nothing is evaluated, so their polygons need no size.
  if (mask && (!mask->is_array() || sizes.contains(out.image_id)))
    out.mask = read_mask(*mask, sizes, out.image_id);
}

void read_result(const JsonValue& entry, const ImageSizes& sizes, CocoParts parts, CocoResult& out) {
  KeysSeen seen;
  std::optional<JsonValue> mask;
  entry.members([&](std::string_view key, const JsonValue& value) {
    if (seen.is(key, "image_id")) out.image_id = value.integer();
    if (seen.is(key, "category_id")) out.category_id = value.integer();
    if (seen.is(key, "score")) out.score = value.number();
    if (key == "bbox") out.box = read_box(value, true);
    if (key == "keypoints") out.keypoints = read_keypoints(value);
    if (key == "segmentation") mask = value;
  });
  seen.require_all({"image_id", "category_id", "score"});
  if (!parts.keypoints && out.box) out.keypoints = {};
  if (mask && (parts.masks || !out.box)) out.mask = read_mask(*mask, sizes, out.image_id);
}

ImageSizes image_sizes(const std::vector<CocoImage>& images) {
  ImageSizes sizes;
  for (const auto& image : images) sizes[image.id] = {image.height, image.width};
  return sizes;
}

// Two annotations of one id would be counted as one of them twice; images and categories that repeat do no
// harm.
void require_unique_ids(const std::vector<CocoAnnotation>& annotations) {
  std::unordered_map<std::int64_t, std::size_t> first;
  for (std::size_t i = 0; i < annotations.size(); ++i) {
    const auto [at, added] = first.emplace(annotations[i].id, i);
    require(added, "annotation {}: its id {} is that of annotation {} already", i, annotations[i].id,
            at->second);
  }
}

}  // namespace

CocoAnnotations parse_coco_annotations(std::string_view json, std::string source, CocoParts parts) {
  CocoAnnotations out;
  return in_context(source, [&] {
    std::vector<std::string_view> images, categories, annotations;
    bool has_images = false, has_categories = false, has_annotations = false;
    JsonCursor cursor(json);
    cursor.members([&](std::string_view key, JsonCursor& at) {
      const auto collect = [&](std::vector<std::string_view>& into, bool& has) {
        into.clear();
        has = true;
        in_context(std::string(key),
                   [&] { at.elements([&](std::string_view text) { into.push_back(text); }); });
      };
      if (key == "images") return collect(images, has_images);
      if (key == "categories") return collect(categories, has_categories);
      if (key == "annotations") return collect(annotations, has_annotations);
      at.value();
    });
    cursor.finish();
    require(has_images && has_categories && has_annotations,
            "no COCO annotations: needs the keys \"images\", \"categories\" and \"annotations\"");

    parse_entries(images, "image", out.images, read_image);
    parse_entries(categories, "category", out.categories, read_category);
    const ImageSizes sizes = image_sizes(out.images);
    parse_entries(
        annotations, "annotation", out.annotations,
        [&](const JsonValue& entry, CocoAnnotation& to) { read_annotation(entry, sizes, parts, to); });
    require_unique_ids(out.annotations);
    out.source = std::move(source);
    return std::move(out);
  });
}

CocoResults parse_coco_results(std::string_view json, std::string source, const CocoAnnotations& truth,
                               CocoParts parts) {
  CocoResults out;
  return in_context(source, [&] {
    std::vector<std::string_view> entries;
    JsonCursor cursor(json);
    cursor.elements([&](std::string_view text) { entries.push_back(text); });
    cursor.finish();
    const ImageSizes sizes = image_sizes(truth.images);
    parse_entries(entries, "result", out.entries,
                  [&](const JsonValue& entry, CocoResult& to) { read_result(entry, sizes, parts, to); });
    out.source = std::move(source);
    return std::move(out);
  });
}

CocoAnnotations load_coco_annotations(const std::filesystem::path& file, CocoParts parts) {
  const auto mapped = MappedFile::open(file);
  return parse_coco_annotations(as_text(mapped->bytes()), file.filename().string(), parts);
}

CocoResults load_coco_results(const std::filesystem::path& file, const CocoAnnotations& truth,
                              CocoParts parts) {
  const auto mapped = MappedFile::open(file);
  return parse_coco_results(as_text(mapped->bytes()), file.filename().string(), truth, parts);
}

}  // namespace osprey
