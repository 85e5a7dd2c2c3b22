#include "eval/detections_io.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "core/error.h"
#include "eval/coco_eval.h"
#include "eval/json_text.h"
#include "image/rle.h"

namespace osprey {

namespace {

using Text = fmt::memory_buffer;

template <class... Args>
void append(Text& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

std::string_view view(const Text& text) { return {text.data(), text.size()}; }

void check_finite(const Detection& d) {
  bool finite = std::isfinite(d.score);
  for (const float v : {d.box.x0, d.box.y0, d.box.x1, d.box.y1}) finite &= std::isfinite(v);
  for (const auto& p : d.keypoints)
    finite &= std::isfinite(p.x) && std::isfinite(p.y) && std::isfinite(p.score);
  check(finite, "detections: class {} with score {} has numbers that are not finite", d.class_index, d.score);
}

// The compressed text is printable ASCII, of which JSON escapes the backslash alone.
void append_mask(Text& out, const Rle& mask) {
  append(out, "{{\"size\": [{}, {}], \"counts\": {}}}", mask.height, mask.width,
         json_string(compress_rle(mask)));
}

std::int64_t category_of(const Detection& d, std::span<const std::int64_t> category_ids) {
  const auto index = static_cast<std::size_t>(d.class_index);
  require(d.class_index >= 0 && index < category_ids.size(), "detections: class {} has no category among {}",
          d.class_index, category_ids.size());
  return category_ids[index];
}

void append_detection(Text& out, const Detection& d, const std::vector<std::string>& labels) {
  check_finite(d);
  const auto index = static_cast<std::size_t>(d.class_index);
  const std::string label = d.class_index >= 0 && index < labels.size() ? labels[index] : "";
  append(out, "{{\"class\": {}, \"label\": {}, \"score\": {}, \"box\": [{}, {}, {}, {}]", d.class_index,
         json_string(label), d.score, d.box.x0, d.box.y0, d.box.x1, d.box.y1);
  if (d.mask) {
    append(out, ", \"mask\": ");
    append_mask(out, *d.mask);
  }
  if (!d.keypoints.empty()) {
    append(out, ", \"keypoints\": [");
    for (std::size_t i = 0; i < d.keypoints.size(); ++i) {
      const auto& p = d.keypoints[i];
      append(out, "{}[{}, {}, {}]", i == 0 ? "" : ", ", p.x, p.y, p.score);
    }
    append(out, "]");
  }
  append(out, "}}");
}

void append_result(Text& out, const Detection& d, std::int64_t image_id, std::int64_t category_id) {
  check_finite(d);
  append(out, "{{\"image_id\": {}, \"category_id\": {}, \"bbox\": [{}, {}, {}, {}], \"score\": {}", image_id,
         category_id, d.box.x0, d.box.y0, d.box.width(), d.box.height(), d.score);
  if (d.mask) {
    append(out, ", \"segmentation\": ");
    append_mask(out, *d.mask);
  }
  if (!d.keypoints.empty()) {
    append(out, ", \"keypoints\": [");
    for (std::size_t i = 0; i < d.keypoints.size(); ++i) {
      const auto& p = d.keypoints[i];
      append(out, "{}{}, {}, {}", i == 0 ? "" : ", ", p.x - .5f, p.y - .5f, p.score);
    }
    append(out, "]");
  }
  append(out, "}}");
}

}  // namespace

DetectionsJsonWriter::DetectionsJsonWriter(const std::filesystem::path& file, std::string_view engine,
                                           std::vector<std::string> labels)
    : out_(file), labels_(std::move(labels)) {
  out_.write(fmt::format("{{\"engine\": {}, \"images\": [", json_string(engine)));
}

void DetectionsJsonWriter::add(const std::string& image_file, const Detections& detections) {
  Text text;
  append(text, "{}\n{{\"file\": {}, \"width\": {}, \"height\": {}, \"detections\": [", first_ ? "" : ",",
         json_string(image_file), detections.width, detections.height);
  first_ = false;
  for (std::size_t i = 0; i < detections.items.size(); ++i) {
    append(text, "{}\n  ", i == 0 ? "" : ",");
    append_detection(text, detections.items[i], labels_);
  }
  append(text, "]}}");
  out_.write(view(text));
}

void DetectionsJsonWriter::commit() {
  out_.write("]}\n");
  out_.commit();
}

CocoResultsWriter::CocoResultsWriter(const std::filesystem::path& file,
                                     std::vector<std::int64_t> category_ids)
    : out_(file), category_ids_(std::move(category_ids)) {
  out_.write("[");
}

void CocoResultsWriter::add(std::int64_t image_id, const Detections& detections) {
  Text text;
  for (const auto& d : detections.items) {
    append(text, "{}\n", first_ ? "" : ",");
    first_ = false;
    append_result(text, d, image_id, category_of(d, category_ids_));
  }
  out_.write(view(text));
}

void CocoResultsWriter::commit() {
  out_.write("]\n");
  out_.commit();
}

void write_tsv(const std::filesystem::path& file, const Detections& detections) {
  Text text;
  for (const auto& d : detections.items) {
    check_finite(d);
    append(text, "{}\t{}\t{}\t{}\t{}\t{}\n", d.box.x0, d.box.y0, d.box.x1, d.box.y1, d.class_index, d.score);
  }
  write_file(file, view(text));
}

void append_coco_results(const Detections& detections, std::int64_t image_id,
                         std::span<const std::int64_t> category_ids, CocoType type, CocoResults& out) {
  for (const auto& d : detections.items) {
    check_finite(d);
    CocoResult& entry = out.entries.emplace_back();
    entry.image_id = image_id;
    entry.category_id = category_of(d, category_ids);
    entry.score = d.score;
    if (type == CocoType::kSegm && d.mask) {
      entry.mask = d.mask;
      continue;
    }
    entry.box = XywhBox{d.box.x0, d.box.y0, d.box.width(), d.box.height()};
    if (type != CocoType::kKeypoints) continue;
    for (const auto& p : d.keypoints)
      entry.keypoints.insert(entry.keypoints.end(), {p.x - .5f, p.y - .5f, p.score});
  }
}

}  // namespace osprey
