#include "sim/model/model.h"

#include <algorithm>

namespace longhaul {

namespace {

/// Elements of one layer's attention matrices, biases left out.
std::int64_t attention_matrices(const Model& model) {
  const std::int64_t query_width = model.heads * model.head_dim;
  const std::int64_t output = model.heads * value_dim(model) * model.hidden;
  if (!has_latent_attention(model)) {
    // q is hidden x query_width, k and v hidden x kv_width.
    return model.hidden * (query_width + 2 * model.kv_heads * model.head_dim) + output;
  }
  const LatentAttention& latent = model.latent;
  const std::int64_t queries = latent.q_rank > 0 ? latent.q_rank * (model.hidden + query_width)
                                                 : model.hidden * query_width;
  const std::int64_t down = model.hidden * (latent.kv_rank + latent.rope_dim);
  const std::int64_t up = latent.kv_rank * model.heads * (latent.nope_dim + latent.value_dim);
  return queries + down + up + output;
}

std::int64_t mlp_matrices(const Model& model) {
  return (model.gated_mlp ? 3 : 2) * model.hidden * model.ffn;
}

/// Router and `routed` experts, and what every token passes.
std::int64_t mixture_matrices(const Model& model, std::int64_t routed) {
  const Experts& experts = model.experts;
  return model.hidden * (experts.count + 3 * (routed * experts.ffn + experts.shared_ffn) +
                         (experts.shared_gate ? 1 : 0));
}

std::int64_t attention_extras(const Model& model) {
  const std::int64_t query_width = model.heads * model.head_dim;
  const std::int64_t kv_width = model.kv_heads * model.head_dim;
  return (model.attention_bias ? query_width + 2 * kv_width : 0) +
         (model.output_bias ? model.hidden : 0) +
         (model.qk_norm ? 2 * model.head_dim : 0) +      // one weight vector for q, one for k
         model.latent.q_rank + model.latent.kv_rank;     // a norm on each latent vector
}

std::int64_t mlp_extras(const Model& model) {
  const std::int64_t inner_biases = model.gated_mlp ? 2 : 1;
  return model.mlp_bias ? inner_biases * model.ffn + model.hidden : 0;
}

/// One norm: a weight per channel, and a bias with LayerNorm.
std::int64_t norm_parameters(const Model& model) {
  return model.norm == Norm::layer_norm ? 2 * model.hidden : model.hidden;
}

}  // namespace

bool is_attention_only(const Model& model) { return model.ffn == 0; }

bool is_expert_layer(const Model& model, std::int64_t layer) {
  const Experts& experts = model.experts;
  return has_experts(model) && layer >= experts.dense_layers &&
         (layer - experts.dense_layers + 1) % experts.period == 0;
}

std::int64_t expert_layers(const Model& model) {
  return has_experts(model)
             ? std::max<std::int64_t>(0, model.layers - model.experts.dense_layers) /
                   model.experts.period
             : 0;
}

std::int64_t value_dim(const Model& model) {
  return has_latent_attention(model) ? model.latent.value_dim : model.head_dim;
}

ParameterCounts count_parameters(const Model& model) {
  const bool learned = model.positions == PositionEmbedding::learned;
  const std::int64_t mixtures = expert_layers(model);
  ParameterCounts counts;
  counts.embedding = (model.vocab + (learned ? model.max_positions : 0)) * model.hidden;
  counts.attention = attention_matrices(model) + attention_extras(model);
  counts.mlp = mlp_matrices(model) + mlp_extras(model);
  counts.expert = 3 * model.hidden * model.experts.ffn;
  counts.mixture = mixture_matrices(model, model.experts.count) +
                   (model.experts.router_bias ? model.experts.count : 0);
  counts.norms = 2 * norm_parameters(model);
  counts.final_norm = norm_parameters(model);
  counts.head = model.tied_embeddings ? 0 : model.vocab * model.hidden;
  counts.total = counts.embedding + model.layers * (counts.attention + counts.norms) +
                 (model.layers - mixtures) * counts.mlp + mixtures * counts.mixture +
                 counts.final_norm + counts.head;
  counts.active =
      counts.total - mixtures * (model.experts.count - model.experts.per_token) * counts.expert;
  return counts;
}

Flops forward_flops(const Model& model, std::int64_t sequences, std::int64_t length,
                    AttentionFlops attention) {
  const double layers = static_cast<double>(model.layers);
  const std::int64_t mixtures = expert_layers(model);
  // A tied LM head is still a matrix product; an embedding is a look-up.
  const double matrix =
      static_cast<double>(model.vocab) * static_cast<double>(model.hidden) +
      layers * static_cast<double>(attention_matrices(model)) +
      static_cast<double>((model.layers - mixtures) * mlp_matrices(model)) +
      static_cast<double>(mixtures * mixture_matrices(model, model.experts.per_token));
  const double tokens = static_cast<double>(sequences) * static_cast<double>(length);
  const double widths = static_cast<double>(model.heads * (model.head_dim + value_dim(model)));
  // Q K^T and P V: 2 FLOP each per query, key and channel.
  const double pairs = tokens * static_cast<double>(length);
  const double share = attention == AttentionFlops::causal ? 0.5 : 1.0;
  return Flops::of(2.0 * matrix * tokens + share * 2.0 * layers * pairs * widths);
}

Flops training_flops(const Model& model, std::int64_t sequences, std::int64_t length,
                     AttentionFlops attention) {
  // The backward pass is two products of the same size for each product of the forward pass.
  return 3.0 * forward_flops(model, sequences, length, attention);
}

}  // namespace longhaul
