#include "osprey/draw.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "core/error.h"
#include "draw/canvas.h"
#include "draw/label_layout.h"
#include "draw/mask_shape.h"
#include "draw/skeleton.h"

namespace osprey {
namespace {

constexpr double kMinFont = 8;  // smaller letters cannot be told apart

// Sizes in pixels. A picture is seen at about the same size whatever its resolution, so they grow with it, a
// little less than in proportion: large pictures are also looked into. Below a few pixels nothing is legible.
struct Sizes {
  double line, font;
};

Sizes sizes_for(int width, int height, float wanted_scale) {
  const double scale = std::isfinite(wanted_scale) ? std::clamp(double{wanted_scale}, 0.1, 20.0) : 1;
  const double side = std::sqrt(double(width) * height) / 550;  // 1 for the usual 640 x 480
  return {.line = std::max(1.0, 1.8 * scale * std::pow(side, 0.85)),
          .font = std::max(kMinFont, 13 * scale * std::pow(side, 0.8))};
}

// One detection as it will be drawn.
struct Item {
  const Detection* detection;
  Color color;
  std::optional<MaskShape> mask;
  std::optional<Rect> box;  // cut to the image

  // What decides the order, and what the tag is attached to.
  double area() const { return mask ? double(mask->area) : box ? box->area() : 0; }
};

std::optional<Rect> visible_box(const Box& box, int width, int height) {
  if (std::isnan(box.x0) || std::isnan(box.y0) || std::isnan(box.x1) || std::isnan(box.y1)) return {};
  if (box.x1 < box.x0 || box.y1 < box.y0) return {};
  if (box.x1 < 0 || box.y1 < 0 || box.x0 > width || box.y0 > height) return {};
  return Rect{std::max(box.x0, 0.f), std::max(box.y0, 0.f), std::min(box.x1, float(width)),
              std::min(box.y1, float(height))};
}

std::optional<Rect> tag_anchor(const Item& item) {
  if (item.box) return item.box;
  if (!item.mask || item.mask->area == 0) return {};
  const Box& b = item.mask->bounds;
  return Rect{b.x0, b.y0, b.x1, b.y1};
}

void check_sizes(ImageView photo, const Detections& detections) {
  check_view(photo, "drawing: the photo");
  const bool sized = detections.width != 0 || detections.height != 0;
  require(!sized || (detections.width == photo.width && detections.height == photo.height),
          "drawing: the detections are of an image of {} x {} pixels, the photo has {} x {}",
          detections.width, detections.height, photo.width, photo.height);
  for (const Detection& d : detections.items) {
    require(!d.mask || (d.mask->width == photo.width && d.mask->height == photo.height),
            "drawing: a mask is {} x {} pixels, the photo {} x {}", d.mask->width, d.mask->height,
            photo.width, photo.height);
  }
}

Image copy(ImageView photo) {
  Image out(photo.width, photo.height);
  for (int y = 0; y < photo.height && photo.width > 0; ++y) {
    std::copy_n(photo.row(y), 3 * static_cast<std::size_t>(photo.width), out.row(y));
  }
  return out;
}

class Drawer {
 public:
  Drawer(ImageView photo, const DrawOptions& options)
      : options_(options), sizes_(sizes_for(photo.width, photo.height, options.scale)), canvas_(photo) {}

  void add(const Detection& detection, int index);
  Image finish(const std::vector<std::string>& labels);

 private:
  void draw_mask(const Item& item);
  void draw_box(const Item& item);
  void draw_tags(const std::vector<std::string>& labels);
  Text tag_text(const Detection& detection, const std::vector<std::string>& labels, double font) const;

