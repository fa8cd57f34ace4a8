#include "tests/reference_proofs/proof.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sim/program/layout.h"
#include "sim/schedule/attention.h"
#include "sim/schedule/lower.h"

namespace longhaul::test {

namespace {

// Oracles by what they depend on: many plans share one.
template <class Make>
const Named& cached(const std::string& key, const Make& make) {
  static std::map<std::string, Named> cache;
  const auto found = cache.find(key);
  return found != cache.end() ? found->second : cache.emplace(key, make()).first->second;
}

std::string key_of(const Scenario& scenario) {
  const Model& m = scenario.model;
  const Workload& w = scenario.workload;
  std::string key;
  for (const std::int64_t number :
       {static_cast<std::int64_t>(w.phase), m.layers, m.hidden, m.heads, m.kv_heads, m.head_dim,
        m.ffn, m.vocab, static_cast<std::int64_t>(m.gated_mlp),
        static_cast<std::int64_t>(m.tied_embeddings), static_cast<std::int64_t>(m.positions),
        w.sequence_length, w.cached_tokens, w.micro_batch * scenario.plan.data, scenario.micro_batches(),
        static_cast<std::int64_t>(w.mask.kind), w.mask.window, m.experts.count,
        m.experts.per_token, m.experts.ffn, m.experts.shared_ffn, m.experts.dense_layers,
        m.experts.period, m.experts.groups, m.experts.group_limit, m.latent.q_rank,
        m.latent.kv_rank, m.latent.nope_dim, m.latent.rope_dim,
        m.latent.value_dim}) {
    key += std::to_string(number) + ",";
  }
  return key;
}

struct AttentionInputs {
  Array q, k, v, d_o;
  explicit AttentionInputs(const Scenario& scenario) {
    const Model& model = scenario.model;
    const std::int64_t b = scenario.workload.micro_batch * scenario.plan.data;
    const std::int64_t s = scenario.workload.sequence_length;
    q = random_array({b, s, model.heads, model.head_dim}, 1, 2.0);
    k = random_array({b, s, model.kv_heads, model.head_dim}, 2, 2.0);
    v = random_array({b, s, model.kv_heads, model.head_dim}, 3);
    d_o = random_array(q.shape, 4);
  }
};

// [b, s, g, d] with every head `times` times.
Array repeated(const Array& x, std::int64_t times) {
  Array y = Array::filled({x.size(0), x.size(1), x.size(2) * times, x.size(3)}, 0.0);
  for (std::int64_t head = 0; head < y.elements() / x.size(3); ++head) {
    std::copy_n(x.values.begin() + head / times * x.size(3), x.size(3),
                y.values.begin() + head * x.size(3));
  }
  return y;
}

class Proof {
 public:
  Proof(const Scenario& scenario, const Program& program, ExecutionOrder order, std::uint64_t seed)
      : scenario_(scenario), program_(program), run_(program), order_(order), seed_(seed) {}

  Verdict verdict() {
    try {
      switch (scenario_.workload.phase) {
        case Phase::attention: attention(); break;
        case Phase::train: scenario_.model.vocab > 0 ? training() : layers(); break;
        default: scenario_.model.vocab > 0 ? prefill() : layers(); break;
      }
    } catch (const BugError& error) {
      verdict_.refused = true;
      verdict_.why = error.what();
    }
    return verdict_;
  }

 private:
  void attention();
  void give_forward_state(const AttentionInputs& in, const Named& expected);
  void training();
  void layers();
  void prefill();
  const Named& caches_of(const Array& tokens, const Named& weights, std::int64_t micro_batch);
  void give_cache(const std::string& name, std::int64_t slot, const Array& whole);
  void compare_cache(const std::string& name, std::int64_t slot, const Array& expected);
  void run() { run_.run(order_, seed_); }
  void compare(const std::string& name, std::int64_t slot, const Array& expected);
  void compare_all(const std::string& name, const std::vector<Array>& expected) {
    for (std::size_t slot = 0; slot < expected.size(); ++slot) {
      compare(name, static_cast<std::int64_t>(slot), expected[slot]);
    }
  }
  void set_weights(const Named& weights, bool training);
  [[nodiscard]] bool has_tensor(const std::string& name) const {
    return std::any_of(program_.tensors.begin(), program_.tensors.end(),
                       [&](const Tensor& tensor) { return tensor.name == name; });
  }
  void compare_updated(const Named& weights, const Named& expected);

