#include "sim/model/model.h"

namespace longhaul {

namespace {

/// Multiply-adds per token of one layer's matrices: their element counts, biases left out.
struct LayerMatrices {
  std::int64_t attention = 0;
  std::int64_t mlp = 0;
};

LayerMatrices layer_matrices(const Model& model) {
  const std::int64_t query_width = model.heads * model.head_dim;
  const std::int64_t kv_width = model.kv_heads * model.head_dim;
  const std::int64_t mlp_matrices = model.gated_mlp ? 3 : 2;
  // q and o are hidden x query_width, k and v hidden x kv_width.
  return {model.hidden * (2 * query_width + 2 * kv_width), mlp_matrices * model.hidden * model.ffn};
}

std::int64_t attention_extras(const Model& model) {
  const std::int64_t query_width = model.heads * model.head_dim;
  const std::int64_t kv_width = model.kv_heads * model.head_dim;
  return (model.attention_bias ? query_width + 2 * kv_width : 0) +
         (model.output_bias ? model.hidden : 0) +
         (model.qk_norm ? 2 * model.head_dim : 0);  // one weight vector for q, one for k
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

ParameterCounts count_parameters(const Model& model) {
  const LayerMatrices matrices = layer_matrices(model);
  const bool learned = model.positions == PositionEmbedding::learned;
  ParameterCounts counts;
  counts.embedding = (model.vocab + (learned ? model.max_positions : 0)) * model.hidden;
  counts.attention = matrices.attention + attention_extras(model);
  counts.mlp = matrices.mlp + mlp_extras(model);
  counts.norms = 2 * norm_parameters(model);
  counts.final_norm = norm_parameters(model);
  counts.head = model.tied_embeddings ? 0 : model.vocab * model.hidden;
  counts.total = counts.embedding + model.layers * (counts.attention + counts.mlp + counts.norms) +
                 counts.final_norm + counts.head;
  return counts;
}

Flops forward_flops(const Model& model, std::int64_t sequences, std::int64_t length,
                    AttentionFlops attention) {
  const LayerMatrices matrices = layer_matrices(model);
  const double layers = static_cast<double>(model.layers);
  // A tied LM head is still a matrix product; an embedding is a look-up.
  const double head = static_cast<double>(model.vocab) * static_cast<double>(model.hidden);
  const double matrix = layers * static_cast<double>(matrices.attention + matrices.mlp) + head;
  const double tokens = static_cast<double>(sequences) * static_cast<double>(length);
  const double width = static_cast<double>(model.heads * model.head_dim);
  // Q K^T and P V: 2 x 2 FLOP per query, key and channel.
  const double pairs = tokens * static_cast<double>(length);
  const double share = attention == AttentionFlops::causal ? 0.5 : 1.0;
  return Flops::of(2.0 * matrix * tokens + share * 4.0 * layers * pairs * width);
}

Flops training_flops(const Model& model, std::int64_t sequences, std::int64_t length,
                     AttentionFlops attention) {
  // The backward pass is two products of the same size for each product of the forward pass.
  return 3.0 * forward_flops(model, sequences, length, attention);
}

}  // namespace longhaul
