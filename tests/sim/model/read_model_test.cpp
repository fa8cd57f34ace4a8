// Models from text: our own format, presets, Hugging Face files and their traps.
#include "sim/model/read_model.h"

#include <catch2/catch.hpp>

using namespace longhaul;

namespace {

SourcePtr source(const std::string& name, const std::string& text) {
  return std::make_shared<const SourceText>(SourceText{name, text});
}

struct Reading {
  std::optional<Model> model;
  std::string errors;
};

Reading read_yaml(const std::string& text) {
  Diagnostics diagnostics;
  Reading out;
  const auto map = YamlValue::parse(source("m.yaml", text), diagnostics);
  out.model = map ? read_model(*map, diagnostics) : std::nullopt;
  out.errors = format_diagnostics(diagnostics, false);
  return out;
}

Reading read_hf(const std::string& text) {
  Diagnostics diagnostics;
  Reading out;
  out.model = read_hf_config(source("dir/config.json", text), diagnostics);
  out.errors = format_diagnostics(diagnostics, false);
  return out;
}

Model hf(const std::string& text) {
  const Reading reading = read_hf(text);
  INFO(reading.errors);
  REQUIRE(reading.model);
  return *reading.model;
}

Reading find(const std::string& name) {
  Diagnostics diagnostics;
  Reading out;
  out.model = find_model(name, {source("s.yaml", "model: " + name), 1, 8, 1}, diagnostics);
  out.errors = format_diagnostics(diagnostics, false);
  return out;
}

}  // namespace

TEST_CASE("an inline map with the keys of measured runs is a whole model") {
  const Reading reading = read_yaml(
      "{name: 22B, layers: 48, hidden: 6144, heads: 64, kv_heads: 64, head_dim: 96, ffn: 24576, "
      "gated_mlp: false, vocab: 51200, tied_embeddings: true}");
  INFO(reading.errors);
  REQUIRE(reading.model);
  CHECK(reading.model->name == "22B");
  CHECK(reading.model->head_dim == 96);
  CHECK_FALSE(reading.model->gated_mlp);
  CHECK(reading.model->tied_embeddings);
  CHECK_FALSE(is_attention_only(*reading.model));
}

TEST_CASE("a map of attention shapes alone is read and says that it is no whole model") {
  const Reading reading =
      read_yaml("{name: a, layers: 1, hidden: 4096, heads: 32, kv_heads: 8, head_dim: 128}");
  INFO(reading.errors);
  REQUIRE(reading.model);
  CHECK(is_attention_only(*reading.model));
}

TEST_CASE("a vocabulary of 0, if written, means the layers without embedding and head") {
  const Reading reading = read_yaml("{layers: 2, hidden: 8, heads: 4, ffn: 16, vocab: 0}");
  INFO(reading.errors);
  REQUIRE(reading.model);
  CHECK_FALSE(is_attention_only(*reading.model));
  const ParameterCounts counts = count_parameters(*reading.model);
  CHECK(counts.embedding == 0);
  CHECK(counts.head == 0);
  // A Hugging Face file describes a whole model: there 0 is a mistake.
  CHECK_FALSE(read_hf(R"({"model_type": "llama", "vocab_size": 0})").model);
  CHECK_FALSE(read_yaml("{layers: 2, hidden: 8, heads: 4, ffn: 0, vocab: 0}").model);
}

TEST_CASE("half of the whole model is neither: ffn without vocab is refused") {
  CHECK(read_yaml("{layers: 1, hidden: 64, heads: 4, ffn: 256}").errors ==
        "m.yaml:1:1: error: model has no 'vocab'\n"
        "    1 | {layers: 1, hidden: 64, heads: 4, ffn: 256}\n"
        "      | ^\n"
        "      = help: add 'vocab: ...'\n"
        "1 error in m.yaml\n");
}

TEST_CASE("kv_heads default to heads and head_dim to hidden over heads") {
  const Reading reading = read_yaml("{layers: 1, hidden: 64, heads: 4}");
  REQUIRE(reading.model);
  CHECK(reading.model->kv_heads == 4);
  CHECK(reading.model->head_dim == 16);
}

