#include "sim/search/software_memory.h"

#include <array>
#include <optional>
#include <set>

namespace longhaul {

namespace {

void add_workspaces(const Scenario& scenario, Program& program) {
  const std::string& architecture = scenario.cluster.device().architecture;
  const bool hopper = architecture == "hopper" || architecture == "blackwell";
  const bool trains = scenario.workload.phase == Phase::train;
  for (const LibraryWorkspace& workspace : scenario.stack().workspaces) {
    Tensor held;
    held.name = workspace.name + " workspace";
    const Bytes usual = hopper ? workspace.since_hopper : workspace.bytes;
    const bool pinned = scenario.deterministic && workspace.deterministic.value() > 0.0;
    const Bytes bytes = pinned ? workspace.deterministic : usual;
    held.shape = {static_cast<std::int64_t>(bytes.value())};
    held.shards = {{}};
    held.type = DataType::fp8;  // one byte per element
    held.category = MemoryCategory::workspace;
    held.slots = trains ? workspace.training : workspace.inference;
    held.persistent = true;
    if (held.slots > 0) {
      program.tensors.push_back(std::move(held));
    }
  }
}

// Gradients that every replica sums travel in buckets of their own, in the compute type: as much again
// as the parameters (PyTorch's DistributedDataParallel without gradient_as_bucket_view).
void add_buckets(const Scenario& scenario, Program& program) {
  const std::int64_t replicas = scenario.plan.data * scenario.plan.context.degree();
  if (!scenario.stack().gradient_buckets || scenario.plan.zero > 0 || replicas == 1) {
    return;
  }
  const std::size_t count = program.tensors.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (program.tensors[i].role != Role::parameter) {
      continue;
    }
    Tensor bucket = program.tensors[i];
    bucket.name = "bucket." + bucket.name;
    bucket.role = Role::none;
    bucket.category = MemoryCategory::communication;
    program.tensors.push_back(std::move(bucket));
  }
}

// A layer's weight as its library sees it: rows and columns of a matrix; nothing for what is not a
// Linear of it (embedding, head, norms, the router). Of experts each has a matrix of its own.
std::optional<std::array<std::int64_t, 2>> matrix_of(const Tensor& weight) {
  if (weight.role != Role::parameter || !weight.name.starts_with("w_") ||
      weight.name == "w_router" || weight.elements() == 0) {
    return std::nullopt;
  }
  const bool experts = weight.name.starts_with("w_expert");
  const std::int64_t elements = weight.elements() / (experts ? weight.shape.front() : 1);
  // Products that end in the hidden state have it as their last dimension, the others as their first.
  const bool to_hidden =
      weight.name == "w_o" || weight.name == "w_down" || weight.name == "w_expert_down";
  if (to_hidden) {
    return std::array{weight.shape.back(), elements / weight.shape.back()};
  }
  const std::int64_t input = weight.shape[experts ? 1 : 0];
  return std::array{elements / input, input};
}

// Where products add to the gradients' sums themselves, autograd is handed a tensor of the weight's
// type and shape that nobody reads. It is made once for every shape, and kept. (ZeRO 3 is another
// library's, whose gradients are shards.)
void add_dummy_gradients(const Scenario& scenario, Program& program) {
  if (!scenario.stack().dummy_gradients || scenario.plan.zero == 3) {
    return;
  }
  std::set<std::array<std::int64_t, 2>> seen;
  const std::size_t count = program.tensors.size();
  for (std::size_t i = 0; i < count; ++i) {
    const auto matrix = matrix_of(program.tensors[i]);
    if (!matrix || !seen.insert(*matrix).second) {
      continue;
    }
    Tensor dummy;
    dummy.name = "dummy gradient of " + program.tensors[i].name;
    dummy.shape = {(*matrix)[0], (*matrix)[1]};
    dummy.shards = {{}, {}};
    dummy.type = program.tensors[i].type;
    dummy.category = MemoryCategory::workspace;
    dummy.persistent = true;
    program.tensors.push_back(std::move(dummy));
  }
}

}  // namespace

void add_software_memory(const Scenario& scenario, Program& program) {
  program.framework_memory = scenario.stack().context;
  // Attention alone calls none of these libraries' matrix products.
  if (scenario.workload.phase != Phase::attention) {
    add_workspaces(scenario, program);
  }
  if (scenario.workload.phase == Phase::train) {
    add_buckets(scenario, program);
    add_dummy_gradients(scenario, program);
  }
}

}  // namespace longhaul
