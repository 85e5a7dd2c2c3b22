#include "draw/canvas.h"

#include <algorithm>
#include <numbers>

#include "core/error.h"

namespace osprey {
namespace {

template <class T>
using Owned = std::unique_ptr<T, Release<g_object_unref>>;
using Font = std::unique_ptr<PangoFontDescription, Release<pango_font_description_free>>;

// A label is read at a glance: what comes after this many bytes is not worth shaping.
constexpr std::size_t kMaxTextBytes = 256;

Font font(const TextStyle& style) {
  Font out(pango_font_description_new());
  pango_font_description_set_family(out.get(), "sans");
  // Narrow letters, where the family has them, leave more of the photo to see.
  pango_font_description_set_stretch(out.get(), PANGO_STRETCH_SEMI_CONDENSED);
  pango_font_description_set_weight(out.get(), style.bold ? PANGO_WEIGHT_BOLD : PANGO_WEIGHT_NORMAL);
  pango_font_description_set_absolute_size(out.get(), style.size * PANGO_SCALE);
  return out;
}

// The same grey anti-aliasing on every desktop, whatever its settings.
void fix_rendering(PangoContext* context) {
  cairo_font_options_t* options = cairo_font_options_create();
  cairo_font_options_set_antialias(options, CAIRO_ANTIALIAS_GRAY);
  cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_SLIGHT);
  cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_OFF);
  pango_cairo_context_set_font_options(context, options);
  cairo_font_options_destroy(options);
  pango_cairo_context_set_resolution(context, 96);
  pango_context_set_round_glyph_positions(context, FALSE);
}

}  // namespace

bool text_available() {
  static const bool available = [] {
    const Owned<PangoContext> context(pango_font_map_create_context(pango_cairo_font_map_get_default()));
    const Font sans = font({});
    const Owned<PangoFont> found(pango_context_load_font(context.get(), sans.get()));
    return found != nullptr;
  }();
  return available;
}

void check_view(ImageView view, std::string_view what) {
  require(view.width >= 0 && view.height >= 0, "{}: it is {} x {} pixels", what, view.width, view.height);
  require(view.width == 0 || view.height == 0 || (view.pixels && view.stride / 3 >= view.width),
          "{}: the view of {} x {} pixels has no data, or rows shorter than 3 * width bytes", what,
          view.width, view.height);
}

Text::Text(PangoContext* context, std::string_view text, const TextStyle& style) {
  if (text.empty() || !text_available()) return;
  const std::string_view start = text.substr(0, kMaxTextBytes);
  const std::unique_ptr<char, Release<g_free>> valid(
      g_utf8_make_valid(start.data(), static_cast<gssize>(start.size())));
  layout_.reset(pango_layout_new(context));
  pango_layout_set_font_description(layout_.get(), font(style).get());
  pango_layout_set_single_paragraph_mode(layout_.get(), TRUE);
  pango_layout_set_text(layout_.get(), valid.get(), -1);
  if (style.max_width > 0) {
    pango_layout_set_ellipsize(layout_.get(), PANGO_ELLIPSIZE_END);
    pango_layout_set_width(layout_.get(), static_cast<int>(style.max_width * PANGO_SCALE));
  }
  PangoRectangle extent;
  pango_layout_get_extents(layout_.get(), nullptr, &extent);
  width_ = static_cast<double>(extent.width) / PANGO_SCALE;
  height_ = static_cast<double>(extent.height) / PANGO_SCALE;
}

void Text::draw(cairo_t* cairo, double x, double y, Color color) const {
  if (!layout_) return;
  cairo_set_source_rgb(cairo, color.r / 255.0, color.g / 255.0, color.b / 255.0);
  cairo_move_to(cairo, x, y);
  pango_cairo_show_layout(cairo, layout_.get());
}