TEST_CASE("all mistakes of a model are reported at once, without ones that only follow") {
  const Reading reading = read_yaml(
      "layers: 0\n"
      "hidden: wide\n"
      "heads: 32\n"
      "kv_heads: 5\n"
      "ffn: 14336\n"
      "vocab: 128256\n"
      "norm: rmsnorm\n"
      "max_positions: 5\n"
      "tied_embedings: true\n");
  CHECK_FALSE(reading.model);
  CHECK(reading.errors ==
        "m.yaml:1:9: error: 'layers' must be between 1 and 10000, got 0\n"
        "    1 | layers: 0\n"
        "      |         ^\n"
        "m.yaml:2:9: error: 'hidden' wants a whole number, got 'wide'\n"
        "    2 | hidden: wide\n"
        "      |         ^~~~\n"
        "      = help: write decimal digits only, such as 4096\n"
        "m.yaml:7:7: error: 'norm' must be rms_norm or layer_norm, got 'rmsnorm'\n"
        "    7 | norm: rmsnorm\n"
        "      |       ^~~~~~~\n"
        "      = help: did you mean 'rms_norm'?\n"
        "m.yaml:8:16: error: 'max_positions' is the size of a learned table of positions\n"
        "    8 | max_positions: 5\n"
        "      |                ^\n"
        "      = help: remove it, or write 'positions: learned'\n"
        "m.yaml:9:1: error: unknown key 'tied_embedings' in model\n"
        "    9 | tied_embedings: true\n"
        "      | ^~~~~~~~~~~~~~\n"
        "      = help: did you mean 'tied_embeddings'?\n"
        "5 errors in m.yaml\n");
}

TEST_CASE("heads must share key/value heads evenly, on both sides of the rule") {
  CHECK(read_yaml("{layers: 1, hidden: 64, heads: 6, kv_heads: 3, head_dim: 8}").model);
  CHECK(read_yaml("{layers: 1, hidden: 64, heads: 6, kv_heads: 4, head_dim: 8}").errors ==
        "m.yaml:1:45: error: 6 heads cannot share 4 key/value heads\n"
        "    1 | {layers: 1, hidden: 64, heads: 6, kv_heads: 4, head_dim: 8}\n"
        "      |                                             ^\n"
        "      = help: 'kv_heads' must divide 'heads'\n"
        "1 error in m.yaml\n");
  // More key/value heads than heads is the same mistake.
  CHECK_FALSE(read_yaml("{layers: 1, hidden: 64, heads: 4, kv_heads: 8, head_dim: 8}").model);
}

TEST_CASE("hidden need not be heads times head_dim, but must be if head_dim is left out") {
  CHECK(read_yaml("{layers: 1, hidden: 65, heads: 4, head_dim: 16}").model);
  CHECK_FALSE(read_yaml("{layers: 1, hidden: 65, heads: 4}").model);
  CHECK(read_yaml("{layers: 1, hidden: 64, heads: 4}").model);
}

TEST_CASE("a stated count of parameters is compared exactly") {
  const std::string shapes = "{layers: 2, hidden: 8, heads: 4, ffn: 16, vocab: 32, parameters: ";
  // 2 x (4 x 64 + 3 x 128 + 16) + 8 + 2 x 256
  CHECK(read_yaml(shapes + "1832}").model);
  CHECK(read_yaml(shapes + "1833}")
            .errors.find("these shapes have 1832 parameters, but 'parameters' says 1833") !=
        std::string::npos);
}

TEST_CASE("a learned table of positions needs its size") {
  CHECK(
      read_yaml("{layers: 1, hidden: 64, heads: 4, positions: learned, max_positions: 2k}").model);
  CHECK_FALSE(read_yaml("{layers: 1, hidden: 64, heads: 4, positions: learned}").model);
}

TEST_CASE("the mistakes of the rest of a file do not make a sound model vanish") {
  Diagnostics diagnostics;
  diagnostics.error({}, "other", "a mistake elsewhere");
  const auto map =
      YamlValue::parse(source("m.yaml", "{layers: 1, hidden: 64, heads: 4}"), diagnostics);
  CHECK(read_model(*map, diagnostics));
}

TEST_CASE("an unknown preset is refused with the nearest name") {
  const std::string errors = find("lama3-8b").errors;
  CHECK(errors.find("s.yaml:1:8: error: no model is called 'lama3-8b'\n") == 0);
  CHECK(errors.find("= help: did you mean 'llama3-8b'? presets: deepseek-v2-lite, ") != std::string::npos);
  CHECK(find("zzzzzzzz").errors.find("did you mean") == std::string::npos);
}

TEST_CASE("a path that does not exist is a file that cannot be read") {
  CHECK(find("no/such.yaml").errors ==
        "no/such.yaml: error: cannot be read: No such file or directory\n"
        "      = help: check the path and its permissions\n"
        "1 error in no/such.yaml\n");
}