  const Scenario& scenario_;
  const Program& program_;
  ReferenceRun run_;
  ExecutionOrder order_;
  std::uint64_t seed_;
  Verdict verdict_;
};

void Proof::compare(const std::string& name, std::int64_t slot, const Array& expected) {
  const double error = relative_error(run_.gather_global(name, slot), expected);
  ++verdict_.compared;
  if (!(error <= verdict_.error)) {
    verdict_.error = error;
    verdict_.why = name + " slot " + std::to_string(slot);
  }
}

void Proof::attention() {
  const AttentionInputs in(scenario_);
  const Named& expected = cached(key_of(scenario_), [&] {
    return dense_attention(in.q, in.k, in.v, in.d_o, scenario_.workload.mask);
  });
  const Pass pass = scenario_.workload.pass;
  run_.set_global("q", 0, in.q);
  run_.set_global("k", 0, in.k);
  run_.set_global("v", 0, in.v);
  if (pass != Pass::forward) {
    run_.set_global("do", 0, in.d_o);
  }
  if (pass == Pass::backward) {
    give_forward_state(in, expected);
  }
  run();
  if (pass != Pass::backward) {
    compare_all("o", expected.at("o"));
  }
  if (pass != Pass::forward) {
    for (const char* name : {"dq", "dk", "dv"}) {
      compare_all(name, expected.at(name));
    }
  }
}

// A backward pass alone starts from what a forward pass would have left.
void Proof::give_forward_state(const AttentionInputs& in, const Named& expected) {
  run_.set_global("o", 0, expected.at("o")[0]);
  run_.set_global("lse", 0, expected.at("lse")[0]);
  const std::int64_t ulysses = scenario_.plan.context.ulysses;
  if (ulysses == 1) {
    return;
  }
  const std::int64_t kv_heads = scenario_.model.kv_heads / scenario_.plan.tensor;
  const std::int64_t times = std::max<std::int64_t>(1, ulysses / kv_heads);
  run_.set_global("q_exchanged", 0, in.q);
  run_.set_global("k_exchanged", 0, repeated(in.k, times));
  run_.set_global("v_exchanged", 0, repeated(in.v, times));
  run_.set_global("o_exchanged", 0, expected.at("o")[0]);
}

void Proof::set_weights(const Named& weights, bool training) {
  for (const auto& [name, slots] : weights) {
    for (std::size_t i = 0; i < slots.size(); ++i) {
      const auto slot = static_cast<std::int64_t>(i);
      run_.set_global(name, slot, slots[i]);
      if (training) {
        const Array zeros = Array::filled(slots[i].shape, 0.0);
        if (has_tensor("master." + name)) {  // else the optimizer works on the weight itself
          run_.set_global("master." + name, slot, slots[i]);
        }
        run_.set_global("moment1." + name, slot, zeros);
        run_.set_global("moment2." + name, slot, zeros);
      }
    }
  }
}

// Adam's first step moves every weight by rate * g / (|g| + epsilon): with bias correction the
// moments are g and g^2 (arXiv 1412.6980).
void Proof::compare_updated(const Named& weights, const Named& expected) {
  for (const auto& [name, slots] : weights) {
    for (std::size_t i = 0; i < slots.size(); ++i) {
      Array updated = slots[i];
      const Array& gradient = expected.at("grad." + name)[i];
      for (std::size_t n = 0; n < updated.values.size(); ++n) {
        const double g = gradient.values[n];
        updated.values[n] -= 1e-3 * g / (std::abs(g) + 1e-8);
      }
      compare(name, static_cast<std::int64_t>(i), updated);
    }
  }
}

void Proof::training() {
  const Workload& w = scenario_.workload;
  const Named weights = random_weights(scenario_.model, 100);
  std::vector<Array> tokens, labels;
  for (std::int64_t slot = 0; slot < scenario_.micro_batches(); ++slot) {
    const std::vector<std::int64_t> shape{w.micro_batch * scenario_.plan.data, w.sequence_length};
    const auto seed = static_cast<std::uint64_t>(slot);
    tokens.push_back(random_ids(shape, 200 + seed, scenario_.model.vocab));
    labels.push_back(random_ids(shape, 300 + seed, scenario_.model.vocab));
    run_.set_global("tokens", slot, tokens.back());
    run_.set_global("labels", slot, labels.back());
  }
  const Named& expected = cached(key_of(scenario_), [&] {
    return train_unsharded(scenario_.model, w.mask, weights, tokens, labels);
  });
  set_weights(weights, true);
  run();
  for (const auto& [name, slots] : weights) {
    compare_all("grad." + name, expected.at("grad." + name));
  }
  compare_updated(weights, expected);
}

// A model without a vocabulary: its layers between a given input and a given output gradient.
void Proof::layers() {
  const Workload& w = scenario_.workload;
  const bool training = w.phase == Phase::train;
  const Named weights = random_weights(scenario_.model, 100);
  std::vector<Array> x, dy;
  const std::int64_t slots = micro_batches_of(scenario_);
  for (std::int64_t slot = 0; slot < slots; ++slot) {
    const std::vector<std::int64_t> shape{w.micro_batch * scenario_.plan.data, w.sequence_length,
                                          scenario_.model.hidden};
    const auto seed = static_cast<std::uint64_t>(slot);
    x.push_back(random_array(shape, 400 + seed));
    dy.push_back(random_array(shape, 500 + seed));
    run_.set_global("x", slot, x.back());
    if (training) {
      run_.set_global("dy", slot, dy.back());
    }
  }
  const Named& expected = cached(
      key_of(scenario_), [&] { return train_layers(scenario_.model, w.mask, weights, x, dy); });
  set_weights(weights, training);
  run();
  compare_all("y", expected.at("y"));
  if (training) {
    compare_all("dx", expected.at("dx"));
    for (const auto& [name, arrays] : weights) {
      compare_all("grad." + name, expected.at("grad." + name));
    }
    compare_updated(weights, expected);
  }
}

// [b, S, ..] from token `begin` on, `length` of them.
Array tokens_of(const Array& x, std::int64_t begin, std::int64_t length) {
  std::vector<std::int64_t> shape = x.shape;
  shape[1] = length;
  Array part = Array::filled(shape, 0.0);
  const std::int64_t width = x.elements() / (x.size(0) * x.size(1));
  for (std::int64_t b = 0; b < x.size(0); ++b) {
    std::copy_n(x.values.begin() + (b * x.size(1) + begin) * width, length * width,
                part.values.begin() + b * length * width);
  }
  return part;
}

// What the earlier tokens left, on every rank that shares the heads of a Ulysses group.
void Proof::give_cache(const std::string& name, std::int64_t slot, const Array& whole) {
  const std::int64_t kv_heads = scenario_.model.kv_heads / scenario_.plan.tensor;
  const std::int64_t times =
      std::max<std::int64_t>(1, scenario_.plan.context.ulysses / kv_heads);
  const Array before = tokens_of(whole, 0, scenario_.workload.cached_tokens);
  run_.set_global(name + "_cached", slot, repeated(before, times));
}

// Every rank's new keys (or values), which stand behind its cached ones.
void Proof::compare_cache(const std::string& name, std::int64_t slot, const Array& expected) {
  const std::int64_t cached = scenario_.workload.cached_tokens / scenario_.plan.context.ring;
  const auto found = std::find_if(program_.tensors.begin(), program_.tensors.end(),
                                  [&](const Tensor& tensor) { return tensor.name == name; });
  const auto& shards = found->shards;
  for (std::int64_t rank = 0; rank < program_.mesh.ranks(); ++rank) {
    const auto held = found->slot_of_whole(program_.mesh, RankId(rank), slot);
    if (!held) {
      continue;
    }
    const Array& local = run_.local(RankId(rank), name, *held);
    const std::int64_t fresh = local.size(1) - cached;
    const std::int64_t times = scenario_.plan.tensor * scenario_.plan.context.ulysses *
                               local.size(2) / scenario_.model.kv_heads;
    Array want = Array::filled({local.size(0), fresh, local.size(2), local.size(3)}, 0.0);
    std::int64_t at = 0;
    const auto whole = [&](std::size_t dim, std::int64_t size, std::int64_t i) {
      return global_index(program_.mesh, shards[dim], size, RankId(rank), i);
    };
    for (std::int64_t b = 0; b < local.size(0); ++b) {
      for (std::int64_t s = 0; s < fresh; ++s) {
        for (std::int64_t g = 0; g < local.size(2); ++g, at += local.size(3)) {
          const std::int64_t row =
              (whole(0, local.size(0), b) * expected.size(1) +
               scenario_.workload.cached_tokens + whole(1, fresh, s)) * expected.size(2) +
              whole(2, local.size(2), g) / times;
          std::copy_n(expected.values.begin() + row * local.size(3), local.size(3),
                      want.values.begin() + at);
        }
      }
    }
    const double error = relative_error(tokens_of(local, cached, fresh), want);
    ++verdict_.compared;
    if (!(error <= verdict_.error)) {
      verdict_.error = error;
      verdict_.why = name + " slot " + std::to_string(slot);
    }
  }
}

// What a prefill of these tokens, one [b, S], leaves behind.
const Named& Proof::caches_of(const Array& tokens, const Named& weights, std::int64_t micro_batch) {
  return cached(key_of(scenario_) + std::to_string(micro_batch), [&] {
    return train_unsharded(scenario_.model, scenario_.workload.mask, weights, {tokens}, {tokens});
  });
}

void Proof::prefill() {
  const Workload& w = scenario_.workload;
  const Named weights = random_weights(scenario_.model, 100);
  std::vector<Array> tokens;
  for (std::int64_t slot = 0; slot < micro_batches_of(scenario_); ++slot) {
    tokens.push_back(random_ids(
        {w.micro_batch * scenario_.plan.data, w.cached_tokens + w.sequence_length},
        200 + static_cast<std::uint64_t>(slot), scenario_.model.vocab));
    run_.set_global("tokens", slot, tokens_of(tokens.back(), w.cached_tokens, w.sequence_length));
  }
  set_weights(weights, false);
  const auto each_layer = [&](const auto& body) {
    for (std::size_t slot = 0; slot < tokens.size(); ++slot) {
      const auto micro_batch = static_cast<std::int64_t>(slot);
      const Named& expected = caches_of(tokens[slot], weights, micro_batch);
      for (const std::string name : {"k", "v"}) {
        for (std::int64_t layer = 0; layer < scenario_.model.layers; ++layer) {
          body(name, micro_batch * scenario_.model.layers + layer,
               expected.at(name + "_cache")[static_cast<std::size_t>(layer)]);
        }
      }
    }
  };
  if (w.cached_tokens > 0) {
    each_layer([&](const std::string& name, std::int64_t slot, const Array& whole) {
      give_cache(name, slot, whole);
    });
  }
  run();
  each_layer([&](const std::string& name, std::int64_t slot, const Array& whole) {
    w.cached_tokens > 0 ? compare_cache(name + "_cache", slot, whole)
                        : compare(name + "_cache", slot, whole);
  });
}

}  // namespace

double relative_error(const Array& got, const Array& expected) {
  if (got.shape != expected.shape) {
    return std::numeric_limits<double>::infinity();
  }
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < got.values.size(); ++i) {
    largest = std::max(largest, std::abs(expected.values[i]));
    const double here = std::abs(got.values[i] - expected.values[i]);
    if (std::isnan(here)) {
      return std::numeric_limits<double>::infinity();
    }
    difference = std::max(difference, here);
  }
  // Nothing but zeros proves nothing.
  return largest > 0 ? difference / largest : std::numeric_limits<double>::infinity();
}

