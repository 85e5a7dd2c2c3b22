// Scores of a map of which only those are there that may be candidates: whoever makes them stores four
// neighbours where one of them is high enough, and of all tells which it stored. Where few are, that saves
// writing the others and reading them again.
#pragma once

#include <cstddef>
#include <cstdint>

namespace osprey {

struct ScoreFlags {
  // For each pixel and each of kFlagLanes lanes flag_words() words, of which a byte tells of kByteScores
  // scores: its bit b of the four that begin at 16 b + 4 lane. Null: all scores are there.
  std::uint8_t* flags = nullptr;
  const float* least = nullptr;  // four that are all below it need not be there; on the device
};

inline constexpr int kFlagLanes = 4, kFlaggedTogether = 4, kByteScores = 64;
inline constexpr int kWordScores = 4 * kByteScores;

// Of a pixel and lane.
constexpr unsigned flag_words(unsigned channels) { return (channels + kWordScores - 1) / kWordScores; }

// Of a pixel.
constexpr std::size_t flag_bytes(unsigned channels) {
  return std::size_t{kFlagLanes} * flag_words(channels) * sizeof(std::uint32_t);
}

// Bytes of the word that tell of channels which exist; no others need be written.
constexpr std::uint32_t flag_mask(unsigned channels, unsigned word) {
  const unsigned bytes = (channels - word * kWordScores + kByteScores - 1) / kByteScores;
  return bytes >= 4 ? 0xffffffffu : (1u << (8 * bytes)) - 1;
}

}  // namespace osprey
