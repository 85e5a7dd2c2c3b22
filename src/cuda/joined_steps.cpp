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
  const auto our_time = seconds(*ours), expected = seconds(*theirs);
  const bool settled = our_time && expected && *our_time * kMuchFaster < *expected;
  if (!settled) theirs = each();
  const std::size_t best = tuner.choose(key, names, [&](std::size_t i) {
    return i == 0 ? our_time : settled ? expected : seconds(*theirs);
  });
  return best == 0 ? std::move(ours) : std::move(theirs);
}

}  // namespace osprey
