#include "image/resize_kernels.h"

#include <algorithm>
#include <cstring>

namespace osprey::resize_kernels {
namespace {

// A compiler vector: what is inlined below becomes the code of the processor that its caller is compiled for.
// The bytes of a word are summed apart, by shift and mask, so nothing is widened or narrowed across lanes.
using Words = std::uint32_t __attribute__((vector_size(64)));
static_assert(sizeof(Words) == kColumnBytes);

constexpr std::uint32_t kHalf = 1u << (kWeightBits - 1);

// The sums of the lowest kBytes bytes of each word.
template <int kBytes>
struct Sums {
  Words of[kBytes];

  [[gnu::always_inline]] void start() {
    for (Words& sum : of) sum = Words{} + kHalf;
  }
  [[gnu::always_inline]] void add(const std::uint8_t* from, std::int32_t weight) {
    Words words;
    std::memcpy(&words, from, sizeof(words));
    for (int i = 0; i < kBytes; ++i) of[i] += (words >> (8 * i) & 255) * static_cast<std::uint32_t>(weight);
  }
  // Weights are never negative, so only the upper end needs clipping.
  [[gnu::always_inline]] void finish(std::uint8_t* to) {
    Words words{};
    for (int i = 0; i < kBytes; ++i) {
      const Words byte = of[i] >> kWeightBits;
      words |= (byte > 255 ? Words{} + 255 : byte) << (8 * i);
    }
    std::memcpy(to, &words, sizeof(words));
  }
};

[[gnu::always_inline]] inline void horizontal_body(const std::uint8_t* in, Taps taps, int width,
                                                   std::uint8_t* out) {
  for (std::ptrdiff_t x = 0; x < width; ++x) {
    const std::uint8_t* from = in + static_cast<std::ptrdiff_t>(taps.first[x]) * kColumnBytes;
    const std::int32_t* weights = taps.weights + x * taps.stride;
    Sums<3> sums;
    sums.start();
    for (int k = 0; k < taps.count[x]; ++k, from += kColumnBytes) sums.add(from, weights[k]);
    sums.finish(out + x * kColumnBytes);
  }
}

[[gnu::always_inline]] inline void vertical_body(const std::uint8_t* rows, std::ptrdiff_t stride,
                                                 const std::int32_t* weights, int count, std::size_t bytes,
                                                 std::uint8_t* out) {
  std::size_t i = 0;
  for (; i + sizeof(Words) <= bytes; i += sizeof(Words)) {
    const std::uint8_t* from = rows + i;
    Sums<4> sums;
    sums.start();
    for (int k = 0; k < count; ++k, from += stride) sums.add(from, weights[k]);
    sums.finish(out + i);
  }
  for (; i < bytes; ++i) {
    const std::uint8_t* from = rows + i;
    std::uint32_t sum = kHalf;
    for (int k = 0; k < count; ++k, from += stride) sum += *from * static_cast<std::uint32_t>(weights[k]);
    out[i] = static_cast<std::uint8_t>(std::min(sum >> kWeightBits, 255u));
  }
}

void horizontal_any(const std::uint8_t* in, Taps taps, int width, std::uint8_t* out) {
  horizontal_body(in, taps, width, out);
}
void vertical_any(const std::uint8_t* rows, std::ptrdiff_t stride, const std::int32_t* weights, int count,
                  std::size_t bytes, std::uint8_t* out) {
  vertical_body(rows, stride, weights, count, bytes, out);
}

#if defined(__x86_64__)
[[gnu::target("avx2")]] void horizontal_avx2(const std::uint8_t* in, Taps taps, int width,
                                             std::uint8_t* out) {
  horizontal_body(in, taps, width, out);
}
[[gnu::target("avx2")]] void vertical_avx2(const std::uint8_t* rows, std::ptrdiff_t stride,
                                           const std::int32_t* weights, int count, std::size_t bytes,
                                           std::uint8_t* out) {
  vertical_body(rows, stride, weights, count, bytes, out);
}
[[gnu::target("avx512f")]] void horizontal_avx512(const std::uint8_t* in, Taps taps, int width,
                                                  std::uint8_t* out) {
  horizontal_body(in, taps, width, out);
}
[[gnu::target("avx512f")]] void vertical_avx512(const std::uint8_t* rows, std::ptrdiff_t stride,
                                                const std::int32_t* weights, int count, std::size_t bytes,
                                                std::uint8_t* out) {
  vertical_body(rows, stride, weights, count, bytes, out);
}
#endif

std::vector<Kernels> supported() {
  std::vector<Kernels> out{{horizontal_any, vertical_any}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) out.push_back({horizontal_avx2, vertical_avx2});
  if (__builtin_cpu_supports("avx512f")) out.push_back({horizontal_avx512, vertical_avx512});
#endif
  return out;
}

}  // namespace

const std::vector<Kernels>& kernels() {
  static const std::vector<Kernels> table = supported();
  return table;
}

}  // namespace osprey::resize_kernels