TEST_CASE("the shipped Hugging Face files give the models of the presets") {
  const std::string folder = LONGHAUL_SOURCE_DIR "/models/hf/";
  for (const std::string name :
       {"llama2-7b", "llama3-8b", "llama3.1-405b", "llama3.2-1b", "qwen2.5-7b", "qwen3-8b",
        "mixtral-8x7b", "qwen3-30b-a3b", "qwen1.5-moe-a2.7b", "deepseek-v2-lite", "deepseek-v3"}) {
    INFO(name);
    const Reading file = find(folder + name + ".json");
    const Reading preset = find(name);
    REQUIRE(file.model);
    REQUIRE(preset.model);
    CHECK(*file.model == *preset.model);
    CHECK(file.errors.find("warning") == std::string::npos);
  }
}

TEST_CASE("mistral v0.1 is the preset with a window of 4096 keys") {
  Model file = *find(LONGHAUL_SOURCE_DIR "/models/hf/mistral-7b-v0.1.json").model;
  CHECK(file.sliding_window == 4096);
  file.sliding_window = 0;
  file.name = "mistral-7b";
  CHECK(file == *find("mistral-7b").model);
}

TEST_CASE("gpt2 has the 124,439,808 parameters of its checkpoint") {
  const Reading gpt2 = find(LONGHAUL_SOURCE_DIR "/models/hf/gpt2.json");
  REQUIRE(gpt2.model);
  CHECK(count_parameters(*gpt2.model).total == 124'439'808);
  CHECK(gpt2.model->name == "gpt2");
}

