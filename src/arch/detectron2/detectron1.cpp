// Detectron's layers under Detectron2's names.
#include "arch/family/detectron1.h"

#include <algorithm>
#include <cstring>

#include "arch/detectron2/checkpoint.h"
#include "core/error.h"

namespace osprey::detectron2 {
namespace {

// "~" at the start of a module stands for the trunk's prefix. The RPN's layers are defined on level 2 of a
// pyramid and shared by the others, hence "fpn2".
const std::vector<BlobRule>& rules() {
  static const std::vector<BlobRule> kRules = blob_rules({
      {"conv1", "~stem.conv1"},
      {"res_conv1", "~stem.conv1"},
      {"res([2-5])_(\\d+)_branch1", "~res$1.$2.shortcut"},
      {"res([2-5])_(\\d+)_branch2a", "~res$1.$2.conv1"},
      {"res([2-5])_(\\d+)_branch2b", "~res$1.$2.conv2"},
      {"res([2-5])_(\\d+)_branch2c", "~res$1.$2.conv3"},
      {"fpn_inner_res(\\d)_\\d+_sum(?:_lateral)?", "backbone.fpn_lateral$1"},
      {"fpn_res(\\d)_\\d+_sum", "backbone.fpn_output$1"},
      {"conv_rpn(?:_fpn2)?", "proposal_generator.rpn_head.conv"},
      {"rpn_cls_logits(?:_fpn2)?", "proposal_generator.rpn_head.objectness_logits"},
      {"rpn_bbox_pred(?:_fpn2)?", "proposal_generator.rpn_head.anchor_deltas"},
      {"fc6", "roi_heads.box_head.fc1"},
      {"fc7", "roi_heads.box_head.fc2"},
      {"head_conv(\\d)", "roi_heads.box_head.conv$1"},
      {"cls_score", "roi_heads.box_predictor.cls_score"},
      {"bbox_pred", "roi_heads.box_predictor.bbox_pred"},
      {"_\\[mask\\]_fcn(\\d+)", "roi_heads.mask_head.mask_fcn$1"},
      {"conv5_mask", "roi_heads.mask_head.deconv"},
      {"mask_fcn_logits", "roi_heads.mask_head.predictor"},
      {"conv_fcn(\\d+)", "roi_heads.keypoint_head.conv_fcn$1"},
      {"kps_score_lowres", "roi_heads.keypoint_head.score_lowres"},
  });
  return kRules;
}

void place_in_trunk(NamedTensor& t, const Detectron1Names& names) {
  if (!t.name.starts_with('~')) return;
  const bool head = names.res5_in_heads && t.name.starts_with("~res5.");
  t.name = (head ? "roi_heads." : names.pyramid ? "backbone.bottom_up." : "backbone.") + t.name.substr(1);
}

// Rows `from`.. and, behind them, rows 0..`wrapped`-1.
void take_rows(NamedTensor& t, std::int64_t from, std::int64_t wrapped) {
  require(!t.shape.empty() && t.shape[0] > from, "{}: no rows behind the background's in {}", t.name,
          to_string(t.shape));
  t.shape[0] += wrapped - from;
  t.dtype = DType::kF32;
  t.load = [load = t.load, shape = t.shape, from, wrapped] {
    const Tensor all = load().to_f32();
    Tensor out = Tensor::zeros(DType::kF32, shape);
    const std::size_t row = all.bytes().size() / static_cast<std::size_t>(all.dim(0));
    const std::size_t skipped = row * static_cast<std::size_t>(from),
                      moved = row * static_cast<std::size_t>(wrapped);
    const Bytes kept = all.bytes().subspan(skipped);
    std::memcpy(out.mutable_data(), kept.data(), kept.size());
    std::memcpy(out.mutable_data() + kept.size(), all.bytes().data(), moved);
    return out;
  };
}

void move_background(NamedTensor& t) {
  if (t.name.starts_with("roi_heads.box_predictor.cls_score.")) take_rows(t, 1, 1);
  if (t.name.starts_with("roi_heads.box_predictor.bbox_pred.")) take_rows(t, 4, 0);
  if (t.name.starts_with("roi_heads.mask_head.predictor.")) take_rows(t, 1, 0);
}

}  // namespace

std::vector<NamedTensor> from_detectron1(const Checkpoint& checkpoint, const Detectron1Names& names) {
  std::vector<NamedTensor> out = rename_blobs(checkpoint, rules());
  for (NamedTensor& t : out) {
    place_in_trunk(t, names);
    move_background(t);
  }
  return out;
}

}  // namespace osprey::detectron2