  const DrawOptions& options_;
  const Sizes sizes_;
  Canvas canvas_;
  std::vector<Item> items_;  // by descending score, as they came
};

void Drawer::add(const Detection& detection, int index) {
  Item item{.detection = &detection,
            .color = palette_color(options_.color_by == ColorBy::kClass ? detection.class_index : index),
            .box = visible_box(detection.box, canvas_.width(), canvas_.height())};
  if (options_.masks && detection.mask)
    item.mask = mask_shape(*detection.mask, std::max(1.0, 0.6 * sizes_.line));
  items_.push_back(std::move(item));
}

void Drawer::draw_mask(const Item& item) {
  const float alpha = std::isfinite(options_.mask_alpha) ? std::clamp(options_.mask_alpha, 0.f, 1.f) : 0;
  cairo_t* cairo = canvas_.cairo();
  cairo_surface_flush(cairo_get_target(cairo));
  for (const MaskSpan& span : item.mask->spans) {
    canvas_.tint(span.y, span.x0, span.x1, item.color, static_cast<unsigned>(std::lround(256 * alpha)));
  }
  cairo_surface_mark_dirty(cairo_get_target(cairo));
  cairo_new_path(cairo);
  for (const auto& ring : item.mask->outline) {
    cairo_new_sub_path(cairo);
    for (const Point& p : ring) cairo_line_to(cairo, p.x, p.y);
    cairo_close_path(cairo);
  }
  canvas_.set_color(item.color);
  cairo_set_line_width(cairo, sizes_.line);
  cairo_stroke(cairo);
}

// The line runs along the box's edge, wholly inside the image and on whole pixels, so that it is crisp; a
// dark rim keeps it apart from a photo of its colour.
void Drawer::draw_box(const Item& item) {
  const double line = std::round(sizes_.line);
  const auto snap = [&](double edge, int side) {
    return std::clamp(std::round(edge - line / 2), 0.0, std::max(0.0, side - line)) + line / 2;
  };
  const double x0 = snap(item.box->x0, canvas_.width()), x1 = snap(item.box->x1, canvas_.width());
  const double y0 = snap(item.box->y0, canvas_.height()), y1 = snap(item.box->y1, canvas_.height());
  cairo_t* cairo = canvas_.cairo();
  cairo_new_path(cairo);
  cairo_rectangle(cairo, x0, y0, x1 - x0, y1 - y0);
  canvas_.set_color(kBlack, 0.35);
  cairo_set_line_width(cairo, line + std::max(1.0, 0.5 * line));
  cairo_stroke_preserve(cairo);
  canvas_.set_color(item.color);
  cairo_set_line_width(cairo, line);
  cairo_stroke(cairo);
}

// "name 0.93"; where that is wider than the image the name alone, cut if it must be.
Text Drawer::tag_text(const Detection& detection, const std::vector<std::string>& labels, double font) const {
  const int index = detection.class_index;
  const bool named = index >= 0 && static_cast<std::size_t>(index) < labels.size();
  const std::string name = named ? labels[index].substr(0, 200) : fmt::format("class {}", index);
  const double room = canvas_.width() - font;
  Text full = canvas_.text(fmt::format("{} {:.2f}", name, detection.score), {.size = font});
  if (full.width() <= room) return full;
  return canvas_.text(name, {.size = font, .max_width = std::max(room, 1.0)});
}

void Drawer::draw_tags(const std::vector<std::string>& labels) {
  // Smaller letters in a crowd: at 100 tags, 0.7 of the size.
  const double crowding = std::pow(25.0 / std::max<std::size_t>(items_.size(), 25), 0.25);
  const double font = std::max(kMinFont, sizes_.font * std::max(crowding, 0.65));
  const double pad = 0.35 * font;
  std::vector<Tag> tags;
  std::vector<Text> texts;
  std::vector<Color> colors;
  for (const Item& item : items_) {
    const auto anchor = tag_anchor(item);
    if (!anchor || tags.size() == kMaxTags) continue;
    Text text = tag_text(*item.detection, labels, font);
    const double w = std::ceil(text.width() + 2 * pad), h = std::ceil(text.height());
    if (text.width() == 0 || w > canvas_.width() || h > canvas_.height()) continue;
    const double half = sizes_.line / 2;
    tags.push_back({{anchor->x0 - half, anchor->y0 - half, anchor->x1 + half, anchor->y1 + half}, w, h});
    texts.push_back(std::move(text));
    colors.push_back(item.color);
  }
  const std::vector<Rect> rects = place_tags(canvas_.width(), canvas_.height(), tags);
  for (std::size_t i = tags.size(); i-- > 0;) {  // the best score on top
    const double x = std::round(rects[i].x0), y = std::round(rects[i].y0);
    canvas_.round_rectangle(x, y, tags[i].width, tags[i].height, 0.2 * font);
    canvas_.set_color(colors[i]);
    cairo_fill(canvas_.cairo());
    texts[i].draw(canvas_.cairo(), x + pad, y, contrasting(colors[i]));
  }
}

Image Drawer::finish(const std::vector<std::string>& labels) {
  std::vector<const Item*> order;
  for (const Item& item : items_) order.push_back(&item);
  std::ranges::stable_sort(order, std::greater{}, &Item::area);
  for (const Item* item : order) {
    if (item->mask) draw_mask(*item);
    if (options_.boxes && item->box) draw_box(*item);
  }
  if (options_.keypoints) {
    for (const Item* item : order) {
      draw_skeleton(canvas_, item->detection->keypoints, options_.min_keypoint_score, 1.4 * sizes_.line,
                    item->color);
    }
  }
  if (options_.labels) draw_tags(labels);
  return canvas_.image();
}

}  // namespace

Image draw_detections(ImageView photo, const Detections& detections, const std::vector<std::string>& labels,
                      const DrawOptions& options) {
  check_sizes(photo, detections);
  const auto shown = [&](const Detection& d) { return d.score >= options.min_score; };
  const bool nothing = std::ranges::none_of(detections.items, shown);
  if (nothing || photo.width == 0 || photo.height == 0) return copy(photo);
  Drawer drawer(photo, options);
  for (std::size_t i = 0; i < detections.items.size(); ++i) {
    if (shown(detections.items[i])) drawer.add(detections.items[i], static_cast<int>(i));
  }
  return drawer.finish(labels);
}

}  // namespace osprey
