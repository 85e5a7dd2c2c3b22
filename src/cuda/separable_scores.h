// Separable convolutions whose results are f32: scores of many classes, boxes.
#pragma once

#include "cuda/separable_conv.h"

namespace osprey {

// As can_separate() and launch_separable_convs(), which hand these on.
bool can_score(const SeparableConv& conv);
void launch_separable_scores(std::span<const SeparableConv> convs, const SeparableLaunch& how);

}  // namespace osprey
