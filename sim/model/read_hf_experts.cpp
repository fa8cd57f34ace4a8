// Mixtures of experts and latent attention of Hugging Face's config.json.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "sim/model/hf_keys.h"
#include "sim/model/ranges.h"

namespace longhaul {

namespace {

/// How a model_type spells its experts, and the defaults of its class.
struct HfExperts {
  const char* type;
  const char* count_key;
  const char* width_key;
  std::int64_t count, per_token, ffn;
};

// transformers' src/transformers/models/<type>/configuration_<type>.py. DeepSeek-V2's class has no
// experts per token and a width of 1407, which is no model's: its files give both.
constexpr std::array types{
    HfExperts{"mixtral", "num_local_experts", "intermediate_size", 8, 2, 14336},
    HfExperts{"qwen2_moe", "num_experts", "moe_intermediate_size", 60, 4, 1408},
    HfExperts{"qwen3_moe", "num_experts", "moe_intermediate_size", 128, 8, 768},
    HfExperts{"deepseek_v2", "n_routed_experts", "moe_intermediate_size", 64, 0, 1407},
    HfExperts{"deepseek_v3", "n_routed_experts", "moe_intermediate_size", 256, 8, 2048}};

void refuse(MapReader& reader, const std::string& key, const char* what) {
  reader.diagnostics().error(reader.place(key), "unsupported-model", what,
                             "describe the model in a YAML of its own (models/README.md)");
}

/// Qwen: every decoder_sparse_step-th layer, and not those of mlp_only_layers.
void read_qwen_layers(MapReader& reader, Experts& experts) {
  experts.period = reader.integer("decoder_sparse_step", layer_range, 1);
  if (!hf_present(reader, "mlp_only_layers")) {
    return;
  }
  const std::vector<std::string> dense = reader.texts("mlp_only_layers");
  for (std::size_t i = 0; i < dense.size(); ++i) {
    if (dense[i] != std::to_string(i)) {
      refuse(reader, "mlp_only_layers", "dense layers among those with experts are not supported");
      return;
    }
  }
  experts.dense_layers = static_cast<std::int64_t>(dense.size());
  if (experts.dense_layers % experts.period != 0) {
    refuse(reader, "decoder_sparse_step",
           "layers with experts that are not counted from the first are not supported");
  }
}

void read_qwen_experts(MapReader& reader, const std::string& type, Model& model) {
  read_qwen_layers(reader, model.experts);
  if (type == "qwen2_moe") {
    model.experts.shared_ffn =
        reader.integer("shared_expert_intermediate_size", {0, ffn_range.high}, 5632);
    model.experts.shared_gate = model.experts.shared_ffn > 0;
    model.attention_bias = reader.boolean("qkv_bias", true);
    model.output_bias = false;
  }
}

/// Multi-token prediction: layers behind the last one, used in training alone.
void note_prediction_layers(MapReader& reader) {
  const IntegerRange range{0, layer_range.high};
  const std::int64_t layers = hf_count(reader, "num_nextn_predict_layers", range, 0);
  if (layers > 0) {
    reader.diagnostics().note(reader.place("num_nextn_predict_layers"), "prediction-layers-left-out",
                              "layers of multi-token prediction are left out: neither their "
                              "parameters nor their time is counted");
  }
}

/// Node-limited routing: DeepSeek-V3 always, DeepSeek-V2 where its topk_method says so.
void read_router_groups(MapReader& reader, bool third, Experts& experts) {
  const bool limited =
      third || reader.text("topk_method", "greedy") == "group_limited_greedy";
  const std::int64_t groups = hf_count(reader, "n_group", expert_range, third ? 8 : 1);
  const std::int64_t limit = hf_count(reader, "topk_group", expert_range, third ? 4 : 1);
  if (!limited || groups == 1) {
    return;
  }
  if (experts.count % groups != 0 || limit > groups ||
      experts.per_token > experts.count / groups * limit) {
    reader.diagnostics().error(
        reader.place(reader.has("n_group") ? "n_group" : "topk_group"), "out-of-range",
        fmt::format("a token cannot pass {} of {} experts in {} of {} equal groups",
                    experts.per_token, experts.count, limit, groups),
        "n_group divides the experts, and topk_group of the groups have room for a token's");
    return;
  }
  experts.groups = groups;
  experts.group_limit = limit;
}

void read_deepseek_experts(MapReader& reader, const std::string& type, Model& model) {
  const bool third = type == "deepseek_v3";
  Experts& experts = model.experts;
  experts.dense_layers =
      reader.integer("first_k_dense_replace", {0, layer_range.high}, third ? 3 : 0);
  if (hf_count(reader, "moe_layer_freq", layer_range, 1) != 1) {
    refuse(reader, "moe_layer_freq", "dense layers among those with experts are not supported");
  }
  // Shared experts are one MLP as wide as all of them; null means none, absent the class's default.
  const bool none_shared = reader.has("n_shared_experts") && !hf_present(reader, "n_shared_experts");
  const std::int64_t absent_shared = third ? 1 : 2;
  experts.shared_ffn = experts.ffn * hf_count(reader, "n_shared_experts", {0, expert_range.high},
                                              none_shared ? 0 : absent_shared);
  if (model.attention_bias) {
    refuse(reader, "attention_bias", "biases of latent attention are not supported");
  }
  experts.router = third ? Router::sigmoid : Router::softmax;
  experts.router_bias = third;  // e_score_correction_bias
  read_router_groups(reader, third, experts);
  LatentAttention& latent = model.latent;
  const bool no_q_rank = reader.has("q_lora_rank") && !hf_present(reader, "q_lora_rank");
  latent.q_rank = no_q_rank ? 0 : hf_count(reader, "q_lora_rank", latent_range, 1536);
  latent.kv_rank = hf_count(reader, "kv_lora_rank", latent_range, 512);
  latent.nope_dim = reader.integer("qk_nope_head_dim", head_dim_range, 128);
  latent.rope_dim = reader.integer("qk_rope_head_dim", head_dim_range, 64);
  latent.value_dim = reader.integer("v_head_dim", head_dim_range, 128);
  model.kv_heads = model.heads;
  model.head_dim = latent.nope_dim + latent.rope_dim;
}

}  // namespace

bool hf_knows_experts(const std::string& type) {
  return std::any_of(types.begin(), types.end(),
                     [&](const HfExperts& known) { return known.type == type; });
}

void read_hf_experts(MapReader& reader, const std::string& type, Model& model) {
  const HfExperts& known = *std::find_if(
      types.begin(), types.end(), [&](const HfExperts& one) { return one.type == type; });
  Experts& experts = model.experts;
  experts.count = hf_count(reader, known.count_key, expert_range, known.count);
  experts.per_token = known.per_token > 0
                          ? hf_count(reader, "num_experts_per_tok", expert_range, known.per_token)
                          : reader.integer("num_experts_per_tok", expert_range);
  experts.ffn = hf_count(reader, known.width_key, ffn_range, known.ffn);
  if (type.starts_with("qwen")) {
    read_qwen_experts(reader, type, model);
  } else if (type.starts_with("deepseek")) {
    read_deepseek_experts(reader, type, model);
    note_prediction_layers(reader);
  }
  if (expert_layers(model) == model.layers) {
    model.ffn = experts.ffn;  // no dense layer has a width of its own
  } else if (expert_layers(model) == 0) {
    refuse(reader, known.count_key, "a model none of whose layers has experts is not supported");
  }
  if (experts.per_token > experts.count) {
    reader.diagnostics().error(
        reader.place("num_experts_per_tok"), "out-of-range",
        fmt::format("a token cannot pass {} of {} experts", experts.per_token, experts.count),
        "give at most as many as there are");
  }
}

}  // namespace longhaul
