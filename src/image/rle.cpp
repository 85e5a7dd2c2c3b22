#include "image/rle.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "core/error.h"

namespace osprey {

namespace {

std::uint32_t pixel_count(int height, int width) {
  require(height >= 0 && width >= 0, "mask: size {} x {} is negative", height, width);
  const std::int64_t pixels = std::int64_t{height} * width;
  require(pixels <= std::numeric_limits<std::int32_t>::max(), "mask: {} x {} is more than 2^31 - 1 pixels",
          height, width);
  return static_cast<std::uint32_t>(pixels);
}

constexpr std::uint64_t kLowBits = 0x7f7f7f7f7f7f7f7full;

std::uint64_t load8(const std::uint8_t* p) {
  std::uint64_t word;
  std::memcpy(&word, p, 8);
  return word;
}

// 0x80 in each byte that is not zero.
std::uint64_t nonzero_bytes(std::uint64_t word) {
  return (((word & kLowBits) + kLowBits) | word) & ~kLowBits;
}

// Calls found(column) where two rows of a mask differ in being inside.
template <class Found>
void differences(const std::uint8_t* a, const std::uint8_t* b, int width, Found&& found) {
  int x = 0;
  for (; x + 8 <= width; x += 8) {
    const std::uint64_t wa = load8(a + x), wb = load8(b + x);
    if (wa == wb) continue;
    for (auto diff = nonzero_bytes(wa) ^ nonzero_bytes(wb); diff != 0; diff &= diff - 1) {
      found(x + std::countr_zero(diff) / 8);
    }
  }
  for (; x < width; ++x) {
    if ((a[x] != 0) != (b[x] != 0)) found(x);
  }
}

}  // namespace

// Where a column-major walk changes value, each pixel differs from the one above (in the top row: from the
// last of the column before). Rows are compared whole, words at a time; the few changes are then sorted by
// column, which a counting sort does in one pass because they come in rows.
Rle encode_mask(const std::uint8_t* mask, int height, int width) {
  const std::uint32_t pixels = pixel_count(height, width);
  Rle out{height, width, {}};
  if (pixels == 0) return out;

  struct Change {
    std::int32_t row, column;
  };
  std::vector<Change> changes;
  const std::uint8_t* last = mask + std::size_t(height - 1) * width;
  bool above = false;
  for (int x = 0; x < width; ++x) {
    const bool inside = mask[x] != 0;
    if (inside != above) changes.push_back({0, x});
    above = last[x] != 0;
  }
  for (int y = 1; y < height; ++y) {
    const std::uint8_t* row = mask + std::size_t(y) * width;
    differences(row - width, row, width, [&](int x) { changes.push_back({y, x}); });
  }

  std::vector<std::uint32_t> next(static_cast<std::size_t>(width) + 1);
  for (const auto& change : changes) ++next[change.column + 1];
  for (int x = 0; x < width; ++x) next[x + 1] += next[x];
  out.counts.resize(changes.size() + 1);
  for (const auto& change : changes) {
    out.counts[next[change.column]++] = static_cast<std::uint32_t>(change.column) * height + change.row;
  }
  out.counts.back() = pixels;
  for (std::size_t i = out.counts.size() - 1; i > 0; --i) out.counts[i] -= out.counts[i - 1];
  return out;
}

// The inverse: changes are marked, then each row becomes the exclusive or of the marks above it.
void decode_mask(const Rle& rle, std::uint8_t* mask) {
  const std::size_t width = static_cast<std::size_t>(rle.width),
                    height = static_cast<std::size_t>(rle.height);
  std::memset(mask, 0, height * width);
  if (height * width == 0) return;
  std::size_t position = 0;
  for (std::size_t i = 0; i < rle.counts.size(); ++i) {
    const std::size_t end = position + rle.counts[i];
    check(end <= height * width, "decode_mask: counts exceed {} x {}", rle.height, rle.width);
    if (i % 2 == 1) {
      if (position != end) mask[position % height * width + position / height] ^= 1;
      // Row 0 holds values, not changes: a run that reaches over the top of a column sets it.
      for (std::size_t x = position / height + 1; x * height < end; ++x) mask[x] = 1;
      if (position != end && end % height != 0) mask[end % height * width + end / height] ^= 1;
    }
    position = end;
  }
  for (std::size_t y = 1; y < height; ++y) {
    std::uint8_t* row = mask + y * width;
    for (std::size_t x = 0; x < width; ++x) row[x] ^= row[x - width];
  }
}

Rle rle_from_counts(std::span<const std::uint32_t> counts, int height, int width) {
  const std::uint32_t pixels = pixel_count(height, width);
  Rle out{height, width, {}};
  out.counts.reserve(counts.size());
  std::uint64_t total = 0;
  bool merge = false;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    total += counts[i];
    if (merge) {
      out.counts.back() += counts[i];
      merge = false;
    } else if (counts[i] == 0 && !out.counts.empty()) {
      merge = true;  // the run behind it continues the run before it
    } else {
      out.counts.push_back(counts[i]);
    }
  }
  require(total == pixels, "mask: the run lengths add up to {}, expected {} x {} = {}", total, height, width,
          pixels);
  return out;
}

std::string compress_rle(const Rle& rle) {
  std::string text;
  text.reserve(rle.counts.size() * 2);
  for (std::size_t i = 0; i < rle.counts.size(); ++i) {
    std::int64_t value = rle.counts[i];
    if (i > 2) value -= rle.counts[i - 2];
    for (bool more = true; more;) {
      int bits = static_cast<int>(value & 31);
      value >>= 5;
      // Done when the sign bit of these five tells the rest.
      more = value != ((bits & 16) != 0 ? -1 : 0);
      if (more) bits |= 32;
      text.push_back(static_cast<char>('0' + bits));
    }
  }
  return text;
}

Rle decompress_rle(std::string_view text, int height, int width) {
  const std::uint32_t pixels = pixel_count(height, width);
  std::vector<std::uint32_t> counts;
  counts.reserve(text.size() / 2 + 1);
  for (std::size_t at = 0; at < text.size();) {
    std::int64_t value = 0;
    for (int shift = 0;; shift += 5) {
      require(at < text.size(), "mask: the compressed counts end within a number");
      require(shift <= 30, "mask: a compressed count at character {} has more than 7 digits", at);
      const int bits = static_cast<unsigned char>(text[at]) - '0';
      require(bits >= 0 && bits < 64, "mask: character {} of the compressed counts is not one of '0' to 'o'",
              at);
      ++at;
      value |= std::int64_t{bits & 31} << shift;
      if ((bits & 32) != 0) continue;
      if ((bits & 16) != 0) value |= ~std::int64_t{0} << (shift + 5);
      break;
    }
    if (counts.size() > 2) value += counts[counts.size() - 2];
    require(value >= 0 && value <= pixels, "mask: compressed count {} is {}, not within 0 and {}",
            counts.size(), value, pixels);
    counts.push_back(static_cast<std::uint32_t>(value));
  }
  return rle_from_counts(counts, height, width);
}

}  // namespace osprey
