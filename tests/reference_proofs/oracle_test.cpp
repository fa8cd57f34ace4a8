// The oracle itself: hand-worked numbers, and its gradients against central differences.
#include <catch2/catch.hpp>

#include <cmath>

#include "tests/reference_proofs/oracle.h"
#include "tests/reference_proofs/proof.h"
#include "tests/sim/schedule/small_scenarios.h"

using namespace longhaul;
using namespace longhaul::test;
using Catch::Matchers::WithinAbs;

namespace {

constexpr double step = 1e-5;

// Every 7th weight of every array is moved both ways.
void check_gradients(const Model& model, const MaskSpec& mask) {
  const std::vector<Array> tokens{random_ids({2, 6}, 1, model.vocab)};
  const std::vector<Array> labels{random_ids({2, 6}, 2, model.vocab)};
  const Named weights = random_weights(model, 3);
  const Named found = train_unsharded(model, mask, weights, tokens, labels);
  for (const auto& [name, layers] : weights) {
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
      for (std::size_t i = 0; i < layers[layer].values.size(); i += 7) {
        const auto loss_at = [&](double by) {
          Named moved = weights;
          moved.at(name)[layer].values[i] += by;
          return train_unsharded(model, mask, moved, tokens, labels).at("loss")[0].values[0];
        };
        const double slope = (loss_at(step) - loss_at(-step)) / (2 * step);
        CAPTURE(name, layer, i);
        // Truncation is of order step^2, rounding of 1e-16 / step.
        REQUIRE_THAT(found.at("grad." + name)[layer].values[i], WithinAbs(slope, 1e-8));
      }
    }
  }
}

Model smallest() {
  Model model = small_llama(4, 2);
  model.layers = 2;
  model.hidden = 6;
  model.ffn = 5;
  model.vocab = 7;
  return model;
}

}  // namespace

TEST_CASE("attention to equal keys is the mean of the values seen") {
  // Scores are all equal, so query i of a causal mask mixes values 0..i evenly; its log-sum-exp is
  // log(i + 1) more than the score 1 * 1 / sqrt(1).
  const Array ones = Array::filled({1, 3, 1, 1}, 1.0);
  Array v = ones;
  v.values = {3, 5, 10};
  const Named found = dense_attention(ones, ones, v, ones, {MaskKind::causal, 0});
  const double expected[] = {3, 4, 6};
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK_THAT(found.at("o")[0].values[i], WithinAbs(expected[i], 1e-14));
    CHECK_THAT(found.at("lse")[0].values[i],
               WithinAbs(1 + std::log(static_cast<double>(i) + 1), 1e-14));
  }
  // Value 0 is a whole, a half and a third of the three outputs.
  CHECK_THAT(found.at("dv")[0].values[0], WithinAbs(1 + 1.0 / 2 + 1.0 / 3, 1e-14));
  CHECK_THAT(found.at("dv")[0].values[2], WithinAbs(1.0 / 3, 1e-14));
}

TEST_CASE("a window of one key copies the values") {
  const Array q = random_array({1, 4, 2, 2}, 1);
  const Array v = random_array({1, 4, 2, 2}, 2);
  const Named found = dense_attention(q, q, v, q, {MaskKind::window, 1});
  CHECK(relative_error(found.at("o")[0], v) < 1e-14);
}

TEST_CASE("the oracle's gradients are the slopes of its loss: llama's kind of model") {
  check_gradients(smallest(), {MaskKind::causal, 0});
}

TEST_CASE("the oracle's gradients are the slopes of its loss: tied embeddings, gelu, a window") {
  Model model = smallest();
  model.gated_mlp = false;
  model.tied_embeddings = true;
  model.positions = PositionEmbedding::none;
  check_gradients(model, {MaskKind::window, 3});
}

TEST_CASE("a comparison sees differences, other shapes, NaN, and does not take zeros for proof") {
  const Array a = random_array({2, 3}, 1);
  Array b = a;
  CHECK(relative_error(b, a) == 0);
  b.values[4] += 1e-6;
  CHECK(relative_error(b, a) > 5e-7);
  b.values[4] = std::nan("");
  CHECK(std::isinf(relative_error(b, a)));
  b = a;
  b.shape = {3, 2};
  CHECK(std::isinf(relative_error(b, a)));
  const Array zeros = Array::filled({2, 3}, 0.0);
  CHECK(std::isinf(relative_error(zeros, zeros)));
}