TEST_CASE("a file with nothing but its type has the defaults of the class") {
  // The defaults of LlamaConfig are Llama 1 7B, of MistralConfig Mistral 7B v0.1, of GPT2Config
  // gpt2.
  CHECK(count_parameters(hf(R"({"model_type": "llama"})")).total == 6'738'415'616);
  const Model mistral = hf(R"({"model_type": "mistral"})");
  CHECK(count_parameters(mistral).total == 7'241'732'096);
  CHECK(mistral.sliding_window == 4096);
  CHECK(count_parameters(hf(R"({"model_type": "gpt2"})")).total == 124'439'808);
  CHECK(hf(R"({"model_type": "qwen2"})").kv_heads == 32);
}

TEST_CASE("null key/value heads mean as many as heads, absent ones the default of the class") {
  CHECK(hf(R"({"model_type": "mistral", "num_key_value_heads": null})").kv_heads == 32);
  CHECK(hf(R"({"model_type": "mistral"})").kv_heads == 8);
  CHECK(hf(R"({"model_type": "llama", "num_attention_heads": 16})").kv_heads == 16);
}

TEST_CASE("a head size is the file's, or hidden over heads, or 128 for qwen3") {
  CHECK(hf(R"({"model_type": "llama", "head_dim": null})").head_dim == 128);
  CHECK(hf(R"({"model_type": "llama", "head_dim": 64})").head_dim == 64);
  const std::string narrow = R"("hidden_size": 1024, "num_attention_heads": 32)";
  CHECK(hf(R"({"model_type": "qwen2", )" + narrow + "}").head_dim == 32);
  CHECK(hf(R"({"model_type": "qwen3", )" + narrow + "}").head_dim == 128);
  // qwen3 never derives it, so hidden need not be divisible.
  const std::string odd = R"("hidden_size": 1000, "num_attention_heads": 32})";
  CHECK(read_hf(R"({"model_type": "qwen3", )" + odd).model);
  CHECK_FALSE(read_hf(R"({"model_type": "qwen2", )" + odd).model);
}

TEST_CASE("biases: always on qwen2's q, k and v; by key and also on the output for llama") {
  const Model qwen = hf(R"({"model_type": "qwen2"})");
  CHECK(qwen.attention_bias);
  CHECK_FALSE(qwen.output_bias);
  const Model llama = hf(R"({"model_type": "llama", "attention_bias": true, "mlp_bias": true})");
  CHECK(llama.attention_bias);
  CHECK(llama.output_bias);
  CHECK(llama.mlp_bias);
  // Keys that mistral's class does not have change nothing there.
  CHECK_FALSE(hf(R"({"model_type": "mistral", "attention_bias": true})").attention_bias);
}

TEST_CASE("qwen's window counts only when switched on, for all layers or none") {
  const auto qwen = [](const std::string& rest) {
    return read_hf(R"({"model_type": "qwen2", "num_hidden_layers": 4, "sliding_window": 512)" +
                   rest + "}");
  };
  CHECK(qwen("").model->sliding_window == 0);
  CHECK(qwen(R"(, "use_sliding_window": true, "max_window_layers": 0)").model->sliding_window ==
        512);
  CHECK(qwen(R"(, "use_sliding_window": true, "max_window_layers": 4)").model->sliding_window == 0);
  const Reading mixed = qwen(R"(, "use_sliding_window": true, "max_window_layers": 2)");
  CHECK_FALSE(mixed.model);
  CHECK(mixed.errors.find("layers with different attention masks are not supported") !=
        std::string::npos);
  const std::string sliding = R"("sliding_attention", "sliding_attention")";
  CHECK(qwen(R"(, "layer_types": [)" + sliding + "]").model->sliding_window == 512);
  CHECK_FALSE(qwen(R"(, "layer_types": ["full_attention", "sliding_attention"])").model);
}

TEST_CASE("files of transformers 5 give the same model as files of version 4") {
  const Model four = hf(R"({"model_type": "llama", "torch_dtype": "bfloat16",
                            "rope_theta": 500000.0, "rope_scaling": null})");
  const Model five = hf(R"({"model_type": "llama", "dtype": "bfloat16",
                            "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}})");
  CHECK(four == five);
}

TEST_CASE("the language model of a multimodal file is its text_config, and the user is told") {
  const Reading reading = read_hf(
      R"({"model_type": "llava", "text_config": {"model_type": "llama", "num_hidden_layers": 5}})");
  REQUIRE(reading.model);
  CHECK(reading.model->layers == 5);
  CHECK(reading.errors.find("note: only the language model (text_config) is read") !=
        std::string::npos);
}

TEST_CASE("gpt2's keys go by their own and by the usual names") {
  CHECK(hf(R"({"model_type": "gpt2", "n_embd": 1024, "n_head": 16})").hidden == 1024);
  CHECK(hf(R"({"model_type": "gpt2", "hidden_size": 1024, "num_attention_heads": 16})").heads ==
        16);
  CHECK(hf(R"({"model_type": "gpt2", "n_inner": null})").ffn == 4 * 768);
  CHECK(hf(R"({"model_type": "gpt2", "n_inner": 1000})").ffn == 1000);
}

TEST_CASE("an unknown type is read like llama only if it leaves nothing to a default") {
  const std::string shapes =
      R"("vocab_size": 100, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "hidden_act": "silu")";
  const Reading whole =
      read_hf(R"({"model_type": "new", "tie_word_embeddings": true, )" + shapes + "}");
  REQUIRE(whole.model);
  CHECK(whole.errors.find("warning: model_type 'new' is not known") != std::string::npos);
  const Reading part = read_hf(R"({"model_type": "new", )" + shapes + "}");
  CHECK_FALSE(part.model);
  CHECK(part.errors.find("others must give tie_word_embeddings") != std::string::npos);
}

TEST_CASE("an unknown type is refused where its MLP may have no gate, or a key may be a part unknown") {
  const auto reading = [](const std::string& act, const std::string& more) {
    return read_hf(R"({"model_type": "new", "vocab_size": 100, "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": true, "hidden_act": ")" +
                   act + "\"" + more + "}");
  };
  CHECK(reading("silu", R"(, "rope_theta": 1e6, "eos_token_id": 2, "no_rope_layers": [1]
                          , "layer_types": ["full_attention", "full_attention"])").model);
  // Nemotron's and Arcee's: two matrices, where a llama has three.
  const Reading ungated = reading("relu2", "");
  CHECK_FALSE(ungated.model);
  CHECK(ungated.errors.find("with 'relu2' its MLP may have a gate or not") != std::string::npos);
  // Falcon-H1's state-space part, EXAONE's windows, Seed's biases without one on the output.
  for (const std::string key :
       {R"("mamba_d_ssm": 32)", R"("sliding_window": 4096)", R"("attention_out_bias": false)"}) {
    INFO(key);
    const Reading part = reading("silu", ", " + key);
    CHECK_FALSE(part.model);
    CHECK(part.errors.find("this may change shapes: " + key.substr(1, key.find(':') - 2)) !=
          std::string::npos);
  }
}

TEST_CASE("keys that the class of a known type does not have are named, not passed over in silence") {
  const Reading odd = read_hf(R"({"model_type": "llama", "adapter_rank": 64, "use_adapter": false,
                                  "head_type": null, "bos_token_id": 1, "_name_or_path": "x"})");
  REQUIRE(odd.model);
  CHECK(odd.errors.find("warning: not read: adapter_rank\n") != std::string::npos);
  const Reading window = read_hf(R"({"model_type": "llama", "sliding_window": 4096})");
  CHECK(window.errors.find("warning: not read: sliding_window\n") != std::string::npos);
}

