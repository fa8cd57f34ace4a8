// Hugging Face config.json. What a file leaves out means the default of the transformers class of
// its model_type (src/transformers/models/<type>/configuration_<type>.py), so the defaults are
// here.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <initializer_list>
#include <span>

#include "sim/model/hf_keys.h"
#include "sim/model/ranges.h"
#include "sim/model/read_model.h"

namespace longhaul {

namespace {

/// Where attention biases come from.
enum class Bias { never, on_qkv, by_key };

/// The defaults and fixed traits of one model_type.
struct HfType {
  const char* name;
  std::int64_t vocab, hidden, ffn, layers, heads;
  std::int64_t kv_heads;  ///< if the key is absent; 0: as many as heads
  std::int64_t head_dim;  ///< if the key is absent; 0: hidden / heads
  Bias bias;
  bool window_by_default;  ///< mistral: sliding_window applies unless null; others: by a switch
};

// llama: configuration_llama.py; q, k, v and o all take attention_bias. mistral:
// configuration_mistral.py. qwen2: configuration_qwen2.py; modeling_qwen2.py puts a bias on q, k, v
// always. qwen3: configuration_qwen3.py; head_dim is 128, not hidden / heads.
constexpr std::array types{
    HfType{"llama", 32000, 4096, 11008, 32, 32, 0, 0, Bias::by_key, false},
    HfType{"mistral", 32000, 4096, 14336, 32, 32, 8, 0, Bias::never, true},
    HfType{"qwen2", 151936, 4096, 22016, 32, 32, 32, 0, Bias::on_qkv, false},
    HfType{"qwen3", 151936, 4096, 22016, 32, 32, 32, 128, Bias::by_key, false},
    HfType{"mixtral", 32000, 4096, 14336, 32, 32, 8, 0, Bias::never, false},
    HfType{"qwen2_moe", 151936, 2048, 5632, 24, 16, 16, 0, Bias::on_qkv, false},
    HfType{"qwen3_moe", 151936, 2048, 6144, 24, 32, 4, 0, Bias::by_key, false},
    HfType{"deepseek_v2", 32000, 4096, 11008, 32, 32, 0, 0, Bias::by_key, false},
    HfType{"deepseek_v3", 129280, 7168, 18432, 61, 128, 128, 0, Bias::by_key, false}};

constexpr std::int64_t sliding_default = 4096;   ///< of mistral, qwen2 and qwen3
constexpr std::int64_t max_window_default = 28;  ///< max_window_layers of qwen2 and qwen3

/// The first of several spellings that the file has (GPT-2's attribute_map); the first if none.
std::string spelling(MapReader& reader, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (reader.has(key)) {
      return key;
    }
  }
  return *keys.begin();
}

bool refuse_unsupported(MapReader& reader, const std::string& type) {
  const auto refuse = [&](const Place& place, const std::string& what) {
    reader.diagnostics().error(place, "unsupported-model", what,
                               "known are: llama, mistral, qwen2, qwen3, gpt2, mixtral, qwen2_moe, "
                               "qwen3_moe, deepseek_v2, deepseek_v3");
    return true;
  };
  if (hf_knows_experts(type)) {
    return false;
  }
  for (const char* key :
       {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"}) {
    if (hf_present(reader, key)) {
      return refuse(reader.place(key), "experts of this model type are not known");
    }
  }
  if (type.ends_with("_moe") || type == "dbrx") {
    return refuse(reader.place("model_type"), "experts of this model type are not known");
  }
  if (hf_present(reader, "kv_lora_rank")) {
    return refuse(reader.place("kv_lora_rank"),
                  "latent attention of this model type is not known");
  }
  return false;
}

/// Keys a query sees, from qwen's switch and layer counts, or from layer_types. `has_switch`: the
/// class has one, and what a file without it says about windows counts for nothing.
std::int64_t switched_window(MapReader& reader, const Model& model, bool has_switch) {
  const auto window = [&] {
    return hf_count(reader, "sliding_window", position_range, sliding_default);
  };
  const auto refuse_mix = [&](const std::string& key) {
    reader.diagnostics().error(reader.place(key), "unsupported-model",
                               "layers with different attention masks are not supported",
                               "all layers must attend fully, or all through the same window");
    return std::int64_t{0};
  };
  if (hf_present(reader, "layer_types")) {
    const std::vector<std::string> kinds = reader.texts("layer_types");
    const auto sliding = std::count(kinds.begin(), kinds.end(), "sliding_attention");
    const auto full = std::count(kinds.begin(), kinds.end(), "full_attention");
    if (sliding > 0 && static_cast<std::size_t>(sliding) == kinds.size()) {
      return window();
    }
    reader.ignore("sliding_window");
    return static_cast<std::size_t>(full) == kinds.size() ? 0 : refuse_mix("layer_types");
  }
  if (has_switch || reader.has("use_sliding_window")) {
    reader.ignore("sliding_window");
  }
  if (!reader.boolean("use_sliding_window", false)) {
    return 0;
  }
  // The first max_window_layers layers attend fully, the rest through the window.
  const std::int64_t full_layers =
      reader.integer("max_window_layers", {0, layer_range.high}, max_window_default);
  const bool disabled = reader.has("sliding_window") && !hf_present(reader, "sliding_window");
  if (full_layers >= model.layers || disabled) {
    return 0;
  }
  return full_layers == 0 ? window() : refuse_mix("use_sliding_window");
}

void check_heads(MapReader& reader, const Model& model, const std::string& heads_key,
                 bool head_dim_given) {
  Diagnostics& diagnostics = reader.diagnostics();
  if (diagnostics.has_errors()) {
    return;  // a stand-in for a wrong value would only divide badly, too
  }
  if (!head_dim_given && model.hidden % model.heads != 0) {
    diagnostics.error(
        reader.place(heads_key), "not-divisible",
        fmt::format("hidden size {} is not divisible by {} heads", model.hidden, model.heads),
        "give 'head_dim', or heads that divide the hidden size");
  }
  if (model.heads % model.kv_heads != 0) {
    diagnostics.error(
        reader.place("num_key_value_heads"), "not-divisible",
        fmt::format("{} heads cannot share {} key/value heads", model.heads, model.kv_heads),
        "'num_key_value_heads' must divide 'num_attention_heads'");
  }
}

Model read_llama_like(MapReader& reader, const HfType& type) {
  Model model;
  model.vocab = reader.integer("vocab_size", vocab_range, type.vocab);
  model.hidden = reader.integer("hidden_size", hidden_range, type.hidden);
  model.ffn = reader.integer("intermediate_size", ffn_range, type.ffn);
  model.layers = reader.integer("num_hidden_layers", layer_range, type.layers);
  model.heads = reader.integer("num_attention_heads", head_range, type.heads);
  // null means "as many as heads"; absent means the default of the class.
  const std::int64_t absent_kv = type.kv_heads == 0 ? model.heads : type.kv_heads;
  model.kv_heads = hf_count(reader, "num_key_value_heads", head_range,
                                  reader.has("num_key_value_heads") ? model.heads : absent_kv);
  const bool fixed_dim = type.head_dim != 0 && !reader.has("head_dim");
  const std::int64_t derived = std::max<std::int64_t>(model.hidden / model.heads, 1);
  model.head_dim =
      hf_count(reader, "head_dim", head_dim_range, fixed_dim ? type.head_dim : derived);
  check_heads(reader, model, "num_attention_heads", fixed_dim || hf_present(reader, "head_dim"));
  model.tied_embeddings = reader.boolean("tie_word_embeddings", false);
  const bool bias_key = type.bias == Bias::by_key && reader.boolean("attention_bias", false);
  model.attention_bias = bias_key || type.bias == Bias::on_qkv;
  model.output_bias = bias_key;
  model.qk_norm = std::string(type.name).starts_with("qwen3");
  // Only the llama class has mlp_bias.
  model.mlp_bias = std::string(type.name) == "llama" && reader.boolean("mlp_bias", false);
  if (hf_knows_experts(type.name)) {
    read_hf_experts(reader, type.name, model);
  }
  if (std::string(type.name) == "mixtral") {
    model.sliding_window = hf_count(reader, "sliding_window", position_range, 0);
  } else if (std::string(type.name).starts_with("deepseek")) {
    model.sliding_window = 0;
  } else if (type.window_by_default) {
    const bool null_window = reader.has("sliding_window") && !hf_present(reader, "sliding_window");
    model.sliding_window =
        null_window ? 0 : hf_count(reader, "sliding_window", position_range, sliding_default);
  } else {
    model.sliding_window =
        switched_window(reader, model, std::string(type.name).starts_with("qwen"));
  }
  return model;
}

/// configuration_gpt2.py: keys of its own, with the usual names as aliases (attribute_map).
Model read_gpt2(MapReader& reader) {
  Model model;
  const std::string heads_key = spelling(reader, {"n_head", "num_attention_heads"});
  model.vocab = reader.integer("vocab_size", vocab_range, 50257);
  model.hidden = reader.integer(spelling(reader, {"n_embd", "hidden_size"}), hidden_range, 768);
  model.layers =
      reader.integer(spelling(reader, {"n_layer", "num_hidden_layers"}), layer_range, 12);
  model.heads = reader.integer(heads_key, head_range, 12);
  model.max_positions = reader.integer(spelling(reader, {"n_positions", "max_position_embeddings"}),
                                       position_range, 1024);
  model.ffn = hf_count(reader, "n_inner", ffn_range, 4 * model.hidden);
  model.kv_heads = model.heads;
  model.head_dim = std::max<std::int64_t>(model.hidden / model.heads, 1);
  check_heads(reader, model, heads_key, false);
  model.tied_embeddings = reader.boolean("tie_word_embeddings", true);
  model.gated_mlp = false;
  model.attention_bias = model.output_bias = model.mlp_bias = true;
  model.norm = Norm::layer_norm;
  model.positions = PositionEmbedding::learned;
  return model;
}

/// A type we do not know is read like llama, but only if it leaves nothing to a default.
std::optional<Model> read_unknown_type(MapReader& reader, const std::string& type) {
  std::vector<std::string> missing;
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "head_dim", "tie_word_embeddings",
        "hidden_act"}) {
    if (!hf_present(reader, key)) {
      missing.emplace_back(key);
    }
  }
  const std::string name = type.empty() ? "no model_type" : fmt::format("model_type '{}'", type);
  if (!missing.empty()) {
    reader.diagnostics().error(
        reader.place("model_type"), "unknown-model-type",
        fmt::format("{} is not known, and its defaults neither", name),
        fmt::format("known: llama, mistral, qwen2, qwen3, gpt2; others must give {}",
                    fmt::join(missing, ", ")));
    return std::nullopt;
  }
  // MLPs of other activations have two matrices as often as three (nemotron's relu2, for one).
  if (const std::string act = reader.text("hidden_act"); act != "silu" && act != "swish") {
    reader.diagnostics().error(
        reader.place("hidden_act"), "unsupported-model",
        fmt::format("{}: with '{}' its MLP may have a gate or not", name, act),
        "describe the model in a YAML of its own (models/README.md)");
    return std::nullopt;
  }
  reader.diagnostics().warning(reader.place("model_type"), "unknown-model-type",
                               name + " is not known: read as a llama-like dense model");
  return read_llama_like(reader, types.front());
}

