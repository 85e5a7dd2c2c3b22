// Colours that stay apart, also for colour-blind readers.
//
// The first seven are those of Okabe and Ito ("Color Universal Design", 2008). Each further one is, among the
// vivid mid-light colours, the one farthest from all before it, where the distance of two colours is the
// smallest that a reader with normal, protanopic or deuteranopic vision sees (Machado et al., 2009), in OKLab
// units (Ottosson, 2020: black to white is 1). So the first n classes are always as distinct as n colours can
// be.
#pragma once

#include <cstdint>

namespace osprey {

struct Color {
  std::uint8_t r = 0, g = 0, b = 0;
  bool operator==(const Color&) const = default;
};

inline constexpr Color kWhite{255, 255, 255};
inline constexpr Color kBlack{0, 0, 0};

// The colour of a class or instance; the same index always has the same. Repeats from kPaletteSize on.
inline constexpr int kPaletteSize = 128;
Color palette_color(int index);

// WCAG 2 relative luminance, 0 to 1.
double luminance(Color color);
// Black or white, whichever reads better on `background`: a contrast of 3.8 : 1 or more.
Color contrasting(Color background);

// The smallest OKLab distance over the three kinds of vision.
double color_distance(Color a, Color b);

// From a (t = 0) to b (t = 1) in even steps for the eye.
Color mix(Color a, Color b, double t);

}  // namespace osprey