Canvas::Canvas(int width, int height) : width_(width), height_(height) {
  require(
      width <= kMaxCanvasSide && height <= kMaxCanvasSide,
      "drawing: a picture of {} x {} pixels is too large, at most {} a side can be drawn on: scale it down",
      width, height, kMaxCanvasSide);
  surface_.reset(cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height));
  const cairo_status_t status = cairo_surface_status(surface_.get());
  check(status == CAIRO_STATUS_SUCCESS, "drawing: cairo cannot make a {} x {} surface: {}", width, height,
        cairo_status_to_string(status));
  cairo_.reset(cairo_create(surface_.get()));
  cairo_set_line_join(cairo(), CAIRO_LINE_JOIN_ROUND);
  cairo_set_line_cap(cairo(), CAIRO_LINE_CAP_ROUND);
  pango_.reset(pango_cairo_create_context(cairo()));
  fix_rendering(pango_.get());
}

Canvas::Canvas(int width, int height, Color background) : Canvas(width, height) {
  set_color(background);
  cairo_paint(cairo());
}

Canvas::Canvas(ImageView photo) : Canvas(photo.width, photo.height) { paste(photo, 0, 0); }

std::uint32_t* Canvas::row(int y) const {
  const auto stride = static_cast<std::ptrdiff_t>(cairo_image_surface_get_stride(surface_.get()));
  return reinterpret_cast<std::uint32_t*>(cairo_image_surface_get_data(surface_.get()) + y * stride);
}

void Canvas::set_color(Color color, double alpha) const {
  cairo_set_source_rgba(cairo(), color.r / 255.0, color.g / 255.0, color.b / 255.0, alpha);
}

void Canvas::round_rectangle(double x, double y, double w, double h, double radius) const {
  const double r = std::min({radius, w / 2, h / 2});
  constexpr double kQuarter = std::numbers::pi / 2;
  cairo_new_path(cairo());
  cairo_arc(cairo(), x + w - r, y + r, r, -kQuarter, 0);
  cairo_arc(cairo(), x + w - r, y + h - r, r, 0, kQuarter);
  cairo_arc(cairo(), x + r, y + h - r, r, kQuarter, 2 * kQuarter);
  cairo_arc(cairo(), x + r, y + r, r, 2 * kQuarter, 3 * kQuarter);
  cairo_close_path(cairo());
}

void Canvas::paste(ImageView image, int x, int y) {
  cairo_surface_flush(surface_.get());
  const int x0 = std::max(0, -x), x1 = std::min(image.width, width_ - x);
  for (int from = std::max(0, -y); from < std::min(image.height, height_ - y); ++from) {
    const std::uint8_t* in = image.row(from) + 3 * x0;
    std::uint32_t* out = row(from + y) + x;
    for (int i = x0; i < x1; ++i, in += 3) out[i] = 0xff000000u | in[0] << 16 | in[1] << 8 | in[2];
  }
  cairo_surface_mark_dirty(surface_.get());
}

void Canvas::tint(int y, int x0, int x1, Color color, unsigned alpha) {
  // Red and blue travel in one word, green in another; each product fits in the 8 free bits above its
  // channel.
  const std::uint32_t keep = 256 - alpha;
  const std::uint32_t red_blue = (color.r << 16 | color.b) * alpha + 0x00800080u;
  const std::uint32_t green = (color.g << 8) * alpha + 0x00008000u;
  std::uint32_t* pixels = row(y);
  for (int x = x0; x < x1; ++x) {
    const std::uint32_t p = pixels[x];
    pixels[x] = 0xff000000u | (((p & 0x00ff00ffu) * keep + red_blue) >> 8 & 0x00ff00ffu) |
                (((p & 0x0000ff00u) * keep + green) >> 8 & 0x0000ff00u);
  }
}

Image Canvas::image() const {
  const cairo_status_t status = cairo_status(cairo());
  check(status == CAIRO_STATUS_SUCCESS, "drawing: cairo failed: {}", cairo_status_to_string(status));
  cairo_surface_flush(surface_.get());
  Image out(width_, height_);
  for (int y = 0; y < height_; ++y) {
    const std::uint32_t* in = row(y);
    std::uint8_t* to = out.row(y);
    for (int x = 0; x < width_; ++x, to += 3) {
      to[0] = static_cast<std::uint8_t>(in[x] >> 16);
      to[1] = static_cast<std::uint8_t>(in[x] >> 8);
      to[2] = static_cast<std::uint8_t>(in[x]);
    }
  }
  return out;
}

}  // namespace osprey
