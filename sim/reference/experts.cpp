// Tokens to experts and back. Which experts a token passes is not computed from its affinities, as a
// real router does, but from its place in the batch (docs/models/reference_executor.md): so every
// plan routes alike, however it deals the tokens, and all experts get equally many.
#include <algorithm>
#include <cmath>

#include "sim/program/layout.h"
#include "sim/reference/kernels.h"

namespace longhaul {

namespace {

// Which experts tokens pass: by their number in the batch.
struct Choices {
  std::int64_t experts = 0;
  std::int64_t per_token = 0;
  std::int64_t groups = 1;  ///< of neighbouring experts, of which a token may use `limit`
  std::int64_t limit = 1;

  // Token t passes the experts (t k + floor(t k / e) + j) mod e, j = 0..k-1: all e equally often, over
  // neighbouring tokens and over every second, third, ... one. Where its groups are limited, the same
  // among the experts of `limit` neighbouring groups, which tokens take in turn.
  [[nodiscard]] std::int64_t expert(std::int64_t token, std::int64_t choice) const {
    const std::int64_t blocks = groups / limit;
    const std::int64_t size = experts / blocks;
    const std::int64_t block = (token + token / blocks) % blocks;
    const std::int64_t first = token / blocks * per_token;
    return block * size + (first + first / size + choice) % size;
  }
  // True if the token passes one of `count` experts from `first` on.
  [[nodiscard]] bool passes(std::int64_t token, std::int64_t first, std::int64_t count) const {
    for (std::int64_t choice = 0; choice < per_token; ++choice) {
      const std::int64_t one = expert(token, choice);
      if (one >= first && one < first + count) {
        return true;
      }
    }
    return false;
  }
};

Choices choices_of(const Instruction& instruction, std::int64_t experts, std::int64_t per_token) {
  const TokenRoute& route = instruction.route;
  const Choices choices{experts, per_token, route.groups, route.group_limit};
  need(per_token > 0 && per_token <= experts, "needs an expert for every choice");
  need(route.groups % route.group_limit == 0 && experts % route.groups == 0 &&
           per_token <= experts / route.groups * route.group_limit,
       "needs groups that hold a token's experts and take turns");
  return choices;
}

// Global numbers of the tokens that a rank holds in [b, s, ..].
std::vector<std::int64_t> tokens_of(const Program& program, const Tensor& tensor, RankId rank) {
  const AttentionGeometry& geometry = program.attention;
  std::vector<std::int64_t> tokens;
  for (std::int64_t b = 0; b < tensor.shape[0]; ++b) {
    const std::int64_t sequence =
        global_index(program.mesh, tensor.shards[0], tensor.shape[0], rank, b);
    for (std::int64_t s = 0; s < tensor.shape[1]; ++s) {
      tokens.push_back(sequence * (geometry.cached + geometry.sequence) + geometry.cached +
                       global_index(program.mesh, tensor.shards[1], tensor.shape[1], rank, s));
    }
  }
  return tokens;
}

// A token's choice: its row on the side of tokens, and on the side of experts.
struct Placed {
  std::size_t near = 0;
  std::int64_t choice = 0;
  std::size_t far = 0;
};

// Whose tokens have rows on the near side of dispatch or combine, source by source.
std::vector<std::vector<std::int64_t>> tokens_by_source(const Call& call, const Tensor& near) {
  const TokenRoute& route = call.instruction.route;
  if (!route.sources) {
    return {tokens_of(call.program, near, call.rank)};
  }
  std::vector<std::vector<std::int64_t>> tokens;
  for (const RankId rank : group_members(call.program.mesh, call.program.group(*route.sources),
                                         call.rank)) {
    tokens.push_back(tokens_of(call.program, call.program.tensor(route.tokens), rank));
  }
  return tokens;
}

// Every choice of every token with a row on the near side, in the order of tokens; experts of other
// ranks have no row. Far rows stand by expert, there by source, and there in the order of tokens.
std::vector<Placed> places_of(const Call& call, const Tensor& near_tensor, const Array& near,
                              const Array& far) {
  const TokenRoute& route = call.instruction.route;
  const std::int64_t local = far.size(0);
  const bool whole = !route.sources;
  const Choices choices = choices_of(call.instruction, whole ? local : route.experts,
                                     call.instruction.experts_per_token);
  const std::int64_t first =
      whole ? 0 : local * call.program.mesh.coordinate(call.rank, Axis::expert);
  const auto by_source = tokens_by_source(call, near_tensor);
  const auto sources = static_cast<std::int64_t>(by_source.size());
  const std::int64_t near_rows = near.elements() / near.size(-1) / sources;
  const std::int64_t capacity = far.size(1) / sources;
  std::vector<Placed> placed;
  for (std::int64_t source = 0; source < sources; ++source) {
    std::vector<std::int64_t> used(static_cast<std::size_t>(local), 0);
    std::int64_t row = 0;
    for (const std::int64_t token : by_source[static_cast<std::size_t>(source)]) {
      if (route.selected && !choices.passes(token, first, local)) {
        continue;
      }
      need(row < near_rows, "has more tokens than rows");
      for (std::int64_t choice = 0; choice < choices.per_token; ++choice) {
        const std::int64_t expert = choices.expert(token, choice) - first;
        if (expert < 0 || expert >= local) {
          continue;
        }
        const std::int64_t place = used[static_cast<std::size_t>(expert)]++;
        need(place < capacity, "gives an expert more tokens than its buffer holds");
        placed.push_back({static_cast<std::size_t>(source * near_rows + row), choice,
                          static_cast<std::size_t>((expert * sources + source) * capacity + place)});
      }
      ++row;
    }
  }
  return placed;
}

// The logits of all tokens and the weights of their chosen experts.
struct Affinities {
  Choices choices;
  std::vector<std::int64_t> tokens;
  [[nodiscard]] std::size_t logit(std::size_t row, std::int64_t choice) const {
    return row * static_cast<std::size_t>(choices.experts) +
           static_cast<std::size_t>(choices.expert(tokens[row], choice));
  }
};

Affinities affinities_of(const Call& call, const Array& weights) {
  Affinities found{choices_of(call.instruction, call.reads[0].size(-1), weights.size(-1)),
                   tokens_of(call.program, call.read_tensor(0), call.rank)};
  need(weights.elements() ==
           static_cast<std::int64_t>(found.tokens.size()) * found.choices.per_token,
       "weighs as many experts as a token passes");
  return found;
}

// Softmax over the logits of the chosen experts.
std::vector<double> weights_of(const Call& call, const Affinities& all, std::size_t row) {
  std::vector<double> weights;
  double sum = 0;
  for (std::int64_t j = 0; j < all.choices.per_token; ++j) {
    weights.push_back(std::exp(call.reads[0].values[all.logit(row, j)]));
    sum += weights.back();
  }
  for (double& weight : weights) {
    weight /= sum;
  }
  return weights;
}

}  // namespace

void compute_route(Call& call) {
  const Affinities all = affinities_of(call, call.writes[0]);
  for (std::size_t row = 0; row < all.tokens.size(); ++row) {
    const std::vector<double> weights = weights_of(call, all, row);
    std::copy(weights.begin(), weights.end(),
              call.writes[0].values.begin() +
                  static_cast<std::ptrdiff_t>(row * weights.size()));
  }
}

// dlogit_j = w_j (dw_j - sum_i w_i dw_i) of the chosen, 0 of the others.
void compute_route_backward(Call& call) {
  const Affinities all = affinities_of(call, call.reads[1]);
  const auto k = static_cast<std::size_t>(all.choices.per_token);
  for (std::size_t row = 0; row < all.tokens.size(); ++row) {
    const std::vector<double> weights = weights_of(call, all, row);
    double dot = 0;
    for (std::size_t j = 0; j < k; ++j) {
      dot += weights[j] * call.reads[1].values[row * k + j];
    }
    for (std::size_t j = 0; j < k; ++j) {
      call.writes[0].values[all.logit(row, static_cast<std::int64_t>(j))] =
          weights[j] * (call.reads[1].values[row * k + j] - dot);
    }
  }
}

void compute_dispatch(Call& call) {
  const auto width = static_cast<std::size_t>(call.reads[0].size(-1));
  need(call.writes[0].size(-1) == call.reads[0].size(-1) &&
           call.reads.size() == call.writes.size(),
       "copies whole rows");
  const auto k = static_cast<std::size_t>(call.instruction.experts_per_token);
  for (const Placed& at : places_of(call, call.read_tensor(0), call.reads[0], call.writes[0])) {
    std::copy_n(call.reads[0].values.begin() + static_cast<std::ptrdiff_t>(at.near * width), width,
                call.writes[0].values.begin() + static_cast<std::ptrdiff_t>(at.far * width));
    if (call.reads.size() > 1) {
      call.writes[1].values[at.far] =
          call.reads[1].values[at.near * k + static_cast<std::size_t>(at.choice)];
    }
  }
}

void compute_combine(Call& call) {
  const auto width = static_cast<std::size_t>(call.writes[0].size(-1));
  need(call.reads[0].size(-1) == call.writes[0].size(-1) &&
           call.reads.size() == call.writes.size(),
       "sums whole rows");
  const auto k = static_cast<std::size_t>(call.instruction.experts_per_token);
  for (const Placed& at : places_of(call, call.written_tensor(0), call.writes[0], call.reads[0])) {
    for (std::size_t c = 0; c < width; ++c) {
      call.writes[0].values[at.near * width + c] += call.reads[0].values[at.far * width + c];
    }
    if (call.reads.size() > 1) {
      call.writes[1].values[at.near * k + static_cast<std::size_t>(at.choice)] =
          call.reads[1].values[at.far];
    }
  }
}

namespace {

// A token of member `from` that member `to` gets: its row at home and there.
struct Sent {
  std::size_t from = 0, to = 0;
  std::size_t home = 0, row = 0;
};

// All of a group's tokens on their way. Every node gets a token once: what its members get of it is
// passed on there, and so no node may get more tokens of a member than the instruction says.
std::vector<Sent> sent_tokens(const Instruction& instruction,
                              const std::vector<std::vector<std::int64_t>>& tokens,
                              std::int64_t capacity) {
  const TokenRoute& route = instruction.route;
  const auto members = static_cast<std::int64_t>(tokens.size());
  const Choices choices =
      choices_of(instruction, route.experts, instruction.experts_per_token);
  const std::int64_t local = route.experts / members;
  std::vector<Sent> all;
  for (std::size_t from = 0; from < tokens.size(); ++from) {
    std::vector<std::int64_t> rows(tokens.size(), 0);
    std::vector<std::int64_t> node_rows(tokens.size() / static_cast<std::size_t>(route.node_ranks));
    for (std::size_t home = 0; home < tokens[from].size(); ++home) {
      std::vector<bool> reaches(node_rows.size(), false);
      for (std::size_t to = 0; to < tokens.size(); ++to) {
        if (!choices.passes(tokens[from][home], static_cast<std::int64_t>(to) * local, local)) {
          continue;
        }
        reaches[to / static_cast<std::size_t>(route.node_ranks)] = true;
        need(rows[to] < capacity, "sends a rank more tokens than its buffer holds");
        all.push_back({from, to, home,
                       static_cast<std::size_t>(static_cast<std::int64_t>(from) * capacity +
                                                rows[to]++)});
      }
      for (std::size_t node = 0; node < reaches.size(); ++node) {
        node_rows[node] += reaches[node] ? 1 : 0;
        need(node_rows[node] <= route.node_rows, "sends a node more tokens than were counted");
      }
    }
  }
  return all;
}

void add_row(Array& into, std::size_t row, const Array& from, std::size_t other) {
  const auto width = static_cast<std::size_t>(from.size(-1));
  for (std::size_t i = 0; i < width; ++i) {
    into.values[row * width + i] += from.values[other * width + i];
  }
}

}  // namespace

std::vector<Array> exchange_tokens(const Program& program, const Instruction& instruction,
                                   const std::vector<RankId>& members, std::size_t operand,
                                   const std::vector<Array>& parts) {
  const bool dispatches = instruction.op == Op::node_dispatch;
  const Tensor& read = program.tensor(instruction.reads[operand].tensor);
  const Tensor& written = program.tensor(instruction.writes[operand].tensor);
  const Tensor& home = dispatches ? read : written;
  const Tensor& away = dispatches ? written : read;
  std::vector<std::vector<std::int64_t>> tokens;
  for (const RankId rank : members) {
    tokens.push_back(tokens_of(program, home, rank));
  }
  const std::int64_t capacity = away.shape[0] / static_cast<std::int64_t>(members.size());
  std::vector<Array> results(members.size(), Array::filled(written.shape, 0.0));
  for (const Sent& one : sent_tokens(instruction, tokens, capacity)) {
    dispatches ? add_row(results[one.to], one.row, parts[one.from], one.home)
               : add_row(results[one.from], one.home, parts[one.to], one.row);
  }
  return results;
}

}  // namespace longhaul
