// The transformer being run: shapes only, no plan and no hardware.
#pragma once

#include <cstdint>
#include <string>

#include "sim/units/quantity.h"

namespace longhaul {

enum class Norm { rms_norm, layer_norm };
enum class Activation { swiglu, gelu };  ///< swiglu: gated, three MLP matrices; gelu: two
enum class PositionEmbedding { rope, learned, none };

/// What turns a token's affinities to the experts into their weights: a softmax (Mixtral, Qwen) or
/// sigmoids (DeepSeek-V3).
enum class Router { softmax, sigmoid };

/// The mixture of experts in place of the MLP of some layers, all experts gated (three matrices).
/// Hugging Face's names behind the fields. count = 0: a dense model.
struct Experts {
  std::int64_t count = 0;         ///< routed experts of a layer (num_experts)
  std::int64_t per_token = 0;     ///< that a token passes (num_experts_per_tok)
  std::int64_t ffn = 0;           ///< inner width of one (moe_intermediate_size)
  std::int64_t shared_ffn = 0;    ///< inner width of what every token passes besides, all together
  bool shared_gate = false;       ///< a sigmoid weighs the shared experts' output (Qwen2-MoE)
  std::int64_t dense_layers = 0;  ///< layers before the first mixture (first_k_dense_replace)
  std::int64_t period = 1;        ///< of the layers after them each period-th is a mixture
  Router router = Router::softmax;
  bool router_bias = false;  ///< a bias per expert that balances the load (DeepSeek-V3)
  /// Node-limited routing (DeepSeek-V3): a token's experts lie in at most `group_limit` (topk_group)
  /// of `groups` (n_group) equal groups of neighbouring experts.
  std::int64_t groups = 1;
  std::int64_t group_limit = 1;
  bool operator==(const Experts&) const = default;
};

/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434 section 2.1): keys and values come
/// from one narrow latent vector per token. kv_rank = 0: ordinary attention.
struct LatentAttention {
  std::int64_t q_rank = 0;     ///< width of the queries' latent (q_lora_rank); 0: no such step
  std::int64_t kv_rank = 0;    ///< width of the keys' and values' (kv_lora_rank)
  std::int64_t nope_dim = 0;   ///< of a head's queries and keys, without position
  std::int64_t rope_dim = 0;   ///< with position; the keys' part is one for all heads
  std::int64_t value_dim = 0;  ///< of a head's values (v_head_dim)
  bool operator==(const LatentAttention&) const = default;
};

/// A decoder-only transformer, in Hugging Face's terms. ffn = vocab = 0: only the shapes of
/// attention are known (see is_attention_only). vocab = 0 alone: the layers without embedding and
/// LM head, as published benchmarks of single layers run them.
struct Model {
  std::string name;
  std::int64_t layers = 0;
  std::int64_t hidden = 0;    ///< width of the residual stream
  std::int64_t heads = 0;     ///< query heads
  std::int64_t kv_heads = 0;  ///< key/value heads (= heads: MHA; 1: MQA; else GQA)
  std::int64_t head_dim = 0;  ///< of queries and keys; with latent attention nope + rope
  std::int64_t ffn = 0;       ///< MLP inner width of dense layers (intermediate_size)
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
  Experts experts;
  LatentAttention latent;
  bool operator==(const Model&) const = default;
};

/// True if some layers have a mixture of experts; false in dense models.
inline bool has_experts(const Model& model) { return model.experts.count > 0; }
/// True if this layer, counted from 0, has a mixture of experts in place of its MLP.
bool is_expert_layer(const Model& model, std::int64_t layer);
std::int64_t expert_layers(const Model& model);  ///< how many layers have one
inline bool has_latent_attention(const Model& model) { return model.latent.kv_rank > 0; }
/// Width of a head's values: head_dim but for latent attention.
std::int64_t value_dim(const Model& model);

/// True if the MLP (and with it the vocabulary) is not known: such a model (a published attention
/// benchmark) can be run in phase `attention` alone. Its parameter and FLOP counts leave out what
/// it lacks.
bool is_attention_only(const Model& model);

/// Parameters by place. Counts are exact integers.
struct ParameterCounts {
  std::int64_t embedding = 0;  ///< token (and learned position) embedding
  std::int64_t attention = 0;  ///< one layer: its projections (+ biases, inner norms)
  std::int64_t mlp = 0;        ///< one dense layer
  std::int64_t expert = 0;     ///< one routed expert
  std::int64_t mixture = 0;    ///< one layer with experts: router, routed and shared experts
  std::int64_t norms = 0;      ///< one layer
  std::int64_t final_norm = 0;
  std::int64_t head = 0;    ///< LM head; 0 when tied
  std::int64_t total = 0;   ///< everything
  std::int64_t active = 0;  ///< what one token uses: total less the experts it does not pass
};
ParameterCounts count_parameters(const Model& model);

/// How attention is counted in a FLOP rate (the field uses both).
enum class AttentionFlops { full, causal };

/// Model FLOPs of one training step (forward + backward = 3 x forward, no recompute),
/// for `sequences` sequences of `length` tokens: 2 FLOP per multiply-add of every matrix
/// product: 6 x matrix parameters x tokens + attention 12 x layers x length^2 x heads x head_dim
/// (PaLM appendix B, arXiv 2204.02311; the mean of a head's key and value widths where they
/// differ); `causal` halves the attention part. Matrix parameters include the LM head (tied or not)
/// and leave out the embeddings, biases, norms and the experts that a token does not pass. The
/// model's own sliding window is not applied: the field's conventions do not know it.
Flops training_flops(const Model& model, std::int64_t sequences, std::int64_t length,
                     AttentionFlops attention);
/// The same for one forward pass (a third of training_flops).
Flops forward_flops(const Model& model, std::int64_t sequences, std::int64_t length,
                    AttentionFlops attention);

}  // namespace longhaul
