#include "tests/reference_proofs/oracle.h"

#include <algorithm>
#include <functional>
#include <random>

#include "tests/reference_proofs/tape.h"

namespace longhaul::test {

namespace {

using Reals = std::vector<Real>;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

bool may_see(const MaskSpec& mask, std::int64_t query, std::int64_t key) {
  if (mask.kind == MaskKind::full) {
    return true;
  }
  const bool past = key <= query;
  return mask.kind == MaskKind::causal ? past : past && query - key < mask.window;
}

// One query row: softmax over all visible keys. Returns the log of the sum of exponentials.
Real attend_to_all(const Reals& q, const Reals& k, const Reals& v, std::int64_t d,
                   const std::vector<std::int64_t>& key_rows, std::int64_t query_row, Reals& o) {
  Reals scores;
  double top = -1e300;
  for (const std::int64_t key : key_rows) {
    Real dot;
    for (std::int64_t i = 0; i < d; ++i) {
      dot = dot + q[at(query_row * d + i)] * k[at(key * d + i)];
    }
    scores.push_back(dot * Real(1.0 / std::sqrt(static_cast<double>(d))));
    top = std::max(top, scores.back().value);
  }
  Real sum;
  for (Real& score : scores) {
    score = exp(score - Real(top));
    sum = sum + score;
  }
  const std::int64_t value_d =
      static_cast<std::int64_t>(v.size()) * d / static_cast<std::int64_t>(k.size());
  for (std::int64_t i = 0; i < value_d; ++i) {
    Real mixed;
    for (std::size_t n = 0; n < key_rows.size(); ++n) {
      mixed = mixed + scores[n] / sum * v[at(key_rows[n] * value_d + i)];
    }
    o[at(query_row * value_d + i)] = mixed;
  }
  return log(sum) + Real(top);
}

// One sequence: q, o [S, h, d], k, v [S, g, d], lse [h, S].
void attend_sequence(const Reals& q, const Reals& k, const Reals& v, std::int64_t heads,
                     std::int64_t kv_heads, std::int64_t d, const MaskSpec& mask, Reals& o,
                     Reals& lse) {
  const std::int64_t tokens = static_cast<std::int64_t>(q.size()) / (heads * d);
  o.assign(q.size() * v.size() / k.size(), Real());
  lse.assign(at(heads * tokens), Real());
  for (std::int64_t h = 0; h < heads; ++h) {
    const std::int64_t kv_head = h * kv_heads / heads;
    for (std::int64_t query = 0; query < tokens; ++query) {
      std::vector<std::int64_t> rows;
      for (std::int64_t key = 0; key < tokens; ++key) {
        if (may_see(mask, query, key)) {
          rows.push_back(key * kv_heads + kv_head);
        }
      }
      lse[at(h * tokens + query)] = attend_to_all(q, k, v, d, rows, query * heads + h, o);
    }
  }
}

Reals variables(Tape& tape, const double* values, std::int64_t count) {
  Reals reals;
  reals.reserve(at(count));
  for (std::int64_t i = 0; i < count; ++i) {
    reals.push_back(Real::variable(tape, values[i]));
  }
  return reals;
}

// The b-th of the equal parts along dimension 0.
const double* sequence_of(const Array& array, std::int64_t b) {
  return array.values.data() + b * (array.elements() / array.shape[0]);
}

void put(Array& array, std::int64_t b, const Reals& reals) {
  const std::int64_t each = array.elements() / array.shape[0];
  for (std::int64_t i = 0; i < each; ++i) {
    array.values[at(b * each + i)] = reals[at(i)].value;
  }
}

void put_gradient(Array& array, std::int64_t b, const Reals& of, const std::vector<double>& d) {
  const std::int64_t each = array.elements() / array.shape[0];
  for (std::int64_t i = 0; i < each; ++i) {
    array.values[at(b * each + i)] += d[at(of[at(i)].node)];
  }
}

// rows x k times k x n, all row-major.
Reals times(const Reals& a, const Reals& b, std::int64_t k) {
  const std::int64_t rows = static_cast<std::int64_t>(a.size()) / k;
  const std::int64_t n = static_cast<std::int64_t>(b.size()) / k;
  Reals c(at(rows * n));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < n; ++j) {
      Real sum;
      for (std::int64_t i = 0; i < k; ++i) {
        sum = sum + a[at(r * k + i)] * b[at(i * n + j)];
      }
      c[at(r * n + j)] = sum;
    }
  }
  return c;
}