TEST_CASE("DeepSeek's layers of multi-token prediction are said to be left out") {
  const Reading reading =
      read_hf(R"({"model_type": "deepseek_v3", "num_nextn_predict_layers": 1})");
  REQUIRE(reading.model);
  CHECK(reading.errors.find("note: layers of multi-token prediction are left out") !=
        std::string::npos);
  CHECK(read_hf(R"({"model_type": "deepseek_v3", "num_nextn_predict_layers": 0})").errors.empty());
  // No shared experts are none, not the class's default.
  CHECK(hf(R"({"model_type": "deepseek_v3", "n_shared_experts": null})").experts.shared_ffn == 0);
}

TEST_CASE("biases and norms that no count has are refused") {
  const auto refused = [](const std::string& more, const char* words) {
    const Reading reading = read_yaml(
        "{layers: 2, hidden: 64, heads: 4, vocab: 16, ffn: 32, " + more + "}");
    return !reading.model && reading.errors.find(words) != std::string::npos;
  };
  const std::string latent = "kv_lora_rank: 8, qk_nope_head_dim: 8, qk_rope_head_dim: 8, "
                             "v_head_dim: 8, ";
  CHECK(refused(latent + "attention_bias: true", "biases of latent attention"));
  CHECK(refused(latent + "qk_norm: true", "latent attention has norms of its own"));
  CHECK(refused("experts: 4, experts_per_token: 2, expert_ffn: 8, mlp_bias: true",
                "biases of experts"));
  CHECK_FALSE(read_hf(R"({"model_type": "deepseek_v3", "attention_bias": true})").model);
}

TEST_CASE("experts and latent attention of types that are not known are refused by their keys") {
  for (const std::string text :
       {R"({"model_type": "dbrx"})", R"({"model_type": "granite_moe"})",
        R"({"model_type": "llama", "n_routed_experts": 4})"}) {
    INFO(text);
    const Reading reading = read_hf(text);
    CHECK_FALSE(reading.model);
    CHECK(reading.errors.find("experts of this model type are not known") != std::string::npos);
  }
  CHECK(read_hf(R"({"model_type": "llama", "kv_lora_rank": 512})")
            .errors.find("latent attention of this model type is not known") != std::string::npos);
}

TEST_CASE("a file of experts with nothing but its type has the defaults of the class") {
  const Reading mixtral = read_hf(R"({"model_type": "mixtral"})");
  REQUIRE(mixtral.model);
  CHECK(mixtral.model->experts == find("mixtral-8x7b").model->experts);
  const Reading deepseek = read_hf(R"({"model_type": "deepseek_v3"})");
  REQUIRE(deepseek.model);
  CHECK(deepseek.model->experts == find("deepseek-v3").model->experts);
  CHECK(deepseek.model->latent == find("deepseek-v3").model->latent);
  CHECK(deepseek.model->head_dim == 192);
}

TEST_CASE("a router is limited to groups where its class or its method says so") {
  const auto experts = [](const std::string& keys) {
    const Reading reading = read_hf("{\"model_type\": " + keys + "}");
    INFO(reading.errors);
    REQUIRE(reading.model);
    return reading.model->experts;
  };
  const std::string limited = R"(, "num_experts_per_tok": 6, "n_group": 8, "topk_group": 3)";
  const Experts second =
      experts(R"("deepseek_v2", "topk_method": "group_limited_greedy")" + limited);
  CHECK(second.groups == 8);
  CHECK(second.group_limit == 3);
  CHECK(experts(R"("deepseek_v2", "topk_method": "greedy")" + limited).groups == 1);
  CHECK(experts(R"("deepseek_v2", "n_group": null, "num_experts_per_tok": 6)").groups == 1);
  const Experts third = experts(R"("deepseek_v3", "n_group": 4, "topk_group": 2)");
  CHECK(third.groups == 4);
  CHECK(third.group_limit == 2);
  // 256 experts in 7 groups; 5 of 4 groups; 8 experts a token in one group of 4.
  for (const char* keys : {R"("n_group": 7)", R"("n_group": 4, "topk_group": 5)",
                           R"("n_group": 64, "topk_group": 1)"}) {
    INFO(keys);
    const Reading reading =
        read_hf(std::string(R"({"model_type": "deepseek_v3", )") + keys + "}");
    CHECK_FALSE(reading.model);
    CHECK(reading.errors.find("equal groups") != std::string::npos);
  }
}

