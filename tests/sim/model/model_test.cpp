// Parameter counts equal the published ones; FLOPs follow the stated conventions.
#include "sim/model/model.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <utility>
#include <vector>

#include "sim/model/read_model.h"

using namespace longhaul;

namespace {

Model preset(const std::string& name) {
  Diagnostics diagnostics;
  const std::optional<Model> model = find_model(name, {}, diagnostics);
  INFO(format_diagnostics(diagnostics, false));
  REQUIRE(model);
  return *model;
}

/// A shape of round numbers, small enough to count by hand.
Model tiny() {
  Model model;
  model.layers = 2;
  model.hidden = 8;
  model.heads = 4;
  model.kv_heads = 2;
  model.head_dim = 2;
  model.ffn = 16;
  model.vocab = 32;
  return model;
}

}  // namespace

TEST_CASE("every preset has exactly the published number of parameters") {
  const std::vector<std::pair<std::string, std::int64_t>> published{
      {"deepseek-v2-lite", 15'706'484'224},
      {"deepseek-v3", 671'026'419'200},
      {"gpt3-175b", 174'604'259'328},
      {"llama2-13b", 13'015'864'320},
      {"llama2-7b", 6'738'415'616},
      {"llama3-70b", 70'553'706'496},
      {"llama3-8b", 8'030'261'248},
      {"llama3.1-405b", 405'853'388'800},
      {"llama3.2-1b", 1'235'814'400},
      {"llama3.2-3b", 3'212'749'824},
      {"mistral-7b", 7'241'732'096},
      {"mixtral-8x22b", 140'620'634'112},
      {"mixtral-8x7b", 46'702'792'704},
      {"qwen1.5-moe-a2.7b", 14'315'784'192},
      {"qwen2.5-72b", 72'706'203'648},
      {"qwen2.5-7b", 7'615'616'512},
      {"qwen3-235b-a22b", 235'093'634'560},
      {"qwen3-30b-a3b", 30'532'122'624},
      {"qwen3-8b", 8'190'735'360}};
  std::vector<std::string> names;
  for (const auto& [name, count] : published) {
    INFO(name);
    CHECK(count_parameters(preset(name)).total == count);
    names.push_back(name);
  }
  // No preset escapes this test.
  CHECK(model_presets() == names);
}

TEST_CASE("gpt3-175b has the parameters of Megatron's formula, and the last norm") {
  // arXiv 2104.04473, equation 2: 12 l h^2 (1 + 13 / (12 h) + (V + s) / (12 l h)).
  const std::int64_t l = 96;
  const std::int64_t h = 12288;
  const std::int64_t formula = 12 * l * h * h + 13 * l * h + (50257 + 2048) * h;
  CHECK(count_parameters(preset("gpt3-175b")).total == formula + 2 * h);
}

TEST_CASE("a tiny model counted by hand, part by part") {
  Model model = tiny();
  ParameterCounts counts = count_parameters(model);
  CHECK(counts.embedding == 32 * 8);
  CHECK(counts.attention == 8 * 8 + 2 * 8 * 4 + 8 * 8);  // q, k and v, o
  CHECK(counts.mlp == 3 * 8 * 16);
  CHECK(counts.norms == 16);
  CHECK(counts.final_norm == 8);
  CHECK(counts.head == 32 * 8);
  CHECK(counts.total == 256 + 2 * (192 + 384 + 16) + 8 + 256);
}

TEST_CASE("each option adds exactly its own parameters") {
  const ParameterCounts plain = count_parameters(tiny());
  const auto with = [](auto change) {
    Model model = tiny();
    change(model);
    return count_parameters(model);
  };
  CHECK(with([](Model& m) { m.attention_bias = true; }).attention == plain.attention + 8 + 4 + 4);
  CHECK(with([](Model& m) { m.output_bias = true; }).attention == plain.attention + 8);
  CHECK(with([](Model& m) { m.qk_norm = true; }).attention == plain.attention + 2 + 2);
  CHECK(with([](Model& m) { m.mlp_bias = true; }).mlp == plain.mlp + 16 + 16 + 8);
  CHECK(with([](Model& m) { m.gated_mlp = false; }).mlp == 2 * 8 * 16);
  CHECK(with([](Model& m) { m.norm = Norm::layer_norm; }).norms == 2 * plain.norms);
  CHECK(with([](Model& m) { m.tied_embeddings = true; }).total == plain.total - 32 * 8);
  const auto learned = with([](Model& m) {
    m.positions = PositionEmbedding::learned;
    m.max_positions = 10;
  });
  CHECK(learned.embedding == plain.embedding + 10 * 8);
  // A table size without learned positions adds nothing.
  CHECK(with([](Model& m) { m.max_positions = 10; }).total == plain.total);
}

TEST_CASE("training FLOPs of a tiny model by hand: 6 N D and 12 L S^2 h d") {
  // Matrices: 2 layers x (192 + 384) and the LM head of 256. Two sequences of 10 tokens.
  const double matrices = 6.0 * (2 * (192 + 384) + 256) * 20;
  const double attention = 12.0 * 2 * (10 * 10) * (4 * 2) * 2;
  CHECK(training_flops(tiny(), 2, 10, AttentionFlops::full).value() == matrices + attention);
  CHECK(training_flops(tiny(), 2, 10, AttentionFlops::causal).value() == matrices + attention / 2);
}

TEST_CASE("a forward pass is a third of a training step, and a tied head computes all the same") {
  Model model = tiny();
  const double step = training_flops(model, 3, 7, AttentionFlops::causal).value();
  CHECK(3.0 * forward_flops(model, 3, 7, AttentionFlops::causal).value() == step);
  model.tied_embeddings = true;
  CHECK(training_flops(model, 3, 7, AttentionFlops::causal).value() == step);
}

TEST_CASE("FLOPs grow linearly with sequences and faster than linearly with length") {
  const Model model = preset("llama3-8b");
  const auto flops = [&](std::int64_t sequences, std::int64_t length) {
    return training_flops(model, sequences, length, AttentionFlops::full).value();
  };
  CHECK_THAT(flops(4, 8192), Catch::Matchers::WithinRel(4.0 * flops(1, 8192), 1e-14));
  CHECK(flops(1, 16384) > 2.0 * flops(1, 8192));
  CHECK(flops(1, 16384) < 4.0 * flops(1, 8192));
}

TEST_CASE("the 1T model of Narayanan et al. has the FLOPs of their equation 3") {
  // arXiv 2104.04473, equation 3 without recompute (3/4 of it):
  // 72 B s l h^2 (1 + s / (6 h) + V / (12 l h)).
  Model model = tiny();
  model.layers = 128;
  model.hidden = 25600;
  model.heads = model.kv_heads = 160;
  model.head_dim = 160;
  model.ffn = 4 * 25600;
  model.vocab = 51200;
  model.gated_mlp = false;
  const double l = 128, h = 25600, s = 2048, v = 51200, b = 3072;
  const double paper = 72.0 * b * s * l * h * h * (1 + s / (6 * h) + v / (12 * l * h));
  CHECK_THAT(training_flops(model, 3072, 2048, AttentionFlops::full).value(),
             Catch::Matchers::WithinRel(paper, 1e-13));
}

TEST_CASE("active parameters are the published ones, to the digits printed") {
  // Mixtral: 13B (arXiv 2401.04088: 12.9B); Qwen3: 3.3B and 22B (2505.09388; the smaller one's card
  // says 3.3B, embeddings left out of neither); DeepSeek-V3: 37B (2412.19437); V2-Lite: 2.4B, which
  // leaves out one of the two embeddings of 0.21B (2405.04434).
  const auto billions = [](const char* name) {
    return static_cast<double>(count_parameters(preset(name)).active) / 1e9;
  };
  CHECK(std::abs(billions("mixtral-8x7b") - 12.9) < 0.05);
  CHECK(std::abs(billions("qwen3-30b-a3b") - 3.3) < 0.1);
  CHECK(std::abs(billions("qwen3-235b-a22b") - 22.0) < 0.5);
  CHECK(std::abs(billions("deepseek-v3") - 37.0) < 0.6);
  CHECK(std::abs(billions("deepseek-v2-lite") - 0.21 - 2.4) < 0.06);
  CHECK(count_parameters(preset("llama3-8b")).active ==
        count_parameters(preset("llama3-8b")).total);
}

TEST_CASE("FLOPs of a mixture count the experts that a token passes and no others") {
  Model dense = preset("mixtral-8x7b");
  const auto per_token = [](const Model& model) {
    return forward_flops(model, 1, 1, AttentionFlops::full).value();
  };
  // Two experts of 14336 are one MLP of 28672, but for the router.
  const double mixture = per_token(dense);
  dense.experts = {};
  dense.ffn = 2 * 14336;
  CHECK(mixture == per_token(dense) + 2.0 * 32 * 4096 * 8);
}

TEST_CASE("latent attention scores over 192 and sums over 128 channels of a head") {
  Model model = preset("deepseek-v3");
  const double length = 4096;
  const double more = forward_flops(model, 1, 2 * 4096, AttentionFlops::full).value() -
                      2 * forward_flops(model, 1, 4096, AttentionFlops::full).value();
  CHECK(more == 2.0 * 61 * 128 * (192 + 128) * 2 * length * length);
}
