#include "cuda/joined_steps.h"

#include <algorithm>

#include <fmt/format.h>

#include "cuda/bench_run.h"
#include "cuda/measure.h"
#include "cuda/tuner.h"
#include "ops/conv.h"

namespace osprey {

const Node* sole_reader(const Graph& graph, ValueId value) {
  const std::vector<const Node*> users = graph.users(value);
  const bool once = users.size() == 1 && std::ranges::count(users.front()->inputs, value) == 1;
  return once && !graph.is_output(value) ? users.front() : nullptr;
}

Shape weight_dims(const Graph& graph, const Node& node) {
  Shape out;
  for (const Dim& d : graph.value(node.inputs[1]).type.dims) out.push_back(d.constant());
  return out;
}

bool is_pointwise(const Graph& graph, const Node& node) {
  const Conv* op = node.op.as<Conv>();
  if (!op || op->groups != 1 || op->stride != std::vector<int>{1, 1} || op->residual_scale != 1 ||
      (op->padding != Padding::kSame && op->pads != std::vector<int>(4, 0)))
    return false;
  const Shape weight = weight_dims(graph, node);
  return weight[2] == 1 && weight[3] == 1;
}

std::size_t inputs_of(std::span<CudaPrepare* const> members) {
  std::size_t out = 0;
  for (const CudaPrepare* p : members) out += p->node().inputs.size();
  return out;
}

bool is_captured(cudaStream_t stream) {
  cudaStreamCaptureStatus status{};
  cuda_check(cudaStreamIsCapturing(stream, &status), "asking whether a stream is captured");
  return status == cudaStreamCaptureStatusActive;
}

void InTurnStep::add(std::unique_ptr<CudaStep> step, std::span<CudaPrepare* const> members) {
  parts_.push_back({std::move(step), ins_, outs_});
  ins_ += inputs_of(members);
  outs_ += members.size();
}

void InTurnStep::add_each(std::span<CudaPrepare* const> members, const MakeMember& each) {
  for (std::size_t i = 0; i < members.size(); ++i) add(each(*members[i]), members.subspan(i, 1));
}

void InTurnStep::launch(CudaRun& run) {
  for (const Part& part : parts_) {
    MemberRun of_part(run, part.first_in, part.first_out);
    part.step->launch(of_part);
  }
}

std::string InTurnStep::detail() const {
  std::string out;
  for (std::size_t i = 0, same = 0; i < parts_.size(); i += same) {
    const std::string detail = parts_[i].step->detail();
    for (same = 1; i + same < parts_.size() && parts_[i + same].step->detail() == detail;) ++same;
    if (i > 0) out += "; then ";
    out += same == 1 ? detail : fmt::format("{} one after the other: {}", same, detail);
  }
  return out;
}

double InTurnStep::flops() const {
  double sum = 0;
  for (const Part& part : parts_) sum += part.step->flops();
  return sum;
}

std::unique_ptr<CudaStep> each_in_turn(std::span<CudaPrepare* const> members, const MakeMember& each) {
  auto out = std::make_unique<InTurnStep>();
  out->add_each(members, each);
  return out;
}

// To choose among what libraries do for `each` takes longest by far, and makes a step a tenth faster than
// what they expect to be best, rarely more. So `own` is held against that first.
std::unique_ptr<CudaStep> faster(std::span<CudaPrepare* const> members, const std::string& key,
                                 const MakeStep& own, const MakeStep& each,
                                 const std::function<std::size_t()>& scratch) {
  constexpr double kMuchFaster = 1.2;
  const std::vector<std::string> names{"own", "each"};
  CudaTuner& tuner = members.front()->tuner();
  const auto known = tuner.find(key);
  if (known ? known->name == names[0] : tuner.seconds_left() == 0) return own();
  if (known) return each();
  const auto seconds = [&](CudaStep& step) {
    BenchRun run(members, scratch());
    return measure_launches(run.stream(), [&] { step.launch(run); });
  };
  std::unique_ptr<CudaStep> ours = own(), theirs;
  {
    const CudaTuner::Pause pause(tuner);
    theirs = each();
  }
  const auto charged = [&](CudaStep& step) {
    const CudaTuner::Spending spending(tuner);
    return seconds(step);
  };
  const auto our_time = charged(*ours), expected = charged(*theirs);
  const bool settled = our_time && expected && *our_time * kMuchFaster < *expected;
  if (!settled) theirs = each();
  const std::size_t best = tuner.choose(key, names, [&](std::size_t i) {
    return i == 0 ? our_time : settled ? expected : seconds(*theirs);
  });
  return best == 0 ? std::move(ours) : std::move(theirs);
}

}  // namespace osprey
