#include "sim/search/memory_bound.h"

#include <algorithm>

#include "sim/program/cursor.h"
#include "sim/schedule/lower.h"

namespace longhaul {

namespace {

bool counts(const Tensor& tensor) { return !tensor.in_host_memory && !tensor.view; }

}  // namespace

Bytes memory_lower_bound(const Scenario& scenario) {
  Scenario least = scenario;
  if (scenario.plan.schedule == PipelineSchedule::zb_1p ||
      scenario.plan.schedule == PipelineSchedule::zb_2p) {
    // How many micro-batches a stage holds is planned once passes are timed: one at least.
    least.workload.global_batch = least.workload.micro_batch * least.plan.data;
  }
  const Program program = lower(least);
  const RankId rank(0);  // of a pipeline's first stage: any rank's need is a bound of the fullest's
  double held = program.framework_memory.value();
  for (const Tensor& tensor : program.tensors) {
    if (tensor.persistent && counts(tensor)) {
      held += tensor.slot_bytes().value() * static_cast<double>(tensor.held_slots(program.mesh, rank));
    }
  }
  double peak = held;
  for (Cursor cursor(program, rank); !cursor.done(); cursor.advance()) {
    const Instruction& instruction = cursor.instruction();
    if (instruction.op != Op::allocate && instruction.op != Op::release) {
      continue;
    }
    const bool allocates = instruction.op == Op::allocate;
    for (const TensorRef& ref : allocates ? instruction.writes : instruction.reads) {
      const Tensor& tensor = program.tensor(ref.tensor);
      if (counts(tensor)) {
        held += (allocates ? 1.0 : -1.0) * tensor.slot_bytes().value();
      }
    }
    peak = std::max(peak, held);
  }
  return Bytes::of(peak);
}

}  // namespace longhaul
