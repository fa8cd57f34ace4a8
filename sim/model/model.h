// The transformer being run: shapes only, no plan and no hardware.
#pragma once

#include <cstdint>
#include <string>

#include "sim/units/quantity.h"

namespace longhaul {

enum class Norm { rms_norm, layer_norm };
enum class Activation { swiglu, gelu };  ///< swiglu: gated, three MLP matrices; gelu: two
enum class PositionEmbedding { rope, learned, none };

/// A dense decoder-only transformer, in Hugging Face's terms. ffn = vocab = 0: only the shapes of
/// attention are known (see is_attention_only). vocab = 0 alone: the layers without embedding and
/// LM head, as published benchmarks of single layers run them.
struct Model {
  std::string name;
  std::int64_t layers = 0;
  std::int64_t hidden = 0;    ///< width of the residual stream
  std::int64_t heads = 0;     ///< query heads
  std::int64_t kv_heads = 0;  ///< key/value heads (= heads: MHA; 1: MQA; else GQA)
  std::int64_t head_dim = 0;
  std::int64_t ffn = 0;  ///< MLP inner width (intermediate_size)
  std::int64_t vocab = 0;
  bool gated_mlp = true;  ///< three MLP matrices (SwiGLU) instead of two
  bool tied_embeddings = false;
  bool attention_bias = false;  ///< bias on q, k and v projections (Qwen2)
  bool output_bias = false;     ///< bias on the attention output projection (GPT)
  bool mlp_bias = false;        ///< bias on the MLP matrices (GPT)
  bool qk_norm = false;         ///< per-head RMSNorm on q and k (Qwen3)
  Norm norm = Norm::rms_norm;
  PositionEmbedding positions = PositionEmbedding::rope;
  std::int64_t max_positions = 0;   ///< rows of a learned position table (0 unless learned)
  std::int64_t sliding_window = 0;  ///< keys a query sees in the model's own mask; 0: all
  bool operator==(const Model&) const = default;
};

/// True if the MLP (and with it the vocabulary) is not known: such a model (a published attention
/// benchmark) can be run in phase `attention` alone. Its parameter and FLOP counts leave out what
/// it lacks.
bool is_attention_only(const Model& model);

/// Parameters by place. Counts are exact integers.
struct ParameterCounts {
  std::int64_t embedding = 0;  ///< token (and learned position) embedding
  std::int64_t attention = 0;  ///< one layer: qkv + output projections (+ biases, qk norms)
  std::int64_t mlp = 0;        ///< one layer
  std::int64_t norms = 0;      ///< one layer
  std::int64_t final_norm = 0;
  std::int64_t head = 0;   ///< LM head; 0 when tied
  std::int64_t total = 0;  ///< everything
};
ParameterCounts count_parameters(const Model& model);

/// How attention is counted in a FLOP rate (the field uses both).
enum class AttentionFlops { full, causal };

/// Model FLOPs of one training step (forward + backward = 3 x forward, no recompute),
/// for `sequences` sequences of `length` tokens: 2 FLOP per multiply-add of every matrix
/// product: 6 x matrix parameters x tokens + attention 12 x layers x length^2 x heads x head_dim
/// (PaLM appendix B, arXiv 2204.02311); `causal` halves the attention part. Matrix parameters
/// include the LM head (tied or not) and leave out the embeddings, biases and norms. The model's
/// own sliding window is not applied: the field's conventions do not know it.
Flops training_flops(const Model& model, std::int64_t sequences, std::int64_t length,
                     AttentionFlops attention);
/// The same for one forward pass (a third of training_flops).
Flops forward_flops(const Model& model, std::int64_t sequences, std::int64_t length,
                    AttentionFlops attention);

}  // namespace longhaul
