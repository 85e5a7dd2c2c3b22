#include "cpu/layout_plan.h"

#include <map>

namespace osprey {
namespace {

class LayoutPlanner {
 public:
  LayoutPlanner(const Graph& graph, int block) : graph_(graph), block_(block) {}

  LayoutPlan plan(const std::vector<const CpuKernel*>& kernels) {
    for (const ValueId id : graph_.inputs()) add(id, {});
    for (const Weight& w : graph_.weights()) add(w.value, {});
    for (std::size_t i = 0; i < kernels.size(); ++i) place(graph_.nodes()[i], *kernels[i]);
    for (const ValueId id : graph_.outputs()) out_.outputs.push_back(in_layout(id, {}));
    return std::move(out_);
  }

 private:
  bool has_layout(ValueId id) const {
    const TensorType& type = graph_.value(id).type;
    return type.rank() == 4 && (type.dtype == DType::kF32 || type.dtype == DType::kBF16 || is_quantized(id));
  }
  // 8-bit values of layers; photos are 8-bit, too, but no kernel asks for a layout of them.
  bool is_quantized(ValueId id) const {
    const DType type = graph_.value(id).type.dtype;
    return type == DType::kI8 || type == DType::kU8;
  }

  int add(ValueId id, CpuLayout layout, int copy_of = -1) {
    out_.values.push_back({id, layout, copy_of});
    const int index = static_cast<int>(out_.values.size()) - 1;
    if (copy_of < 0) originals_[id] = index;
    return index;
  }

  // The value in that layout, copied there when it is not.
  int in_layout(ValueId id, CpuLayout layout) {
    const int original = originals_.at(id);
    if (!has_layout(id) || out_.values[static_cast<std::size_t>(original)].layout == layout) return original;
    const auto [it, fresh] = copies_.try_emplace({id, layout.block}, -1);
    if (fresh) {
      it->second = add(id, layout, original);
      out_.steps.push_back({nullptr, {original}, {it->second}});
    }
    return it->second;
  }

  // What a port gets; kAny ports get the node's own layout. oneDNN's 8-bit kernels are for channels last.
  CpuLayout resolve(CpuPort port, ValueId id, CpuLayout any) const {
    if (port == CpuPort::kAny) return any;
    if (port == CpuPort::kPlain) return {};
    return {is_quantized(id) ? 0 : block_};
  }

  // The layout of a node's kAny ports: that of the first input behind one, C order without such an input.
  CpuLayout any_layout(const Node& node, const CpuKernel& kernel) const {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId id = node.inputs[i];
      if (id == kNoValue || !has_layout(id) || graph_.weight(id)) continue;
      if (kernel.input && kernel.input(node, i, graph_) == CpuPort::kAny)
        return out_.values[static_cast<std::size_t>(originals_.at(id))].layout;
    }
    return {};
  }

  // Values of so few channels that a block would be mostly padding (pictures) stay in C order: inputs, and
  // what kernels make that take no layout.
  CpuLayout few_channels_plain(CpuPort port, ValueId id, CpuLayout any) const {
    const bool blocks = port == CpuPort::kBlocked && block_ > 1 && has_layout(id) && !is_quantized(id);
    return blocks && graph_.value(id).type.dims[1].constant() < 4 ? CpuLayout{} : resolve(port, id, any);
  }

  void place(const Node& node, const CpuKernel& kernel) {
    const CpuLayout any = any_layout(node, kernel);
    LaidStep step{&node, {}, {}};
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId id = node.inputs[i];
      const bool plain = id == kNoValue || !kernel.input || graph_.weight(id);
      step.ins.push_back(
          id == kNoValue ? -1
                         : in_layout(id, plain ? CpuLayout{}
                                               : few_channels_plain(kernel.input(node, i, graph_), id, any)));
    }
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const ValueId id = node.outputs[i];
      const bool plain = !kernel.output || !has_layout(id);
      if (plain) {
        step.outs.push_back(add(id, CpuLayout{}));
        continue;
      }
      const CpuPort port = kernel.output(node, i, graph_);
      step.outs.push_back(add(id, kernel.input ? resolve(port, id, any) : few_channels_plain(port, id, any)));
    }
    out_.steps.push_back(std::move(step));
  }

  const Graph& graph_;
  const int block_;
  LayoutPlan out_;
  std::map<ValueId, int> originals_;
  std::map<std::pair<ValueId, int>, int> copies_;
};

}  // namespace

// Measured with bench/dense.cpp: oneDNN's brgemm convolutions on channels last beat its direct ones on blocks
// by 6 % with AVX-512 in f32 and are level elsewhere, without padded channels. Below AVX2 there are none.
int preferred_block() { return __builtin_cpu_supports("avx2") ? 0 : 8; }

LayoutPlan plan_layouts(const Graph& graph, const std::vector<const CpuKernel*>& kernels, int block) {
  return LayoutPlanner(graph, block).plan(kernels);
}

}  // namespace osprey
