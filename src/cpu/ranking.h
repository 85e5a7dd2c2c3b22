// Ranking by descending score, equal scores by ascending index, as one integer comparison.
#pragma once

#include <bit>
#include <cstdint>

namespace osprey {

// Unsigned integers in the order of the floats (-0 and 0 alike); score_of_bits is the inverse.
inline std::uint32_t bits_of_score(float score) {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
inline float score_of_bits(std::uint32_t bits) {
  return std::bit_cast<float>(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

// Greater ranks come first. No two candidates have the same rank, so that any sort gives the same order.
using Rank = std::uint64_t;

inline Rank rank_of(float score, std::uint32_t index) {
  return Rank{bits_of_score(score)} << 32 | (0xffffffffu - index);
}
inline float score_of(Rank rank) { return score_of_bits(static_cast<std::uint32_t>(rank >> 32)); }
inline std::uint32_t index_of(Rank rank) { return 0xffffffffu - static_cast<std::uint32_t>(rank); }

}  // namespace osprey
