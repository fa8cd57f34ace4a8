// What programs must compute: dense attention and the unsharded transformer, written down plainly,
// one sequence at a time, every token's position explicit. Shares nothing with sim/.. but Array,
// Model and MaskSpec.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "sim/model/model.h"
#include "sim/reference/array.h"
#include "sim/units/sequence.h"

namespace longhaul::test {

/// Arrays by name; several where a tensor has slots (layers, micro-batches).
using Named = std::map<std::string, std::vector<Array>>;

/// Numbers in [-1, 1) * size + offset, the same for the same seed on every machine.
Array random_array(std::vector<std::int64_t> shape, std::uint64_t seed, double size = 1.0,
                   double offset = 0.0);
Array random_ids(std::vector<std::int64_t> shape, std::uint64_t seed, std::int64_t below);

/// Softmax attention. q, do [b, S, h, d]; k, v [b, S, g, d]. Gives o, lse [b, h, S], dq, dk, dv.
Named dense_attention(const Array& q, const Array& k, const Array& v, const Array& d_o,
                      const MaskSpec& mask);

/// Weights by name, one per layer for those of layers: random.
Named random_weights(const Model& model, std::uint64_t seed);

/// A training step of the unsharded model. `tokens` and `labels`: one [b, S] per micro-batch. Gives
/// the gradients ("grad." + weight) of the mean loss over all tokens, "loss" [1], and the keys and
/// values of each layer as a cache keeps them ("k_cache", "v_cache", of the last micro-batch).
Named train_unsharded(const Model& model, const MaskSpec& mask, const Named& weights,
                      const std::vector<Array>& tokens, const std::vector<Array>& labels);

/// The layers alone: from x and dy [b, S, m] per micro-batch, y, dx and the weights' gradients.
Named train_layers(const Model& model, const MaskSpec& mask, const Named& weights,
                   const std::vector<Array>& x, const std::vector<Array>& dy);

}  // namespace longhaul::test
