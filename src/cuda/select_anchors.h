// The selection of anchors as a part of a step that also makes the scores.
#pragma once

#include <memory>
#include <vector>

#include "cuda/kernel.h"
#include "cuda/score_flags.h"

namespace osprey {

class AnchorSelection : public CudaStep {
 public:
  // Before the scores are made. `flagged`: they may be there in part, and what comes back, of each level, is
  // how; its memory is the step's scratch.
  virtual std::vector<ScoreFlags> begin(CudaRun& run, bool flagged) = 0;
  virtual void end(CudaRun& run, bool flagged) = 0;

  void launch(CudaRun& run) override {
    begin(run, false);
    end(run, false);
  }
};

// Of a select_anchors node whose maps have a multiple of kFlaggedTogether channels.
std::unique_ptr<AnchorSelection> anchor_selection(CudaPrepare& prepare);

}  // namespace osprey