Reals rms_norm(const Reals& x, const Reals& weight) {
  const std::size_t width = weight.size();
  Reals y(x.size());
  for (std::size_t row = 0; row < x.size(); row += width) {
    Real squares;
    for (std::size_t i = 0; i < width; ++i) {
      squares = squares + x[row + i] * x[row + i];
    }
    const Real root = sqrt(squares / Real(static_cast<double>(width)) + Real(1e-5));
    for (std::size_t i = 0; i < width; ++i) {
      y[row + i] = x[row + i] / root * weight[i];
    }
  }
  return y;
}

// Rotates [S, heads, d] at positions 0..S-1; dimension j turns with j + d/2.
void rotate(Reals& x, std::int64_t heads, std::int64_t d) {
  const std::int64_t vectors = static_cast<std::int64_t>(x.size()) / d;
  for (std::int64_t n = 0; n < vectors; ++n) {
    const auto position = static_cast<double>(n / heads);
    for (std::int64_t j = 0; j < d / 2; ++j) {
      const double angle =
          position / std::pow(10000.0, 2.0 * static_cast<double>(j) / static_cast<double>(d));
      Real& low = x[at(n * d + j)];
      Real& high = x[at(n * d + j + d / 2)];
      const Real turned = low * Real(std::cos(angle)) - high * Real(std::sin(angle));
      high = high * Real(std::cos(angle)) + low * Real(std::sin(angle));
      low = turned;
    }
  }
}

Reals sum_of(const Reals& a, const Reals& b) {
  Reals c(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    c[i] = a[i] + b[i];
  }
  return c;
}

// All weights as variables of one tape, run on one sequence after another.
class Unsharded {
 public:
  Unsharded(const Model& model, const MaskSpec& mask, const Named& weights)
      : model_(model), mask_(mask) {
    for (const auto& [name, layers] : weights) {
      for (const Array& array : layers) {
        weights_[name].push_back(variables(tape_, array.values.data(), array.elements()));
      }
    }
  }
  Tape& tape() { return tape_; }
  const Reals& weight(const std::string& name, std::int64_t layer = 0) {
    return weights_.at(name).at(at(layer));
  }
  const Reals& head() { return weight(model_.tied_embeddings ? "embedding" : "head"); }

  Reals layers(Reals x) {
    for (std::int64_t layer = 0; layer < model_.layers; ++layer) {
      x = sum_of(x, attention(rms_norm(x, weight("norm_attention", layer)), layer));
      const Reals normed = rms_norm(x, weight("norm_mlp", layer));
      x = sum_of(x, is_expert_layer(model_, layer) ? mixture(normed, layer) : mlp(normed, layer));
    }
    return x;
  }
  // Mean-free sum of the tokens' cross entropies.
  Real loss(const Reals& hidden, const double* labels);
  void add_gradients(const std::vector<double>& d, Named& result) const {
    for (const auto& [name, layers] : weights_) {
      for (std::size_t layer = 0; layer < layers.size(); ++layer) {
        for (std::size_t i = 0; i < layers[layer].size(); ++i) {
          result.at("grad." + name)[layer].values[i] += d[at(layers[layer][i].node)];
        }
      }
    }
  }
  std::vector<Reals> keys, values;  ///< by layer, [S, g, d]
  std::int64_t sequence = 0;        ///< which of the micro-batch: experts are chosen by token

 private:
  Reals attention(const Reals& x, std::int64_t layer);
  Reals latent_attention(const Reals& x, std::int64_t layer);
  Reals mlp(const Reals& x, std::int64_t layer);
  Reals mixture(const Reals& x, std::int64_t layer);
  // Weights of one kind of layers are numbered among those layers.
  [[nodiscard]] std::int64_t number(std::int64_t layer) const {
    std::int64_t before = 0;
    for (std::int64_t i = 0; i < layer; ++i) {
      before += is_expert_layer(model_, i) == is_expert_layer(model_, layer) ? 1 : 0;
    }
    return before;
  }
  const Model& model_;
  MaskSpec mask_;
  Tape tape_;
  std::map<std::string, std::vector<Reals>> weights_;
};

