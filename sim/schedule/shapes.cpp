#include "sim/schedule/attention.h"

#include "sim/units/check.h"

namespace longhaul {

namespace {

DataType activation_type(const Scenario& scenario) {
  // fp8 is a format of matrix products; activations between them stay in bf16.
  return scenario.precision.compute == DataType::fp8 ? DataType::bf16 : scenario.precision.compute;
}

}  // namespace

Shapes::Shapes(const Scenario& scenario)
    : batch(scenario.workload.micro_batch),
      heads(scenario.model.heads / scenario.plan.tensor),
      kv_heads(scenario.model.kv_heads / scenario.plan.tensor),
      head_dim(scenario.model.head_dim),
      value_dim(longhaul::value_dim(scenario.model)),
      ring(scenario.plan.context.ring),
      ulysses(scenario.plan.context.ulysses),
      tensor(scenario.plan.tensor),
      chunked(scenario.plan.context.is_chunked()),
      chunks(scenario.plan.context.is_chunked() ? scenario.plan.context.chunks : 1),
      type(activation_type(scenario)) {
  check(kv_heads > 0, "a rank holds at least one key/value head");
  tokens = scenario.workload.sequence_length / (ring * ulysses);
  cached = scenario.workload.cached_tokens / ring;
  // Transformer Engine sends key/value gradients in the type of the keys; ring-flash-attention and
  // the ideal schedule keep them in fp32.
  travelling = scenario.stack().fp32_ring_gradients ? DataType::fp32 : type;
  synchronous_hops = scenario.stack().synchronous_hops;
  if (ring > 1) {
    ring_shards.push_back({Axis::ring, scenario.plan.context.order});
  }
  token_shards = ring_shards;
  if (tensor > 1) {
    head_shards.push_back({Axis::tensor, SequenceOrder::contiguous});
  }
  ulysses_head_shards = head_shards;
  if (ulysses > 1) {
    token_shards.push_back({Axis::ulysses, SequenceOrder::contiguous, chunks});
    ulysses_head_shards.push_back({Axis::ulysses, SequenceOrder::contiguous});
  }
}

AttentionGeometry attention_geometry(const Scenario& scenario) {
  const ContextPlan& context = scenario.plan.context;
  if (context.is_chunked()) {
    return {scenario.workload.sequence_length, context.chunks, SequenceOrder::contiguous,
            scenario.workload.mask, keeps_dropout_masks(scenario)};
  }
  // Without a ring nothing is dealt out of order, whatever order the plan names.
  const SequenceOrder order = context.ring > 1 ? context.order : SequenceOrder::contiguous;
  return {scenario.workload.sequence_length, context.ring, order, scenario.workload.mask,
          keeps_dropout_masks(scenario), scenario.workload.cached_tokens};
}

std::int64_t micro_batches_of(const Scenario& scenario) {
  const bool several = scenario.workload.phase == Phase::train || scenario.plan.pipeline > 1;
  return several ? scenario.micro_batches() : 1;
}

bool keeps_dropout_masks(const Scenario& scenario) {
  const SoftwareProfile& stack = scenario.stack();
  const bool usual = scenario.model.gated_mlp ? stack.gated_dropout : stack.gpt_dropout;
  return scenario.workload.phase == Phase::train && scenario.workload.dropout.value_or(usual);
}

TensorSpec Shapes::heads_spec(std::int64_t head_count, std::int64_t channels) const {
  TensorSpec spec;
  spec.shape = {batch, tokens, head_count, channels > 0 ? channels : head_dim};
  spec.shards = {{{Axis::data, SequenceOrder::contiguous}}, token_shards, head_shards, {}};
  spec.type = type;
  return spec;
}

TensorSpec Shapes::core_spec(std::int64_t head_count, std::int64_t channels) const {
  TensorSpec spec = heads_spec(head_count, channels);
  spec.shape[1] = core_tokens();
  spec.shards[1] = ring_shards;
  spec.shards[2] = ulysses_head_shards;
  return spec;
}

namespace {

TensorSpec as(TensorSpec spec, MemoryCategory category, DataType type) {
  spec.category = category;
  spec.type = type;
  return spec;
}

}  // namespace

TensorSpec Shapes::core_queries(MemoryCategory category, DataType wanted) const {
  return as(core_spec(core_heads()), category, wanted);
}

TensorSpec Shapes::core_keys(MemoryCategory category, DataType wanted) const {
  TensorSpec spec = core_spec(core_kv_heads());
  spec.shape[1] = core_key_tokens();
  return as(spec, category, wanted);
}

TensorSpec Shapes::core_outputs(MemoryCategory category, DataType wanted) const {
  return as(core_spec(core_heads(), value_dim), category, wanted);
}

TensorSpec Shapes::core_values(MemoryCategory category, DataType wanted) const {
  TensorSpec spec = core_spec(core_kv_heads(), value_dim);
  spec.shape[1] = core_key_tokens();
  return as(spec, category, wanted);
}

TensorSpec Shapes::core_rows(MemoryCategory category) const {
  TensorSpec spec;
  spec.shape = {batch, core_heads(), core_tokens()};
  spec.shards = {{}, ulysses_head_shards, ring_shards};
  return as(spec, category, DataType::fp32);
}

std::int64_t Shapes::core_kv_heads() const { return kv_heads * replication() / ulysses; }

std::int64_t Shapes::replication() const {
  if (kv_heads % ulysses == 0) {
    return 1;
  }
  check(ulysses % kv_heads == 0, "Ulysses must divide, or be a multiple of, the key/value heads");
  return ulysses / kv_heads;
}

}  // namespace longhaul