Verdict prove(const Scenario& scenario, const Program& program, ExecutionOrder order,
              std::uint64_t seed) {
  return Proof(scenario, program, order, seed).verdict();
}

Verdict prove(const Scenario& scenario, ExecutionOrder order, std::uint64_t seed) {
  return prove(scenario, lower(scenario), order, seed);
}

std::string describe(const Scenario& scenario) {
  static constexpr const char* methods[] = {
      "no context parallelism", "ring", "ulysses", "usp", "all-gather", "double ring"};
  static constexpr const char* orders[] = {"contiguous", "zigzag", "striped"};
  static constexpr const char* masks[] = {"causal", "full", "window"};
  static constexpr const char* recomputes[] = {"none", "selective", "full"};
  const Plan& plan = scenario.plan;
  const auto number = [](const char* what, std::int64_t value) {
    return std::string(", ") + what + " " + std::to_string(value);
  };
  return std::string(methods[static_cast<int>(plan.context.method)]) +
         number("ring", plan.context.ring) + number("ulysses", plan.context.ulysses) +
         (plan.context.inner == InnerPlacement::ring ? " (ring inner), " : ", ") +
         orders[static_cast<int>(plan.context.order)] + number("tensor", plan.tensor) +
         (plan.sequence_parallel ? " with SP" : "") + number("data", plan.data) +
         number("zero", plan.zero) + (plan.shard_over_context ? "" : " over data alone") +
         ", recompute " + recomputes[static_cast<int>(plan.recompute)] +
         number("heads", scenario.model.heads) + number("kv heads", scenario.model.kv_heads) +
         number("tokens", scenario.workload.sequence_length) + ", mask " +
         masks[static_cast<int>(scenario.workload.mask.kind)] +
         number("window", scenario.workload.mask.window) +
         number("micro-batches", scenario.micro_batches()) +
         number("experts", scenario.model.experts.count) + number("dealt to", plan.expert) +
         number("each cut in", plan.expert_tensor);
}

}  // namespace longhaul::test
