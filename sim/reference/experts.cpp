// Tokens to experts and back. Which experts a token passes is not computed from its affinities, as a
// real router does, but from its place in the batch (docs/models/reference_executor.md): so every
// plan routes alike, however it deals the tokens, and all experts get equally many.
#include <algorithm>
#include <cmath>

#include "sim/program/layout.h"
#include "sim/reference/kernels.h"

namespace longhaul {

namespace {

// Token t passes the experts (t k + floor(t k / e) + j) mod e, j = 0..k-1: all e equally often, over
// neighbouring tokens and over every second, third, ... one.
std::int64_t expert_of(std::int64_t token, std::int64_t choice, std::int64_t per_token,
                       std::int64_t experts) {
  const std::int64_t first = token * per_token;
  return (first + first / experts + choice) % experts;
}

// Global numbers of the tokens that a rank holds in [b, s, ..].
std::vector<std::int64_t> tokens_of(const Call& call, const Tensor& tensor) {
  const AttentionGeometry& geometry = call.program.attention;
  std::vector<std::int64_t> tokens;
  for (std::int64_t b = 0; b < tensor.shape[0]; ++b) {
    const std::int64_t sequence =
        global_index(call.program.mesh, tensor.shards[0], tensor.shape[0], call.rank, b);
    for (std::int64_t s = 0; s < tensor.shape[1]; ++s) {
      tokens.push_back(
          sequence * (geometry.cached + geometry.sequence) + geometry.cached +
          global_index(call.program.mesh, tensor.shards[1], tensor.shape[1], call.rank, s));
    }
  }
  return tokens;
}

// For every local token and choice the row of the experts' buffer, in the order of tokens.
std::vector<std::size_t> rows_of(const Call& call, const Tensor& tokens, const Array& buffer,
                                 std::int64_t per_token) {
  const std::int64_t experts = buffer.size(0);
  const std::int64_t capacity = buffer.size(1);
  need(per_token > 0 && per_token <= experts, "needs an expert for every choice");
  std::vector<std::int64_t> used(static_cast<std::size_t>(experts), 0);
  std::vector<std::size_t> rows;
  for (const std::int64_t token : tokens_of(call, tokens)) {
    for (std::int64_t choice = 0; choice < per_token; ++choice) {
      const std::int64_t expert = expert_of(token, choice, per_token, experts);
      const std::int64_t place = used[static_cast<std::size_t>(expert)]++;
      need(place < capacity, "gives an expert more tokens than its buffer holds");
      rows.push_back(static_cast<std::size_t>(expert * capacity + place));
    }
  }
  return rows;
}

struct Choices {
  std::int64_t experts = 0;
  std::int64_t per_token = 0;
  std::vector<std::int64_t> tokens;
  [[nodiscard]] std::size_t logit(std::size_t row, std::int64_t choice) const {
    return row * static_cast<std::size_t>(experts) +
           static_cast<std::size_t>(expert_of(tokens[row], choice, per_token, experts));
  }
};

Choices choices_of(const Call& call, const Array& weights) {
  Choices choices{call.reads[0].size(-1), weights.size(-1),
                  tokens_of(call, call.read_tensor(0))};
  need(choices.per_token <= choices.experts &&
           weights.elements() ==
               static_cast<std::int64_t>(choices.tokens.size()) * choices.per_token,
       "weighs as many experts as a token passes");
  return choices;
}

// Softmax over the logits of the chosen experts.
std::vector<double> weights_of(const Call& call, const Choices& choices, std::size_t row) {
  std::vector<double> weights;
  double sum = 0;
  for (std::int64_t j = 0; j < choices.per_token; ++j) {
    weights.push_back(std::exp(call.reads[0].values[choices.logit(row, j)]));
    sum += weights.back();
  }
  for (double& weight : weights) {
    weight /= sum;
  }
  return weights;
}

}  // namespace

void compute_route(Call& call) {
  const Choices choices = choices_of(call, call.writes[0]);
  for (std::size_t row = 0; row < choices.tokens.size(); ++row) {
    const std::vector<double> weights = weights_of(call, choices, row);
    std::copy(weights.begin(), weights.end(),
              call.writes[0].values.begin() +
                  static_cast<std::ptrdiff_t>(row * weights.size()));
  }
}

// dlogit_j = w_j (dw_j - sum_i w_i dw_i) of the chosen, 0 of the others.
void compute_route_backward(Call& call) {
  const Choices choices = choices_of(call, call.reads[1]);
  const auto k = static_cast<std::size_t>(choices.per_token);
  for (std::size_t row = 0; row < choices.tokens.size(); ++row) {
    const std::vector<double> weights = weights_of(call, choices, row);
    double dot = 0;
    for (std::size_t j = 0; j < k; ++j) {
      dot += weights[j] * call.reads[1].values[row * k + j];
    }
    for (std::size_t j = 0; j < k; ++j) {
      call.writes[0].values[choices.logit(row, static_cast<std::int64_t>(j))] =
          weights[j] * (call.reads[1].values[row * k + j] - dot);
    }
  }
}

void compute_dispatch(Call& call) {
  const auto per_token = static_cast<std::size_t>(call.instruction.experts_per_token);
  const std::vector<std::size_t> rows = rows_of(call, call.read_tensor(0), call.writes[0],
                                                call.instruction.experts_per_token);
  const auto width = static_cast<std::size_t>(call.reads[0].size(-1));
  need(call.writes[0].size(-1) == call.reads[0].size(-1) &&
           call.reads.size() == call.writes.size(),
       "copies whole rows");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(call.reads[0].values.begin() +
                    static_cast<std::ptrdiff_t>(i / per_token * width),
                width, call.writes[0].values.begin() + static_cast<std::ptrdiff_t>(rows[i] * width));
    if (call.reads.size() > 1) {
      call.writes[1].values[rows[i]] = call.reads[1].values[i];
    }
  }
}

void compute_combine(Call& call) {
  const auto per_token = static_cast<std::size_t>(call.instruction.experts_per_token);
  const std::vector<std::size_t> rows = rows_of(call, call.written_tensor(0), call.reads[0],
                                                call.instruction.experts_per_token);
  const auto width = static_cast<std::size_t>(call.writes[0].size(-1));
  need(call.reads[0].size(-1) == call.writes[0].size(-1) &&
           call.reads.size() == call.writes.size(),
       "sums whole rows");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t c = 0; c < width; ++c) {
      call.writes[0].values[i / per_token * width + c] +=
          call.reads[0].values[rows[i] * width + c];
    }
    if (call.reads.size() > 1) {
      call.writes[1].values[i] = call.reads[1].values[rows[i]];
    }
  }
}

}  // namespace longhaul
