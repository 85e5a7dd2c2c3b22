// Where the name tags of boxes go: beside their box, inside the image, off one another where there is room.
#pragma once

#include <span>
#include <vector>

namespace osprey {

struct Rect {
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;

  double width() const { return x1 - x0; }
  double height() const { return y1 - y0; }
  double area() const { return width() * height(); }
};

// The area that two rectangles share.
double overlap(const Rect& a, const Rect& b);

struct Tag {
  Rect anchor;                   // what it names
  double width = 0, height = 0;  // of the tag, at most the image's
};

// One rectangle for each tag, inside the image. Earlier tags have the first choice: above the box's top left
// corner, then the places along its edges, then beside it; a place costs by its rank, by what it covers of
// the tags already there, and by the small objects that it would hide.
std::vector<Rect> place_tags(double image_width, double image_height, std::span<const Tag> tags);

}  // namespace osprey
