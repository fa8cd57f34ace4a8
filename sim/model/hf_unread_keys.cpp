// Keys of config.json that change no shape. What is neither read nor here is named to the user.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "sim/model/hf_keys.h"

namespace longhaul {

namespace {

using namespace std::string_view_literals;

// transformers' configuration_utils.py (what every file may have), and the configuration_<type>.py of
// the types that are read: names of classes and tokens, numerics, positions, generation, training.
constexpr std::array shapeless{
    // every class
    "architectures"sv, "auto_map"sv, "model_type"sv, "transformers_version"sv, "name_or_path"sv,
    "torch_dtype"sv, "dtype"sv, "quantization_config"sv, "use_cache"sv, "tokenizer_class"sv,
    "chunk_size_feed_forward"sv, "id2label"sv, "label2id"sv, "task_specific_params"sv,
    "attn_implementation"sv, "output_attentions"sv, "output_hidden_states"sv, "return_dict"sv,
    "torchscript"sv, "pruned_heads"sv, "initializer_range"sv, "unsloth_version"sv,
    // numerics
    "hidden_act"sv, "activation_function"sv, "rms_norm_eps"sv, "layer_norm_eps"sv,
    "layer_norm_epsilon"sv, "norm_eps"sv, "pretraining_tp"sv, "logit_scale"sv, "logits_scaling"sv,
    "embedding_multiplier"sv, "attention_multiplier"sv, "residual_multiplier"sv,
    "scale_attn_weights"sv, "scale_attn_by_inverse_layer_idx"sv, "reorder_and_upcast_attn"sv,
    // dropout
    "attention_dropout"sv, "hidden_dropout"sv, "residual_dropout"sv, "attn_pdrop"sv,
    "embd_pdrop"sv, "resid_pdrop"sv,
    // positions: rotated, not stored
    "rope_theta"sv, "rope_scaling"sv, "rope_parameters"sv, "rope_interleave"sv,
    "partial_rotary_factor"sv, "max_position_embeddings"sv, "original_max_position_embeddings"sv,
    "n_ctx"sv, "no_rope_layers"sv, "no_rope_layer_interval"sv,
    // windows that are switched off
    "use_sliding_window"sv, "max_window_layers"sv,
    // how experts are chosen, and losses that balance them
    "norm_topk_prob"sv, "output_router_logits"sv, "router_aux_loss_coef"sv,
    "router_jitter_noise"sv, "aux_loss_alpha"sv, "seq_aux"sv, "n_group"sv, "topk_group"sv,
    "topk_method"sv, "scoring_func"sv, "routed_scaling_factor"sv, "ep_size"sv};

// Defaults of generation, which older files repeat, and ids of tokens.
bool is_of_tokens(std::string_view key) {
  constexpr std::array words{"do_sample"sv, "temperature"sv,  "top_k"sv,      "top_p"sv,
                             "max_length"sv, "min_length"sv,  "num_beams"sv,  "early_stopping"sv,
                             "typical_p"sv,  "length_penalty"sv, "repetition_penalty"sv};
  return key.ends_with("_token_id") || key.starts_with("summary_") ||
         std::find(words.begin(), words.end(), key) != words.end();
}

bool changes_no_shape(std::string_view key) {
  return key.starts_with("_") || is_of_tokens(key) ||
         std::find(shapeless.begin(), shapeless.end(), key) != shapeless.end();
}

// Nothing is switched on: null, and in a type whose class is known false or none.
bool says_nothing(const YamlValue& value, bool type_is_known) {
  if (value.is_null()) {
    return true;
  }
  return type_is_known && value.is_scalar() && (value.scalar() == "false" || value.scalar() == "0");
}

}  // namespace

void hf_check_unread(MapReader& reader, bool type_is_known) {
  std::vector<std::string> keys;
  for (const std::string& key : reader.unread()) {
    if (!changes_no_shape(key) && !says_nothing(*reader.child(key), type_is_known)) {
      keys.push_back(key);
    }
  }
  if (keys.empty()) {
    return;
  }
  const std::string named = fmt::format("{}", fmt::join(keys, ", "));
  const std::string help =
      "if the shapes depend on it, describe the model in a YAML of its own (models/README.md)";
  const Place place = reader.value().find(keys.front())->key_place();
  if (type_is_known) {
    reader.diagnostics().warning(place, "unread-keys", "not read: " + named, help);
  } else {
    reader.diagnostics().error(place, "unread-keys",
                               "of a model type that is not known, this may change shapes: " + named,
                               help);
  }
}

}  // namespace longhaul
