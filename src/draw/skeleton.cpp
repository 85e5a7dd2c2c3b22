#include "draw/skeleton.h"

#include <array>
#include <numbers>

namespace osprey {
namespace {

constexpr std::size_t kCocoPoints = 17;
constexpr Color kMiddle{240, 228, 66}, kLeft{86, 180, 233}, kRight{230, 159, 0};

struct Limb {
  int from, to;
  Color color;
};

// COCO's order: nose; then left before right: eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
constexpr std::array<Limb, 19> kCocoLimbs{{{0, 1, kLeft},
                                           {0, 2, kRight},
                                           {1, 2, kMiddle},
                                           {1, 3, kLeft},
                                           {2, 4, kRight},
                                           {3, 5, kLeft},
                                           {4, 6, kRight},
                                           {5, 6, kMiddle},
                                           {5, 11, kLeft},
                                           {6, 12, kRight},
                                           {11, 12, kMiddle},
                                           {5, 7, kLeft},
                                           {7, 9, kLeft},
                                           {6, 8, kRight},
                                           {8, 10, kRight},
                                           {11, 13, kLeft},
                                           {13, 15, kLeft},
                                           {12, 14, kRight},
                                           {14, 16, kRight}}};

Color coco_color(std::size_t point) { return point == 0 ? kMiddle : point % 2 == 1 ? kLeft : kRight; }

void limb(const Canvas& canvas, const Keypoint& a, const Keypoint& b, double width) {
  cairo_move_to(canvas.cairo(), a.x, a.y);
  cairo_line_to(canvas.cairo(), b.x, b.y);
  cairo_set_line_width(canvas.cairo(), width);
  cairo_stroke(canvas.cairo());
}

void dot(const Canvas& canvas, const Keypoint& p, double radius) {
  cairo_new_path(canvas.cairo());
  cairo_arc(canvas.cairo(), p.x, p.y, radius, 0, 2 * std::numbers::pi);
  cairo_fill(canvas.cairo());
}

}  // namespace

void draw_skeleton(const Canvas& canvas, std::span<const Keypoint> points, float min_score, double line,
                   Color color) {
  const auto shown = [&](const Keypoint& p) {
    return p.score >= min_score && p.x >= 0 && p.y >= 0 && p.x <= canvas.width() && p.y <= canvas.height();
  };
  const bool coco = points.size() == kCocoPoints;
  if (coco) {
    for (const bool casing : {true, false}) {  // all dark edges first, so that none crosses a limb
      for (const Limb& l : kCocoLimbs) {
        const Keypoint &a = points[l.from], &b = points[l.to];
        if (!shown(a) || !shown(b)) continue;
        canvas.set_color(casing ? kBlack : l.color, casing ? 0.6 : 1);
        limb(canvas, a, b, casing ? 1.6 * line : line);
      }
    }
  }
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (!shown(points[i])) continue;
    canvas.set_color(kBlack, 0.75);
    dot(canvas, points[i], 1.35 * line);
    canvas.set_color(coco ? coco_color(i) : color);
    dot(canvas, points[i], 0.95 * line);
  }
}

}  // namespace osprey
