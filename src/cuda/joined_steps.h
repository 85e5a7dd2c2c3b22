// Steps of several nodes, whose inputs and outputs are those of all members, one after the other; and what
// tells of nodes whether they may be one.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cuda/kernel.h"

namespace osprey {

// What one member, or several that stand together, see of a run of the step.
class MemberRun final : public CudaRun {
 public:
  MemberRun(CudaRun& step, std::size_t first_in, std::size_t first_out)
      : step_(step), first_in_(first_in), first_out_(first_out) {}
  const CudaValue& in(std::size_t i) const override { return step_.in(first_in_ + i); }
  const CudaValue& out(std::size_t i) const override { return step_.out(first_out_ + i); }
  bool has_input(std::size_t i) const override { return step_.has_input(first_in_ + i); }
  std::byte* scratch() const override { return step_.scratch(); }
  cudaStream_t stream() const override { return step_.stream(); }
  const CudaPhotos& photos() const override { return step_.photos(); }
  const CudaParameters* parameters() const override { return step_.parameters(); }
  int lane() const override { return step_.lane(); }

 private:
  CudaRun& step_;
  std::size_t first_in_, first_out_;
};

// The node that alone reads a value, and once; null where there is none, or the value is an output.
const Node* sole_reader(const Graph& graph, ValueId value);

// Of input 1, a weight.
Shape weight_dims(const Graph& graph, const Node& node);

// Whether a convolution is a product of each pixel's channels: 1x1 with stride 1, a residual of y's size.
bool is_pointwise(const Graph& graph, const Node& node);

// How many inputs members have together.
std::size_t inputs_of(std::span<CudaPrepare* const> members);

// Whether a run is put into a graph, where nobody looks at what lies between a step's members.
bool is_captured(cudaStream_t stream);

using MakeMember = std::function<std::unique_ptr<CudaStep>(CudaPrepare&)>;

// Parts of a step one after the other.
class InTurnStep final : public CudaStep {
 public:
  // The next part, which is of these members.
  void add(std::unique_ptr<CudaStep> step, std::span<CudaPrepare* const> members);
  // The next parts, one for each of these.
  void add_each(std::span<CudaPrepare* const> members, const MakeMember& each);

  void launch(CudaRun& run) override;
  std::string detail() const override;
  double flops() const override;

 private:
  struct Part {
    std::unique_ptr<CudaStep> step;
    std::size_t first_in, first_out;
  };
  std::vector<Part> parts_;
  std::size_t ins_ = 0, outs_ = 0;
};

std::unique_ptr<CudaStep> each_in_turn(std::span<CudaPrepare* const> members, const MakeMember& each);

using MakeStep = std::function<std::unique_ptr<CudaStep>()>;

// The faster of two ways to make members, which are measured once for each key; `own` where there is no time
// to. `scratch`: bytes, the largest request so far.
std::unique_ptr<CudaStep> faster(std::span<CudaPrepare* const> members, const std::string& key,
                                 const MakeStep& own, const MakeStep& each,
                                 const std::function<std::size_t()>& scratch);

}  // namespace osprey
