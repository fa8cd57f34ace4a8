#include "kernels/flash_attention/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace longhaul::kernels::flash {

namespace {

// Element of [rows, heads, head_dim].
std::size_t element(const AttentionInputs& inputs, long long row, int heads, int head) {
  return static_cast<std::size_t>((row * heads + head) * inputs.shape.head_dim);
}

double score(const AttentionInputs& inputs, std::size_t query, std::size_t key) {
  double sum = 0;
  for (int d = 0; d < inputs.shape.head_dim; ++d) {
    sum += static_cast<double>(to_float(inputs.q[query + d])) *
           static_cast<double>(to_float(inputs.k[key + d]));
  }
  return sum * inputs.shape.scale;
}

}  // namespace

AttentionRow attention_row(const AttentionInputs& inputs, int sequence, int head, int row) {
  const Sequence lengths = all_sequences(inputs.shape)[sequence];
  const Mask mask = resolve(inputs.shape.mask, lengths.q_len, lengths.kv_len);
  const KeyInterval keys = keys_of_row(mask, row);
  const int kv_head = head / (inputs.shape.heads / inputs.shape.kv_heads);
  const std::size_t query = element(inputs, lengths.q_begin + row, inputs.shape.heads, head);
  const auto key_at = [&](int key) {
    return element(inputs, lengths.kv_begin + key, inputs.shape.kv_heads, kv_head);
  };
  AttentionRow result{std::vector<double>(inputs.shape.head_dim, 0.0),
                      -std::numeric_limits<double>::infinity()};
  if (keys.begin >= keys.end) return result;
  std::vector<double> scores;
  for (int key = keys.begin; key < keys.end; ++key) {
    scores.push_back(score(inputs, query, key_at(key)));
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (const double s : scores) total += std::exp(s - top);
  for (int key = keys.begin; key < keys.end; ++key) {
    const double weight = std::exp(scores[key - keys.begin] - top) / total;
    const std::size_t value = key_at(key);
    for (int d = 0; d < inputs.shape.head_dim; ++d) {
      result.o[d] += weight * static_cast<double>(to_float(inputs.v[value + d]));
    }
  }
  result.lse = top + std::log(total);
  return result;
}

long long lse_place(const AttentionShape& shape, int sequence, int head, int row) {
  if (shape.sequences.empty()) {
    return (static_cast<long long>(sequence) * shape.heads + head) * shape.q_len + row;
  }
  return static_cast<long long>(head) * shape.q_len + shape.sequences[sequence].q_begin + row;
}

long long output_place(const AttentionShape& shape, int sequence, int head, int row) {
  const long long first = all_sequences(shape)[sequence].q_begin;
  return (first + row) * shape.heads + head;
}

}  // namespace longhaul::kernels::flash
