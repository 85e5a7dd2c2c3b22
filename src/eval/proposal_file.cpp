#include "eval/proposal_file.h"

#include <memory>
#include <optional>

#include "core/error.h"
#include "eval/json_cursor.h"
#include "eval/json_entry.h"
#include "eval/proposal_pickle.h"

namespace osprey {
namespace {

using ByImage = std::map<std::string, std::vector<Proposal>, std::less<>>;

// Four numbers; of a corner and a size where `sized`.
Box read_box(const JsonValue& value, bool sized) {
  const std::vector<double> b = value.numbers();
  require(b.size() == 4, "{}: expected 4 numbers, got {}", value.key(), b.size());
  const double x1 = sized ? b[0] + b[2] : b[2], y1 = sized ? b[1] + b[3] : b[3];
  const Box box{static_cast<float>(b[0]), static_cast<float>(b[1]), static_cast<float>(x1),
                static_cast<float>(y1)};
  require(std::isfinite(box.x0) && std::isfinite(box.y0) && std::isfinite(box.x1) && std::isfinite(box.y1),
          "{}: the box does not fit 32-bit floats", value.key());
  return box;
}

float read_score(const JsonValue& value) {
  const auto score = static_cast<float>(value.number());
  require(std::isfinite(score), "{}: does not fit a 32-bit float", value.key());
  return score;
}

std::string image_name(const JsonValue& value) {
  return value.is_string() ? std::string(value.text()) : std::to_string(value.integer());
}

std::string file_name(const JsonValue& value) {
  return std::filesystem::path(value.text()).filename().string();
}

// COCO results.
void read_result(const JsonValue& entry, ByImage& out) {
  KeysSeen seen;
  Proposal found;
  std::optional<std::string> image;
  entry.members([&](std::string_view key, const JsonValue& value) {
    if (key == "image_id" && !image) image = image_name(value);
    if (key == "file_name") image = file_name(value);
    if (seen.is(key, "bbox")) found.box = read_box(value, /*sized=*/true);
    if (seen.is(key, "score")) found.score = read_score(value);
  });
  require(image.has_value(), "needs an \"image_id\" or a \"file_name\"");
  seen.require_all({"bbox", "score"});
  out[*image].push_back(found);
}

// An image of detections.json.
void read_image(const JsonValue& entry, ByImage& out) {
  KeysSeen seen;
  std::string name;
  std::vector<Proposal> found;
  entry.members([&](std::string_view key, const JsonValue& value) {
    if (seen.is(key, "file")) name = file_name(value);
    if (!seen.is(key, "detections")) return;
    value.each([&](const JsonValue& detection) {
      KeysSeen parts;
      Proposal& p = found.emplace_back();
      detection.members([&](std::string_view part, const JsonValue& v) {
        if (parts.is(part, "box")) p.box = read_box(v, /*sized=*/false);
        if (parts.is(part, "score")) p.score = read_score(v);
      });
      parts.require_all({"box", "score"});
    });
  });
  seen.require_all({"file", "detections"});
  out[name] = std::move(found);
}

ByImage read_json(std::string_view text) {
  ByImage out;
  JsonParser parser;
  std::size_t index = 0;
  const auto each = [&](std::string_view what, auto&& read) {
    return [&, what](std::string_view entry) {
      in_context(fmt::format("{} {}", what, index++), [&] { read(parser.object(entry), out); });
    };
  };
  JsonCursor cursor(text);
  if (cursor.peek() == '[') {
    cursor.elements(each("entry", read_result));
  } else {
    bool has_images = false;
    cursor.members([&](std::string_view key, JsonCursor& at) {
      if (key != "images") return static_cast<void>(at.value());
      has_images = true;
      at.elements(each("image", read_image));
    });
    require(has_images, "no proposals: needs a list of COCO results, or detections.json's \"images\"");
  }
  cursor.finish();
  return out;
}

bool is_json(Bytes bytes) {
  const std::string_view text = as_text(bytes);
  const auto first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && (text[first] == '[' || text[first] == '{');
}

}  // namespace

ProposalFile::ProposalFile(const std::filesystem::path& file) : ProposalFile(open_source(file)) {}

ProposalFile::ProposalFile(const Source& source) : source_(source.name) {
  in_context(source_, [&] {
    if (!is_json(source.bytes)) {
      images_ = read_proposal_pickle(source);
      return;
    }
    for (auto& [name, proposals] : read_json(as_text(source.bytes)))
      images_[name] = [all = std::make_shared<const std::vector<Proposal>>(std::move(proposals))] {
        return *all;
      };
  });
}

std::vector<Proposal> ProposalFile::of(std::span<const std::string> names) const {
  for (const std::string& name : names)
    if (const auto it = images_.find(name); it != images_.end())
      return in_context(source_, [&] { return it->second(); });
  std::string tried;
  for (const std::string& name : names) tried += (tried.empty() ? "" : ", nor ") + name;
  bad_input("{}: has no proposals for the image {} among those of {} images", source_, tried, images_.size());
}

}  // namespace osprey