TEST_CASE("layers without experts may come first or in turn, but not anywhere") {
  const Reading first = read_hf(R"({"model_type": "qwen3_moe", "mlp_only_layers": [0, 1]})");
  REQUIRE(first.model);
  CHECK_FALSE(is_expert_layer(*first.model, 1));
  CHECK(is_expert_layer(*first.model, 2));
  CHECK(expert_layers(*first.model) == 22);
  const Reading second = read_hf(R"({"model_type": "qwen3_moe", "decoder_sparse_step": 2})");
  REQUIRE(second.model);
  CHECK_FALSE(is_expert_layer(*second.model, 0));
  CHECK(is_expert_layer(*second.model, 1));
  CHECK(expert_layers(*second.model) == 12);
  for (const std::string text :
       {R"({"model_type": "qwen3_moe", "mlp_only_layers": [3]})",
        R"({"model_type": "qwen3_moe", "mlp_only_layers": [0], "decoder_sparse_step": 2})",
        R"({"model_type": "deepseek_v3", "moe_layer_freq": 2})"}) {
    INFO(text);
    CHECK_FALSE(read_hf(text).model);
  }
}

TEST_CASE("experts in a model map need their shapes, and keys of experts need experts") {
  const std::string dense = "{layers: 2, hidden: 8, heads: 2, vocab: 16";
  const Reading whole = read_yaml(dense + ", experts: 4, experts_per_token: 2, expert_ffn: 8}");
  REQUIRE(whole.model);
  CHECK(whole.model->ffn == 8);
  CHECK(expert_layers(*whole.model) == 2);
  const auto complains = [](const Reading& reading, const char* words) {
    return !reading.model && reading.errors.find(words) != std::string::npos;
  };
  CHECK(complains(read_yaml(dense + ", experts: 4, experts_per_token: 5, expert_ffn: 8}"),
                  "cannot pass 5 of 4 experts"));
  CHECK(complains(read_yaml(dense + ", experts: 4, expert_ffn: 8}"), "experts_per_token"));
  CHECK(complains(read_yaml(dense + ", ffn: 8, expert_ffn: 8}"), "belongs to a mixture of experts"));
  CHECK(complains(read_yaml(dense + ", ffn: 8, v_head_dim: 8}"), "belongs to latent attention"));
  CHECK(complains(read_yaml(dense + ", ffn: 8, experts: 4, experts_per_token: 1, expert_ffn: 8, "
                               "first_dense_layers: 2}"),
                  "none of the 2 layers has experts"));
  // Dense layers need a width, which nothing else gives.
  CHECK(complains(read_yaml(dense + ", experts: 4, experts_per_token: 1, expert_ffn: 8, "
                               "first_dense_layers: 1}"),
                  "ffn"));
}

TEST_CASE("wrong values of a config.json are shown where they stand") {
  CHECK(read_hf("{\"model_type\": \"llama\",\n \"hidden_size\": \"wide\",\n"
                " \"num_hidden_layers\": 1.5}")
            .errors ==
        "dir/config.json:2:17: error: 'hidden_size' wants a whole number, got 'wide'\n"
        "    2 |  \"hidden_size\": \"wide\",\n"
        "      |                 ^~~~~~\n"
        "      = help: write decimal digits only, such as 4096\n"
        "dir/config.json:3:23: error: 'num_hidden_layers' wants a whole number, got '1.5'\n"
        "    3 |  \"num_hidden_layers\": 1.5}\n"
        "      |                       ^~~\n"
        "      = help: write decimal digits only, such as 4096\n"
        "2 errors in dir/config.json\n");
}

TEST_CASE("a config.json that is a list, or no JSON, is refused where it goes wrong") {
  CHECK(read_hf("[1, 2]").errors.find("1:1: error: config.json must be a map") !=
        std::string::npos);
  CHECK(read_hf("{\"model_type\": \"llama\",}").errors.find("1:24: error: not valid JSON") !=
        std::string::npos);
}
