#include "sim/schedule/stack.h"

#include <algorithm>
#include <cmath>

namespace longhaul {

namespace {

// Inverse of the normal distribution function by bisection: erfc is exact enough and monotone.
double normal_quantile(double p) {
  double low = -10.0;
  double high = 10.0;
  while (high - low > 1e-12) {
    const double middle = 0.5 * (low + high);
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

const OperatorHabit* habit_called(const SoftwareProfile& stack, const std::string& name) {
  for (const OperatorHabit& habit : stack.operators) {
    if (habit.op == name) {
      return &habit;
    }
  }
  return nullptr;
}

// Megatron-LM's softmax kernel, and Transformer Engine's after it, takes rows of 16 to 4096 scores, a
// multiple of 4 long, of a multiple of 4 sequences and heads (fused_softmax.py, is_kernel_available).
// What it does not take is done in steps.
bool has_softmax_kernel(const Scenario& scenario) {
  const std::int64_t keys =
      scenario.workload.cached_tokens + scenario.workload.sequence_length;
  const std::int64_t rows =
      scenario.workload.micro_batch * scenario.model.heads / scenario.plan.tensor;
  return keys > 16 && keys <= 4096 && keys % 4 == 0 && rows % 4 == 0;
}

// Attention out of separate operators ("attend_unfused"; "attend_eager" without a softmax kernel) and that of sequences spread over ranks
// ("attend_shards") have habits of their own, where a stack says.
const OperatorHabit* habit_of(const Scenario& scenario, const Instruction& instruction) {
  const SoftwareProfile& stack = scenario.stack();
  const std::string name = name_of(instruction.op);
  const OperatorHabit* own = nullptr;
  if (scenario.attention_kernel == "unfused") {
    own = has_softmax_kernel(scenario) ? nullptr : habit_called(stack, name + "_eager");
    own = own != nullptr ? own : habit_called(stack, name + "_unfused");
  } else if (scenario.plan.context.degree() > 1) {
    own = habit_called(stack, name + "_shards");
  }
  return own != nullptr ? own : habit_called(stack, name);
}

}  // namespace

double expected_largest(std::int64_t count) {
  if (count <= 1) {
    return 0.0;
  }
  const auto n = static_cast<double>(count);
  return normal_quantile((n - 0.375) / (n + 0.25));
}

void take_habits(const Scenario& scenario, Program& program) {
  const SoftwareProfile& stack = scenario.stack();
  program.host.launch = Seconds::of(scenario.host_time(SoftwareNumber::host_launch));
  if (stack.keeps_gaps) {
    std::swap(program.gap, program.host.launch);
  }
  program.host.collective = Seconds::of(scenario.host_time(SoftwareNumber::host_collective));
  program.host.record_streams = stack.record_streams;
  program.host.gather_buffer = stack.gather_buffer;
  program.host.late_messages = stack.late_messages;
  // The driver serves one process of a node after another, and ranks allocate at the same moment.
  const auto waiting = static_cast<double>(std::min(program.mesh.ranks(), scenario.node_gpus));
  program.host.segment = stack.segment * (waiting / scenario.host_speed);
  program.host.threads = scenario.working_host_threads();
  program.grouped_product = stack.grouped_product;
  program.separate_query_sums = stack.separate_query_sums;
  program.sliced_merges = stack.sliced_merges;
  // All ranks wait for each other in every layer, so the slowest GPU sets the pace.
  program.slowdown = 1.0 + stack.number(SoftwareNumber::speed_spread) *
                               expected_largest(program.mesh.ranks());
  const bool caches = scenario.workload.phase == Phase::train && stack.keeps_fp8_weights;
  const double casts = caches ? 1.0 / static_cast<double>(scenario.micro_batches()) : 1.0;
  for (Instruction& instruction : program.code) {
    instruction.weight_casts *= casts;
    if (const OperatorHabit* habit = habit_of(scenario, instruction)) {
      instruction.launches *= habit->launches;
      instruction.traffic *= habit->traffic;
    }
  }
}

}  // namespace longhaul