// Latent vectors from x, normed; per head a query of n + r channels, a key of n of its own and r
// that all heads share, a value. The r channels are rotated.
Reals Unsharded::latent_attention(const Reals& x, std::int64_t layer) {
  const LatentAttention& latent = model_.latent;
  const std::int64_t n = latent.nope_dim, r = latent.rope_dim, v_dim = latent.value_dim;
  const std::int64_t h = model_.heads, m = model_.hidden, rank = latent.kv_rank;
  Reals from = x;
  if (latent.q_rank > 0) {
    from = rms_norm(times(x, weight("w_q_down", layer), m), weight("norm_q", layer));
  }
  const Reals q_flat =
      times(from, weight("w_q_up", layer), latent.q_rank > 0 ? latent.q_rank : m);
  const Reals down = times(x, weight("w_kv_down", layer), m);
  const std::int64_t length = static_cast<std::int64_t>(x.size()) / m;
  Reals c, k_rope, q_rope;
  for (std::int64_t s = 0; s < length; ++s) {
    for (std::int64_t i = 0; i < rank + r; ++i) {
      (i < rank ? c : k_rope).push_back(down[at(s * (rank + r) + i)]);
    }
  }
  for (std::size_t i = 0; i < q_flat.size(); ++i) {
    if (static_cast<std::int64_t>(i) % (n + r) >= n) {
      q_rope.push_back(q_flat[i]);
    }
  }
  rotate(k_rope, 1, r);
  rotate(q_rope, h, r);
  const Reals kv = times(rms_norm(c, weight("norm_kv", layer)), weight("w_kv_up", layer), rank);
  Reals q, k, v;
  for (std::int64_t row = 0; row < length * h; ++row) {
    for (std::int64_t i = 0; i < n + r; ++i) {
      q.push_back(i < n ? q_flat[at(row * (n + r) + i)] : q_rope[at(row * r + i - n)]);
      k.push_back(i < n ? kv[at(row * (n + v_dim) + i)] : k_rope[at(row / h * r + i - n)]);
    }
    for (std::int64_t i = 0; i < v_dim; ++i) {
      v.push_back(kv[at(row * (n + v_dim) + n + i)]);
    }
  }
  Reals o, lse;
  attend_sequence(q, k, v, h, h, n + r, mask_, o, lse);
  keys.push_back(k);
  values.push_back(v);
  return times(o, weight("w_o", layer), h * v_dim);
}

Reals Unsharded::attention(const Reals& x, std::int64_t layer) {
  if (has_latent_attention(model_)) {
    return latent_attention(x, layer);
  }
  const std::int64_t d = model_.head_dim, g = model_.kv_heads, h = model_.heads;
  const std::int64_t group = h / g + 2;
  const Reals qkv = times(x, weight("w_qkv", layer), model_.hidden);
  Reals q, k, v;
  for (std::size_t i = 0; i < qkv.size(); ++i) {
    const auto place = static_cast<std::int64_t>(i) / d % group;
    Reals& goes_to = place < group - 2 ? q : place == group - 2 ? k : v;
    goes_to.push_back(qkv[i]);
  }
  if (model_.positions == PositionEmbedding::rope) {
    rotate(q, h, d);
    rotate(k, g, d);
  }
  Reals o, lse;
  attend_sequence(q, k, v, h, g, d, mask_, o, lse);
  keys.push_back(k);
  values.push_back(v);
  return times(o, weight("w_o", layer), h * d);
}

// silu(gate) * up of gate and up side by side.
Reals gated(const Reals& up) {
  Reals active;
  for (std::size_t i = 0; i < up.size(); i += 2) {
    active.push_back(up[i] / (Real(1) + exp(Real(0) - up[i])) * up[i + 1]);
  }
  return active;
}

