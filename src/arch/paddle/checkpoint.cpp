#include "arch/paddle/checkpoint.h"

#include <algorithm>
#include <cstring>

#include "arch/family/tf_weights.h"
#include "formats/paddle_inference.h"

namespace osprey::paddle {
namespace {

bool has_tensor(const Checkpoint& checkpoint, std::string_view name) {
  return std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(),
                     [&](const NamedTensor& t) { return t.name == name; });
}

// Rows [begin, end) of a tensor.
NamedTensor rows_of(const NamedTensor& from, const char* part, std::int64_t begin, std::int64_t end) {
  NamedTensor out = from;
  out.name += part;
  out.shape[0] = end - begin;
  out.load = [load = from.load, shape = out.shape, begin] {
    const Tensor whole = load();
    Tensor rows = Tensor::zeros(whole.dtype(), shape);
    const std::size_t row = whole.bytes().size() / static_cast<std::size_t>(whole.dim(0));
    std::memcpy(rows.mutable_data(), whole.bytes().data() + static_cast<std::size_t>(begin) * row,
                rows.bytes().size());
    return rows;
  };
  return out;
}

bool is_projection(const NamedTensor& t) {
  return (t.name.ends_with(".in_proj_weight") || t.name.ends_with(".in_proj_bias")) && !t.shape.empty() &&
         t.shape[0] > 0 && t.shape[0] % 3 == 0;
}

bool is_of_training(std::string_view name) { return name == "transformer.denoising_class_embed.weight"; }

}  // namespace

bool is_rtdetr(const Checkpoint& checkpoint) {
  return has_tensor(checkpoint, "transformer.decoder.layers.0.cross_attn.sampling_offsets.weight") &&
         has_tensor(checkpoint, "neck.input_proj.0.0.weight");
}

bool is_exported(const Checkpoint& checkpoint) { return checkpoint.format == kPaddleInference; }

std::vector<NamedTensor> model_tensors(const Checkpoint& checkpoint) {
  std::vector<NamedTensor> out;
  for (NamedTensor t : checkpoint.tensors) {
    if (is_of_training(t.name)) continue;
    if (t.shape.size() == 2) t = from_tf(std::move(t), TfLayout::kDense);
    if (is_projection(t)) {
      const std::int64_t rows = t.shape[0];
      out.push_back(rows_of(t, kQueryKey, 0, rows / 3 * 2));
      out.push_back(rows_of(t, kValue, rows / 3 * 2, rows));
    } else {
      out.push_back(std::move(t));
    }
  }
  return out;
}

}  // namespace osprey::paddle
