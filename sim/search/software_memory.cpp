#include "sim/search/software_memory.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <utility>

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

// Of weights that are cast to fp8 the casts stay, from the first micro-batch on: each as it stands and
// transposed, for products before Blackwell want both operands with the summed dimension last.
// (Under ZeRO 3 the weights themselves do not stay.)
void add_fp8_weights(const Scenario& scenario, Program& program) {
  if (!scenario.stack().keeps_fp8_weights || scenario.precision.compute != DataType::fp8 ||
      scenario.plan.zero == 3) {
    return;
  }
  const bool transposed = scenario.cluster.device().architecture != "blackwell";
  const std::size_t count = program.tensors.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (!matrix_of(program.tensors[i])) {
      continue;
    }
    Tensor cast = program.tensors[i];
    cast.name = "fp8 " + cast.name;
    cast.type = DataType::fp8;
    cast.role = Role::none;
    cast.category = MemoryCategory::parameters;
    if (transposed) {
      cast.shape.push_back(2);
      cast.shards.emplace_back();
    }
    program.tensors.push_back(std::move(cast));
  }
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

void add_buffer(Program& program, const char* name, std::int64_t elements, DataType type,
                std::int64_t count = 1) {
  Tensor held;
  held.name = name;
  held.shape = {elements};
  held.shards = {{}};
  held.type = type;
  held.category = MemoryCategory::communication;
  held.slots = count;
  held.persistent = true;
  program.tensors.push_back(std::move(held));
}

// Of the largest weight, what this rank owns.
std::int64_t largest_part(const Program& program) {
  std::int64_t largest = 0;
  for (const Tensor& tensor : program.tensors) {
    largest = std::max(largest, tensor.role == Role::parameter ? tensor.elements() : 0);
  }
  return largest;
}

// DeepSpeed's ZeRO moves fresh gradients into a bucket of so many elements and sums it when it is full;
// below stage 3 there are two where sums run beside the backward pass. Stage 3 puts a bucket in order
// by rank in a second buffer; on its way to host memory each part is read into its norm in fp64. These
// two stand in the allocator's pool of the stream that sums, which no other stream draws from.
void add_reduction_bucket(const Scenario& scenario, Program& program) {
  const std::int64_t bucket = scenario.stack().reduction_bucket;
  const bool last_stage = scenario.plan.zero == 3;
  if (bucket == 0 || scenario.plan.zero == 0) {
    return;
  }
  const DataType type = scenario.precision.compute == DataType::fp8 ? DataType::bf16
                                                                    : scenario.precision.compute;
  const bool two = !last_stage && scenario.overlaps_gradient_reduction();
  add_buffer(program, "reduction bucket", bucket, type, two ? 2 : 1);
  if (!last_stage) {
    return;
  }
  const std::int64_t ranks = scenario.plan.tensor * scenario.plan.pipeline;
  const std::int64_t all = count_parameters(scenario.model).total / ranks;
  add_buffer(program, "gradients in order", std::min(bucket, all), type);
  if (scenario.plan.offloads(Offload::optimizer)) {
    // stage3.py, _constant_buffered_norm2: in pieces of 250,000,000 elements.
    const std::int64_t part = largest_part(program);
    add_buffer(program, "gradient on its way to the host", part, type);
    add_buffer(program, "gradient in fp64", std::min<std::int64_t>(part, 250'000'000) * 2,
               DataType::fp32);
  }
}

}  // namespace

void add_software_memory(const Scenario& scenario, Program& program) {
  program.framework_memory = scenario.stack().context;
  program.expandable_segments = scenario.expandable_segments;
  // Attention alone calls none of these libraries' matrix products.
  if (scenario.workload.phase != Phase::attention) {
    add_workspaces(scenario, program);
  }
  if (scenario.workload.phase == Phase::train) {
    add_buckets(scenario, program);
    add_fp8_weights(scenario, program);
    add_dummy_gradients(scenario, program);
    add_reduction_bucket(scenario, program);
  }
}

}  // namespace longhaul