Reals part(const Reals& whole, std::int64_t index, std::int64_t size) {
  return {whole.begin() + index * size, whole.begin() + (index + 1) * size};
}

// Token by token and expert by expert, weighed by a softmax over the chosen experts' affinities.
// Token t of the micro-batch passes the experts (t k + floor(t k / e) + j) mod e; with n / l sets of l
// neighbouring groups the same of those in set (t + floor(t l / n)) mod n / l, counting its tokens.
Reals Unsharded::mixture(const Reals& x, std::int64_t layer) {
  const Experts& experts = model_.experts;
  const std::int64_t m = model_.hidden, f = experts.ffn, place = number(layer);
  const std::int64_t length = static_cast<std::int64_t>(x.size()) / m;
  Reals y;
  for (std::int64_t s = 0; s < length; ++s) {
    const Reals token = part(x, s, m);
    const Reals affinity = times(token, weight("w_router", place), m);
    const std::int64_t sets = experts.groups / experts.group_limit;
    const std::int64_t in_set = experts.count / sets;
    const std::int64_t number_of_token = sequence * length + s;
    const std::int64_t set = (number_of_token + number_of_token / sets) % sets;
    const std::int64_t start = number_of_token / sets * experts.per_token;
    std::vector<std::int64_t> chosen;
    Real sum;
    for (std::int64_t j = 0; j < experts.per_token; ++j) {
      chosen.push_back(set * in_set + (start + start / in_set + j) % in_set);
      sum = sum + exp(affinity[at(chosen.back())]);
    }
    Reals out(at(m));
    for (const std::int64_t expert : chosen) {
      const Reals active =
          gated(times(token, part(weight("w_expert_gate_up", place), expert, m * f * 2), m));
      const Reals down = times(active, part(weight("w_expert_down", place), expert, f * m), f);
      const Real share = exp(affinity[at(expert)]) / sum;
      for (std::int64_t i = 0; i < m; ++i) {
        out[at(i)] = out[at(i)] + down[at(i)] * share;
      }
    }
    y.insert(y.end(), out.begin(), out.end());
  }
  if (experts.shared_ffn > 0) {
    y = sum_of(y, times(gated(times(x, weight("w_shared_gate_up", place), m)),
                        weight("w_shared_down", place), experts.shared_ffn));
  }
  return y;
}

Reals Unsharded::mlp(const Reals& x, std::int64_t all_layer) {
  const std::int64_t layer = number(all_layer);
  Reals active;
  if (model_.gated_mlp) {
    active = gated(times(x, weight("w_gate_up", layer), model_.hidden));
  } else {
    for (const Real& up : times(x, weight("w_up", layer), model_.hidden)) {
      active.push_back(up * normal_cdf(up));
    }
  }
  return times(active, weight("w_down", layer), model_.ffn);
}

Real Unsharded::loss(const Reals& hidden, const double* labels) {
  const Reals x = rms_norm(hidden, weight("norm_final"));
  const std::int64_t m = model_.hidden;
  const std::int64_t tokens = static_cast<std::int64_t>(x.size()) / m;
  Real total;
  for (std::int64_t t = 0; t < tokens; ++t) {
    Real sum, of_label;
    for (std::int64_t word = 0; word < model_.vocab; ++word) {
      Real logit;
      for (std::int64_t i = 0; i < m; ++i) {
        logit = logit + x[at(t * m + i)] * head()[at(word * m + i)];
      }
      sum = sum + exp(logit);
      of_label = word == std::llround(labels[t]) ? logit : of_label;
    }
    total = total + log(sum) - of_label;
  }
  return total;
}

// Every sequence of every micro-batch, on a tape of its own.
void each_sequence(const std::vector<Array>& micro_batches,
                   const std::function<void(std::size_t slot, std::int64_t sequence)>& body) {
  for (std::size_t slot = 0; slot < micro_batches.size(); ++slot) {
    for (std::int64_t b = 0; b < micro_batches[slot].shape[0]; ++b) {
      body(slot, b);
    }
  }
}

Named zero_gradients(const Named& weights) {
  Named result;
  for (const auto& [name, layers] : weights) {
    for (const Array& array : layers) {
      result["grad." + name].push_back(Array::filled(array.shape, 0.0));
    }
  }
  return result;
}

