#include "cuda/joined_steps.h"

#include "cuda/bench_run.h"
#include "cuda/measure.h"
#include "cuda/tuner.h"

namespace osprey {

std::size_t inputs_of(std::span<CudaPrepare* const> members) {
  std::size_t out = 0;
  for (const CudaPrepare* p : members) out += p->node().inputs.size();
  return out;
}

void InTurnStep::add(std::unique_ptr<CudaStep> step, std::span<CudaPrepare* const> members) {
  parts_.push_back({std::move(step), ins_, outs_});
  ins_ += inputs_of(members);
  outs_ += members.size();
}

void InTurnStep::launch(CudaRun& run) {
  for (const Part& part : parts_) {
    MemberRun of_part(run, part.first_in, part.first_out);
    part.step->launch(of_part);
  }
}

std::string InTurnStep::detail() const {
  std::string out;
  for (const Part& part : parts_) out += (out.empty() ? "" : "; then ") + part.step->detail();
  return out;
}

double InTurnStep::flops() const {
  double sum = 0;
  for (const Part& part : parts_) sum += part.step->flops();
  return sum;
}

std::unique_ptr<CudaStep> faster(std::span<CudaPrepare* const> members, const std::string& key,
                                 const MakeStep& own, const MakeStep& each,
                                 const std::function<std::size_t()>& scratch) {
  const std::vector<std::string> names{"own", "each"};
  CudaTuner& tuner = members.front()->tuner();
  const auto known = tuner.find(key);
  if (known ? known->name == names[0] : tuner.seconds_left() == 0) return own();
  std::unique_ptr<CudaStep> steps[]{nullptr, each()};
  if (known) return std::move(steps[1]);
  steps[0] = own();
  BenchRun run(members, scratch());
  const std::size_t best = tuner.choose(key, names, [&](std::size_t i) {
    return measure_launches(run.stream(), [&] { steps[i]->launch(run); });
  });
  return std::move(steps[best]);
}

}  // namespace osprey
