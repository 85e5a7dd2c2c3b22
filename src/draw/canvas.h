// A Cairo surface that an Image is copied onto and off without loss, and text on it.
//
// Coordinates are pixels from the top left corner of the image; pixel (x, y) covers [x, x + 1) x [y, y + 1).
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include <cairo.h>
#include <pango/pangocairo.h>

#include "draw/fonts.h"
#include "draw/palette.h"
#include "osprey/image.h"

namespace osprey {

template <auto destroy>
struct Release {
  void operator()(auto* p) const { destroy(p); }
};

// Cairo's own limit on a side, in pixels.
inline constexpr int kMaxCanvasSide = 32767;

struct TextStyle {
  double size = 12;  // of the em, in pixels
  bool bold = false;
  double max_width = 0;  // longer text ends in an ellipsis; 0 for no limit
};

// Throws Error(kBadInput), naming `what`, where the view's sizes and pixels cannot be those of an image.
void check_view(ImageView view, std::string_view what);

// One line of text, measured. Without any font installed it is empty and draws nothing.
class Text {
 public:
  Text(PangoContext* context, std::string_view text, const TextStyle& style);

  double width() const { return width_; }
  double height() const { return height_; }
  // (x, y) is the top left corner of the line.
  void draw(cairo_t* cairo, double x, double y, Color color) const;

 private:
  std::unique_ptr<PangoLayout, Release<g_object_unref>> layout_;
  double width_ = 0, height_ = 0;
};

class Canvas {
 public:
  Canvas(int width, int height, Color background);
  explicit Canvas(ImageView photo);

  int width() const { return width_; }
  int height() const { return height_; }
  cairo_t* cairo() const { return cairo_.get(); }
  Text text(std::string_view text, const TextStyle& style) const { return {pango_.get(), text, style}; }

  void set_color(Color color, double alpha = 1) const;
  // A rounded rectangle as the current path.
  void round_rectangle(double x, double y, double w, double h, double radius) const;
  // Copies an image in, cut at the edges.
  void paste(ImageView image, int x, int y);
  // Blends pixels x0 <= x < x1 of row y, which must lie inside, with `color`; alpha counts 256ths.
  void tint(int y, int x0, int x1, Color color, unsigned alpha);

  Image image() const;

 private:
  Canvas(int width, int height);
  std::uint32_t* row(int y) const;

  int width_, height_;
  std::unique_ptr<cairo_surface_t, Release<cairo_surface_destroy>> surface_;
  std::unique_ptr<cairo_t, Release<cairo_destroy>> cairo_;
  std::unique_ptr<PangoContext, Release<g_object_unref>> pango_;
};

}  // namespace osprey