Reals embed(Unsharded& model, const double* tokens, std::int64_t count, std::int64_t width) {
  Reals x;
  for (std::int64_t t = 0; t < count; ++t) {
    const std::int64_t row = std::llround(tokens[t]);
    for (std::int64_t i = 0; i < width; ++i) {
      x.push_back(model.weight("embedding")[at(row * width + i)]);
    }
  }
  return x;
}

}  // namespace

Array random_array(std::vector<std::int64_t> shape, std::uint64_t seed, double size,
                   double offset) {
  std::mt19937_64 bits(seed);
  Array array = Array::filled(std::move(shape), 0.0);
  for (double& value : array.values) {
    value = offset + size * (static_cast<double>(bits() >> 11) * 0x1p-52 - 1.0);
  }
  return array;
}

Array random_ids(std::vector<std::int64_t> shape, std::uint64_t seed, std::int64_t below) {
  std::mt19937_64 bits(seed);
  Array array = Array::filled(std::move(shape), 0.0);
  for (double& value : array.values) {
    value = static_cast<double>(bits() % static_cast<std::uint64_t>(below));
  }
  return array;
}

Named dense_attention(const Array& q, const Array& k, const Array& v, const Array& d_o,
                      const MaskSpec& mask) {
  const std::int64_t tokens = q.shape[1], heads = q.shape[2], d = q.shape[3];
  Named result{{"o", {Array::filled(q.shape, 0)}},
               {"lse", {Array::filled({q.shape[0], heads, tokens}, 0)}},
               {"dq", {Array::filled(q.shape, 0)}},
               {"dk", {Array::filled(k.shape, 0)}},
               {"dv", {Array::filled(v.shape, 0)}}};
  for (std::int64_t b = 0; b < q.shape[0]; ++b) {
    Tape tape;
    const Reals qs = variables(tape, sequence_of(q, b), tokens * heads * d);
    const Reals ks = variables(tape, sequence_of(k, b), tokens * k.shape[2] * d);
    const Reals vs = variables(tape, sequence_of(v, b), tokens * k.shape[2] * d);
    Reals o, lse;
    attend_sequence(qs, ks, vs, heads, k.shape[2], d, mask, o, lse);
    std::vector<double> seeds(tape.size(), 0.0);
    for (std::size_t i = 0; i < o.size(); ++i) {
      seeds[at(o[i].node)] += sequence_of(d_o, b)[i];
    }
    const std::vector<double> gradient = tape.backward(std::move(seeds));
    put(result["o"][0], b, o);
    put(result["lse"][0], b, lse);
    put_gradient(result["dq"][0], b, qs, gradient);
    put_gradient(result["dk"][0], b, ks, gradient);
    put_gradient(result["dv"][0], b, vs, gradient);
  }
  return result;
}

Named random_weights(const Model& model, std::uint64_t seed) {
  const std::int64_t m = model.hidden, d = model.head_dim, f = model.ffn;
  Named weights;
  for (std::int64_t layer = 0; layer < model.layers; ++layer) {
    const auto add = [&](const char* name, std::vector<std::int64_t> shape, double size,
                         double offset = 0) {
      weights[name].push_back(random_array(std::move(shape), ++seed, size, offset));
    };
    add("norm_attention", {m}, 0.3, 1);
    const LatentAttention& latent = model.latent;
    if (has_latent_attention(model)) {
      const std::int64_t from = latent.q_rank > 0 ? latent.q_rank : m;
      if (latent.q_rank > 0) {
        add("w_q_down", {m, latent.q_rank}, 0.4);
        add("norm_q", {latent.q_rank}, 0.3, 1);
      }
      add("w_q_up", {from, model.heads, d}, 0.4);
      add("w_kv_down", {m, latent.kv_rank + latent.rope_dim}, 0.4);
      add("norm_kv", {latent.kv_rank}, 0.3, 1);
      add("w_kv_up", {latent.kv_rank, model.heads, latent.nope_dim + latent.value_dim}, 0.4);
    } else {
      add("w_qkv", {m, model.kv_heads, model.heads / model.kv_heads + 2, d}, 0.4);
    }
    add("w_o", {model.heads, value_dim(model), m}, 0.3);
    add("norm_mlp", {m}, 0.3, 1);
    if (is_expert_layer(model, layer)) {
      const Experts& experts = model.experts;
      add("w_router", {m, experts.count}, 0.4);
      add("w_expert_gate_up", {experts.count, m, experts.ffn, 2}, 0.4);
      add("w_expert_down", {experts.count, experts.ffn, m}, 0.3);
      if (experts.shared_ffn > 0) {
        add("w_shared_gate_up", {m, experts.shared_ffn, 2}, 0.4);
        add("w_shared_down", {experts.shared_ffn, m}, 0.3);
      }
      continue;
    }
    model.gated_mlp ? add("w_gate_up", {m, f, 2}, 0.4) : add("w_up", {m, f}, 0.4);
    add("w_down", {f, m}, 0.3);
  }
  if (model.vocab > 0) {
    weights["embedding"].push_back(random_array({model.vocab, m}, ++seed));
    weights["norm_final"].push_back(random_array({m}, ++seed, 0.3, 1));
    if (!model.tied_embeddings) {
      weights["head"].push_back(random_array({model.vocab, m}, ++seed, 0.5));
    }
  }
  return weights;
}

