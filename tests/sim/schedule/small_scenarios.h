// Scenarios small enough to count by hand. lower() never looks at the cluster, so there is none.
#pragma once

#include <string>
#include <vector>

#include "sim/scenario/scenario.h"

namespace longhaul::test {

/// Llama-shaped: gated MLP, RMSNorm, rotary positions, grouped queries.
inline Model small_llama(std::int64_t heads = 8, std::int64_t kv_heads = 4) {
  Model model;
  model.name = "small";
  model.layers = 3;
  model.hidden = 32;
  model.heads = heads;
  model.kv_heads = kv_heads;
  model.head_dim = 4;
  model.ffn = 48;
  model.vocab = 64;
  return model;
}

/// GPT-shaped: biases, LayerNorm, learned positions, tied embeddings, two MLP matrices.
inline Model small_gpt() {
  Model model = small_llama(8, 8);
  model.gated_mlp = false;
  model.tied_embeddings = true;
  model.attention_bias = model.output_bias = model.mlp_bias = true;
  model.norm = Norm::layer_norm;
  model.positions = PositionEmbedding::learned;
  model.max_positions = 64;
  return model;
}

inline Scenario scenario_of(const Model& model, Phase phase, const Plan& plan) {
  Scenario scenario{model, Cluster(nullptr), 1, {}, plan, {}, "ideal", "", {}};
  scenario.gpus = plan.tensor * plan.context.degree() * plan.data;
  scenario.workload.phase = phase;
  scenario.workload.sequence_length = 64;
  scenario.workload.micro_batch = 2;
  scenario.workload.global_batch = 2 * plan.data;
  return scenario;
}

inline Plan plan_of(ContextMethod method, std::int64_t ring, std::int64_t ulysses,
                    SequenceOrder order = SequenceOrder::zigzag) {
  Plan plan;
  plan.context = {method, ring, ulysses, order, InnerPlacement::ulysses};
  return plan;
}

}  // namespace longhaul::test
