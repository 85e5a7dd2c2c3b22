#include "draw/palette.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

namespace osprey {
namespace {

using Vec3 = std::array<double, 3>;
using Matrix = std::array<Vec3, 3>;

constexpr Matrix kProtanopia{
    {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}}};
constexpr Matrix kDeuteranopia{
    {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}}};

constexpr Matrix kLinearToCone{{{0.4122214708, 0.5363325363, 0.0514459929},
                                {0.2119034982, 0.6806995451, 0.1073969566},
                                {0.0883024619, 0.2817188376, 0.6299787005}}};
constexpr Matrix kConeToLab{{{0.2104542553, 0.7936177850, -0.0040720468},
                             {1.9779984951, -2.4285922050, 0.4505937099},
                             {0.0259040371, 0.7827717662, -0.8086757660}}};
constexpr Matrix kLabToCone{
    {{1, 0.3963377774, 0.2158037573}, {1, -0.1055613458, -0.0638541728}, {1, -0.0894841775, -1.2914855480}}};
constexpr Matrix kConeToLinear{{{4.0767416621, -3.3077115913, 0.2309699292},
                                {-1.2684380046, 2.6097574011, -0.3413193965},
                                {-0.0041960863, -0.7034186147, 1.7076147010}}};

constexpr std::array<Color, 7> kOkabeIto{{{213, 94, 0},
                                          {86, 180, 233},
                                          {0, 158, 115},
                                          {240, 228, 66},
                                          {204, 121, 167},
                                          {230, 159, 0},
                                          {0, 114, 178}}};

// Greyer colours look like part of the photo.
constexpr double kLeastChroma = 0.11;

Vec3 operator*(const Matrix& m, const Vec3& v) {
  Vec3 out;
  for (int i = 0; i < 3; ++i) out[i] = m[i][0] * v[0] + m[i][1] * v[1] + m[i][2] * v[2];
  return out;
}

double linear(std::uint8_t channel) {
  const double c = channel / 255.0;
  return c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
}

Vec3 linear(Color c) { return {linear(c.r), linear(c.g), linear(c.b)}; }

std::uint8_t gamma(double c) {
  const double coded = c <= 0.0031308 ? 12.92 * c : 1.055 * std::pow(c, 1 / 2.4) - 0.055;
  return static_cast<std::uint8_t>(std::lround(255 * std::clamp(coded, 0.0, 1.0)));
}

Vec3 lab(const Vec3& linear_rgb) {
  Vec3 cone = kLinearToCone * linear_rgb;
  for (double& c : cone) c = std::cbrt(c);
  return kConeToLab * cone;
}

Vec3 lab_to_linear(const Vec3& lab) {
  Vec3 cone = kLabToCone * lab;
  for (double& c : cone) c = c * c * c;
  return kConeToLinear * cone;
}

// What the three kinds of vision make of a colour.
using Seen = std::array<Vec3, 3>;

Seen seen(Color color) {
  const Vec3 rgb = linear(color);
  return {lab(rgb), lab(kProtanopia * rgb), lab(kDeuteranopia * rgb)};
}

double distance(const Seen& a, const Seen& b) {
  double least = 1e9;
  for (int i = 0; i < 3; ++i) {
    least = std::min(least, std::hypot(a[i][0] - b[i][0], a[i][1] - b[i][1], a[i][2] - b[i][2]));
  }
  return least;
}

bool in_srgb(const Vec3& linear_rgb) {
  return std::ranges::all_of(linear_rgb, [](double c) { return c >= 0 && c <= 1; });
}

// The most vivid colours that sRGB has of each hue, at lightnesses that show on dark and on bright photos.
std::vector<Color> candidates() {
  std::vector<Color> out;
  for (const double lightness : {0.54, 0.60, 0.66, 0.72, 0.78, 0.84, 0.90}) {
    for (int hue = 0; hue < 72; ++hue) {
      const double angle = hue * 2 * std::numbers::pi / 72;
      const auto at = [&](double chroma) {
        return lab_to_linear({lightness, chroma * std::cos(angle), chroma * std::sin(angle)});
      };
      double chroma = 0;
      while (in_srgb(at(chroma + 0.01))) chroma += 0.01;
      const Vec3 rgb = at(chroma);
      if (chroma >= kLeastChroma) out.push_back({gamma(rgb[0]), gamma(rgb[1]), gamma(rgb[2])});
    }
  }
  return out;
}

// Farthest-point selection: each candidate remembers its distance to the nearest colour already taken.
std::vector<Color> make_palette() {
  std::vector<Color> palette;
  const std::vector<Color> pool = candidates();
  std::vector<Seen> views(pool.size());
  std::ranges::transform(pool, views.begin(), seen);
  std::vector<double> nearest(pool.size(), 1e9);
  const auto take = [&](Color color) {
    palette.push_back(color);
    const Seen view = seen(color);
    for (std::size_t i = 0; i < pool.size(); ++i) nearest[i] = std::min(nearest[i], distance(view, views[i]));
  };
  std::ranges::for_each(kOkabeIto, take);
  while (palette.size() < kPaletteSize) take(pool[std::ranges::max_element(nearest) - nearest.begin()]);
  return palette;
}

}  // namespace

Color palette_color(int index) {
  static const std::vector<Color> palette = make_palette();
  return palette[static_cast<unsigned>(index) % kPaletteSize];
}

double luminance(Color color) {
  const Vec3 rgb = linear(color);
  return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
}

Color contrasting(Color background) {
  // The two contrasts are equal at 0.179, but on a saturated colour a little above it white still reads
  // better.
  return luminance(background) > 0.225 ? kBlack : kWhite;
}

double color_distance(Color a, Color b) { return distance(seen(a), seen(b)); }

Color mix(Color a, Color b, double t) {
  const Vec3 from = lab(linear(a)), to = lab(linear(b));
  Vec3 between;
  for (int i = 0; i < 3; ++i) between[i] = from[i] + (to[i] - from[i]) * t;
  const Vec3 rgb = lab_to_linear(between);
  return {gamma(rgb[0]), gamma(rgb[1]), gamma(rgb[2])};
}

}  // namespace osprey