Named train_unsharded(const Model& model, const MaskSpec& mask, const Named& weights,
                      const std::vector<Array>& tokens, const std::vector<Array>& labels) {
  Named result = zero_gradients(weights);
  Array& loss = result["loss"].emplace_back(Array::filled({1}, 0.0));
  const std::int64_t length = tokens[0].shape[1];
  const std::vector<std::int64_t> cache_shape{tokens[0].shape[0], length, model.kv_heads,
                                              model.head_dim};
  for (const char* name : {"k_cache", "v_cache"}) {
    result[name].assign(at(model.layers), Array::filled(cache_shape, 0.0));
  }
  double all_tokens = 0;
  for (const Array& micro_batch : tokens) {
    all_tokens += static_cast<double>(micro_batch.elements());
  }
  each_sequence(tokens, [&](std::size_t slot, std::int64_t b) {
    Unsharded run(model, mask, weights);
    run.sequence = b;
    const Reals x = run.layers(embed(run, sequence_of(tokens[slot], b), length, model.hidden));
    const Real total = run.loss(x, sequence_of(labels[slot], b));
    loss.values[0] += total.value / all_tokens;
    for (std::int64_t layer = 0; layer < model.layers; ++layer) {
      put(result["k_cache"][at(layer)], b, run.keys[at(layer)]);
      put(result["v_cache"][at(layer)], b, run.values[at(layer)]);
    }
    std::vector<double> seeds(run.tape().size(), 0.0);
    seeds[at(total.node)] = 1.0 / all_tokens;
    run.add_gradients(run.tape().backward(std::move(seeds)), result);
  });
  return result;
}

Named train_layers(const Model& model, const MaskSpec& mask, const Named& weights,
                   const std::vector<Array>& x, const std::vector<Array>& dy) {
  Named result = zero_gradients(weights);
  for (const Array& micro_batch : x) {
    result["y"].push_back(Array::filled(micro_batch.shape, 0.0));
    result["dx"].push_back(Array::filled(micro_batch.shape, 0.0));
  }
  each_sequence(x, [&](std::size_t slot, std::int64_t b) {
    Unsharded run(model, mask, weights);
    run.sequence = b;
    const std::int64_t size = x[slot].elements() / x[slot].shape[0];
    const Reals in = variables(run.tape(), sequence_of(x[slot], b), size);
    const Reals out = run.layers(in);
    put(result["y"][slot], b, out);
    std::vector<double> seeds(run.tape().size(), 0.0);
    for (std::size_t i = 0; i < out.size(); ++i) {
      seeds[at(out[i].node)] += sequence_of(dy[slot], b)[i];
    }
    const std::vector<double> gradient = run.tape().backward(std::move(seeds));
    put_gradient(result["dx"][slot], b, in, gradient);
    run.add_gradients(gradient, result);
  });
  return result;
}

}  // namespace longhaul::test
