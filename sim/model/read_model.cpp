#include "sim/model/read_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "sim/input/presets.h"
#include "sim/model/ranges.h"

namespace longhaul {

namespace {

/// kv_lora_rank and what goes with it; head_dim and the KV heads follow from them.
void read_latent_attention(MapReader& reader, Model& model) {
  LatentAttention& latent = model.latent;
  if (!reader.has("kv_lora_rank")) {
    for (const char* key :
         {"q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"}) {
      if (reader.has(key)) {
        reader.diagnostics().error(reader.place(key), "not-used",
                                   fmt::format("'{}' belongs to latent attention", key),
                                   "remove it, or give 'kv_lora_rank'");
      }
      reader.ignore(key);
    }
    reader.ignore("kv_lora_rank");
    return;
  }
  latent.kv_rank = reader.integer("kv_lora_rank", latent_range);
  latent.q_rank = reader.integer("q_lora_rank", {0, latent_range.high}, 0);
  latent.nope_dim = reader.integer("qk_nope_head_dim", head_dim_range);
  latent.rope_dim = reader.integer("qk_rope_head_dim", head_dim_range);
  latent.value_dim = reader.integer("v_head_dim", head_dim_range);
  model.kv_heads = model.heads;
  model.head_dim = latent.nope_dim + latent.rope_dim;
  for (const char* key : {"kv_heads", "head_dim"}) {
    if (reader.has(key)) {
      reader.diagnostics().error(reader.place(key), "not-used",
                                 fmt::format("'{}' follows from latent attention's sizes", key),
                                 "remove it");
    }
    reader.ignore(key);
  }
}

/// hidden, heads, kv_heads, head_dim: ranges, and which must divide which.
void read_attention_shape(MapReader& reader, Model& model) {
  Diagnostics& diagnostics = reader.diagnostics();
  const std::size_t mistakes = diagnostics.all().size();
  model.hidden = reader.integer("hidden", hidden_range);
  model.heads = reader.integer("heads", head_range);
  read_latent_attention(reader, model);
  if (has_latent_attention(model)) {
    return;
  }
  model.kv_heads = reader.integer("kv_heads", head_range, model.heads);
  const std::int64_t derived = std::max<std::int64_t>(model.hidden / model.heads, 1);
  model.head_dim = reader.integer("head_dim", head_dim_range, derived);
  if (diagnostics.all().size() != mistakes) {
    return;  // a stand-in for a wrong value would only divide badly, too
  }
  if (model.heads % model.kv_heads != 0) {
    diagnostics.error(
        reader.place("kv_heads"), "not-divisible",
        fmt::format("{} heads cannot share {} key/value heads", model.heads, model.kv_heads),
        "'kv_heads' must divide 'heads'");
  }
  if (!reader.has("head_dim") && model.hidden % model.heads != 0) {
    diagnostics.error(
        reader.place("heads"), "not-divisible",
        fmt::format("hidden {} is not divisible by {} heads", model.hidden, model.heads),
        "give 'head_dim', or heads that divide 'hidden'");
  }
}

void complain_of_experts(MapReader& reader, const Model& model) {
  const Experts& experts = model.experts;
  Diagnostics& diagnostics = reader.diagnostics();
  if (experts.per_token > experts.count) {
    diagnostics.error(reader.place("experts_per_token"), "out-of-range",
                      fmt::format("a token cannot pass {} of {} experts", experts.per_token,
                                  experts.count),
                      "give at most 'experts'");
  }
  if (experts.count % experts.groups != 0) {
    diagnostics.error(reader.place("router_groups"), "not-divisible",
                      fmt::format("{} groups do not divide the {} experts", experts.groups,
                                  experts.count),
                      "groups are equal: choose a number that divides 'experts'");
  } else if (experts.group_limit > experts.groups ||
             experts.per_token > experts.count / experts.groups * experts.group_limit) {
    diagnostics.error(
        reader.place(reader.has("router_group_topk") ? "router_group_topk" : "router_groups"),
        "out-of-range",
        fmt::format("a token cannot pass {} experts in {} of {} groups of {}", experts.per_token,
                    experts.group_limit, experts.groups, experts.count / experts.groups),
        "give at most 'router_groups', and so many groups that they hold a token's experts");
  }
  if (expert_layers(model) == 0) {
    diagnostics.error(reader.place("experts"), "not-used",
                      fmt::format("none of the {} layers has experts", model.layers),
                      "give fewer 'first_dense_layers', or a smaller 'expert_layer_period'");
  }
  if (!model.gated_mlp) {
    diagnostics.error(reader.place("gated_mlp"), "unsupported-model",
                      "experts of two matrices are not supported",
                      "gated experts (SwiGLU) are: leave out 'gated_mlp'");
  }
}

/// experts and what goes with them.
void read_experts(MapReader& reader, Model& model) {
  Experts& experts = model.experts;
  const std::size_t mistakes = reader.diagnostics().all().size();
  if (!reader.has("experts")) {
    for (const char* key : {"experts_per_token", "expert_ffn", "shared_expert_ffn",
                            "shared_expert_gate", "first_dense_layers", "expert_layer_period",
                            "router", "router_bias", "router_groups", "router_group_topk"}) {
      if (reader.has(key)) {
        reader.diagnostics().error(reader.place(key), "not-used",
                                   fmt::format("'{}' belongs to a mixture of experts", key),
                                   "remove it, or give 'experts'");
      }
      reader.ignore(key);
    }
    reader.ignore("experts");
    return;
  }
  experts.count = reader.integer("experts", expert_range);
  experts.per_token = reader.integer("experts_per_token", expert_range);
  experts.ffn = reader.integer("expert_ffn", ffn_range);
  experts.shared_ffn = reader.integer("shared_expert_ffn", {0, ffn_range.high}, 0);
  experts.shared_gate = reader.boolean("shared_expert_gate", false);
  experts.dense_layers = reader.integer("first_dense_layers", {0, layer_range.high}, 0);
  experts.period = reader.integer("expert_layer_period", layer_range, 1);
  experts.router = reader.choice("router", {"softmax", "sigmoid"}, 0) == 1 ? Router::sigmoid
                                                                            : Router::softmax;
  experts.router_bias = reader.boolean("router_bias", false);
  experts.groups = reader.integer("router_groups", expert_range, 1);
  experts.group_limit = reader.integer("router_group_topk", expert_range, experts.groups);
  if (reader.diagnostics().all().size() == mistakes) {
    complain_of_experts(reader, model);
  }
}

/// ffn and vocab: both, or (attention shapes only) neither. A vocabulary of 0 must be written: it
/// means layers without embedding and LM head. Without a dense layer there is no ffn to give.
void read_mlp_and_vocab(MapReader& reader, Model& model) {
  model.gated_mlp = reader.boolean("gated_mlp", true);
  read_experts(reader, model);
  const bool all_mixtures = has_experts(model) && expert_layers(model) == model.layers;
  if (all_mixtures && !reader.has("ffn")) {
    reader.ignore("ffn");
    model.ffn = model.experts.ffn;
    model.vocab = reader.integer("vocab", {0, vocab_range.high});
  } else if (has_experts(model) || reader.has("ffn") || reader.has("vocab")) {
    model.ffn = reader.integer("ffn", ffn_range);
    model.vocab = reader.integer("vocab", {0, vocab_range.high});
  }
  model.tied_embeddings = reader.boolean("tied_embeddings", false);
  model.mlp_bias = reader.boolean("mlp_bias", false);
}

void read_positions(MapReader& reader, Model& model) {
  constexpr std::array kinds{PositionEmbedding::rope, PositionEmbedding::learned,
                             PositionEmbedding::none};
  model.positions = kinds.at(reader.choice("positions", {"rope", "learned", "none"}, 0));
  if (model.positions == PositionEmbedding::learned) {
    model.max_positions = reader.tokens("max_positions");
  } else if (reader.child("max_positions")) {
    reader.diagnostics().error(reader.place("max_positions"), "not-used",
                               "'max_positions' is the size of a learned table of positions",
                               "remove it, or write 'positions: learned'");
  }
  model.sliding_window = reader.tokens("sliding_window", 0);
}

/// Biases and norms whose parameters are counted in ordinary attention and dense MLPs alone.
void refuse_uncounted(MapReader& reader, const Model& model) {
  const auto refuse = [&](const char* key, const char* what) {
    reader.diagnostics().error(reader.place(key), "unsupported-model", what, "remove it");
  };
  if (has_experts(model) && model.mlp_bias) {
    refuse("mlp_bias", "biases of experts are not supported");
  }
  if (has_latent_attention(model) && model.attention_bias) {
    refuse("attention_bias", "biases of latent attention are not supported");
  }
  if (has_latent_attention(model) && model.qk_norm) {
    refuse("qk_norm", "latent attention has norms of its own, which are counted");
  }
}

void compare_count(MapReader& reader, const Model& model) {
  const std::int64_t stated = reader.integer("parameters", {1, INT64_MAX}, 0);
  const std::int64_t counted = count_parameters(model).total;
  if (stated != 0 && stated != counted && !reader.diagnostics().has_errors()) {
    reader.diagnostics().error(
        reader.place("parameters"), "wrong-count",
        fmt::format("these shapes have {} parameters, but 'parameters' says {}", counted, stated),
        "check ffn, vocab, tied_embeddings and the biases");
  }
}

}  // namespace

std::optional<Model> read_model(const YamlValue& map, Diagnostics& diagnostics) {
  // Mistakes of this map only, so that other mistakes of the file do not make the model vanish.
  Diagnostics own;
  MapReader reader(map, "model", own);
  Model model;
  model.name = reader.text("name", "unnamed");
  model.layers = reader.integer("layers", layer_range);
  read_attention_shape(reader, model);
  read_mlp_and_vocab(reader, model);
  model.attention_bias = reader.boolean("attention_bias", false);
  model.output_bias = reader.boolean("output_bias", false);
  model.qk_norm = reader.boolean("qk_norm", false);
  const bool layer_norm = reader.choice("norm", {"rms_norm", "layer_norm"}, 0) == 1;
  model.norm = layer_norm ? Norm::layer_norm : Norm::rms_norm;
  refuse_uncounted(reader, model);
  read_positions(reader, model);
  reader.ignore("source");
  compare_count(reader, model);
  reader.finish();
  diagnostics.append(own);
  return own.has_errors() ? std::nullopt : std::optional(model);
}

std::vector<std::string> model_presets() {
  std::vector<std::string> names;
  for (const std::string& path : embedded_files("models")) {
    const std::filesystem::path file(path);
    if (file.parent_path() == "models" && file.extension() == ".yaml") {
      names.push_back(file.stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

namespace {

std::optional<Model> read_model_text(const SourcePtr& source, Diagnostics& diagnostics) {
  if (source->name.ends_with(".json")) {
    return read_hf_config(source, diagnostics);
  }
  const std::optional<YamlValue> map = YamlValue::parse(source, diagnostics);
  const std::optional<Model> model = map ? read_model(*map, diagnostics) : std::nullopt;
  if (model && is_attention_only(*model)) {
    diagnostics.error(map->place(), "missing-key", "model has no 'ffn' and no 'vocab'",
                      "a model file describes the whole model");
    return std::nullopt;
  }
  return model;
}

/// "x.yaml", "dir/x", "dir" (a Hugging Face checkout) rather than the name of a preset.
bool looks_like_path(const std::string& text) {
  return text.find('/') != text.npos || text.ends_with(".yaml") || text.ends_with(".yml") ||
         text.ends_with(".json");
}

void record_unknown(const std::string& name, const Place& place, Diagnostics& diagnostics) {
  const std::vector<std::string> presets = model_presets();
  const std::string nearest = closest_match(name, presets);
  std::string help = nearest.empty() ? "" : fmt::format("did you mean '{}'? ", nearest);
  help += fmt::format("presets: {}; or give the path of a .yaml or a Hugging Face config.json",
                      fmt::join(presets, ", "));
  diagnostics.error(place, "unknown-model", fmt::format("no model is called '{}'", name), help);
}

}  // namespace

std::optional<Model> find_model(const std::string& name_or_path, const Place& place,
                                Diagnostics& diagnostics) {
  if (!looks_like_path(name_or_path)) {
    const std::optional<SourcePtr> preset = embedded_file("models/" + name_or_path + ".yaml");
    if (preset) {
      return read_model_text(*preset, diagnostics);
    }
    record_unknown(name_or_path, place, diagnostics);
    return std::nullopt;
  }
  std::error_code ignored;
  const std::filesystem::path inside = std::filesystem::path(name_or_path) / "config.json";
  const bool checkout = std::filesystem::is_regular_file(inside, ignored);
  const auto source = read_source(checkout ? inside.string() : name_or_path, diagnostics);
  return source ? read_model_text(*source, diagnostics) : std::nullopt;
}

}  // namespace longhaul