/// The map that describes the language model: the file's own, or its text_config.
YamlValue language_part(const YamlValue& file, Diagnostics& diagnostics) {
  const std::optional<YamlValue> text = file.find("text_config");
  if (!text || !text->is_map()) {
    return file;
  }
  diagnostics.note(text->key_place(), "text-config",
                   "only the language model (text_config) is read, not the other modalities");
  return *text;
}

/// The model's name: the file's, or its folder's if the file is called config.json.
std::string name_of(const SourcePtr& source) {
  const std::filesystem::path path(source->name);
  const std::string folder = path.parent_path().filename().string();
  return path.stem() == "config" && !folder.empty() ? folder : path.stem().string();
}

}  // namespace

bool hf_present(MapReader& reader, const std::string& key) {
  const std::optional<YamlValue> value = reader.child(key);
  return value && !value->is_null();
}

std::int64_t hf_count(MapReader& reader, const std::string& key, IntegerRange range,
                      std::int64_t fallback) {
  return hf_present(reader, key) ? reader.integer(key, range) : fallback;
}

std::optional<Model> read_hf_config(const SourcePtr& source, Diagnostics& diagnostics) {
  Diagnostics own;
  std::optional<Model> model;
  if (const auto file = YamlValue::parse_json(source, own)) {
    MapReader reader(language_part(*file, own), "config.json", own);
    const std::string type = reader.text("model_type", "");
    const auto known = std::find_if(types.begin(), types.end(), [&](const HfType& candidate) {
      return candidate.name == type;
    });
    if (!own.has_errors() && !refuse_unsupported(reader, type)) {
      model = known != types.end() ? read_llama_like(reader, *known)
              : type == "gpt2"     ? read_gpt2(reader)
                                   : read_unknown_type(reader, type);
    }
    if (model) {
      hf_check_unread(reader, known != types.end() || type == "gpt2");
    }
  }
  diagnostics.append(own);
  if (!model || own.has_errors()) {
    return std::nullopt;
  }
  model->name = name_of(source);
  return model;
}

}  // namespace longhaul
