#include "cpu/integer_scales.h"

#include <algorithm>

#include "cpu/taps.h"

namespace osprey {
namespace {

DnnlArgument scale_argument(const CpuPrepare& p, int name, const std::string& key,
                            const std::function<Tensor()>& values) {
  const auto made = p.shared(key, [&]() -> std::shared_ptr<const void> {
    const Tensor scales = values();
    const dnnl::memory::desc desc({scales.dim(0)}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::a);
    return std::make_shared<DnnlConstant>(dnnl_constant(scales, desc));
  });
  const auto constant = std::static_pointer_cast<const DnnlConstant>(made);
  return {DNNL_ARG_ATTR_SCALES | name,
          DnnlArgument::From::kConstant,
          0,
          0,
          constant->memory.get_desc(),
          constant};
}

}  // namespace

DnnlArgument weight_scales(const CpuPrepare& p, std::size_t scale, float x_scale, std::int64_t taps) {
  return scale_argument(
      p, DNNL_ARG_WEIGHTS, fmt::format("scale:{}:{:a}:{}", p.node().inputs[scale], x_scale, taps), [&] {
        const Tensor given = repeated_for_taps(p.weight(scale), taps);
        Tensor out = Tensor::zeros(DType::kF32, given.shape());
        std::transform(given.values<float>().begin(), given.values<float>().end(),
                       out.mutable_values<float>().begin(), [&](float each) { return x_scale * each; });
        return out;
      });
}

dnnl::primitive_attr integer_attributes(int weight_axes, StoredType to, Activation activation) {
  dnnl::primitive_attr out;
  out.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  out.set_scales_mask(DNNL_ARG_WEIGHTS, weight_axes);
  if (is_integer(to)) out.set_scales_mask(DNNL_ARG_DST, 0);
  dnnl::post_ops ops;
  append_activation(ops, activation);
  out.set_post_ops(ops);
  return out;
}

DnnlArgument result_scale(const CpuPrepare& p, float y_scale) {
  return scale_argument(p, DNNL_ARG_DST, fmt::format("scale:{:a}", y_scale),
                        [&] { return Tensor::from<float>(std::span(&y_scale, 1), {1}); });
}

}  // namespace osprey
