#include "kernels/vendor/attention_operations.h"

#include <bit>
#include <limits>
#include <utility>

#include "kernels/vendor/cudnn_error.h"

namespace longhaul::kernels::vendor {

namespace {

using Sizes = std::vector<std::int64_t>;
using Place = std::size_t;

struct Layout {
  Sizes sizes;
  Sizes strides;
};

// Row-major.
Layout packed(const Sizes& sizes) {
  Sizes strides(sizes.size(), 1);
  for (std::size_t i = sizes.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * sizes[i];
  return {sizes, strides};
}

// [batch, rows, heads, columns] in memory, as [batch, heads, rows, columns].
Layout rows_of_heads(const flash::AttentionShape& shape, int rows, int heads) {
  const std::int64_t r = rows;
  const std::int64_t h = heads;
  const std::int64_t d = shape.head_dim;
  return {{shape.batch, h, r, d}, {r * h * d, d, h * d, 1}};
}

Layout transposed(Layout layout) {
  std::swap(layout.sizes[2], layout.sizes[3]);
  std::swap(layout.strides[2], layout.strides[3]);
  return layout;
}

// Why there is no pattern here for a call, or "".
std::string why_not(const flash::AttentionShape& shape) {
  const flash::MaskSpec& mask = shape.mask;
  if (!shape.sequences.empty()) return "varying lengths";
  if (mask.rows != flash::Rows::all || mask.keys != flash::Keys::all) return "halves of a zigzag";
  const bool causal = mask.above == 0;
  if (!causal && mask.above < flash::unlimited) return "a diagonal that starts beside a corner";
  const bool window = mask.below < flash::unlimited;
  if (window && (!causal || mask.below < 0)) return "a window that is not causal";
  return "";
}

class Builder {
 public:
  explicit Builder(const flash::AttentionShape& shape) : shape_(shape) {}

  AttentionOperations build() {
    const Layout queries = rows_of_heads(shape_, shape_.q_len, shape_.heads);
    const Layout keys = rows_of_heads(shape_, shape_.kv_len, shape_.kv_heads);
    memory("q", Element::bf16, queries);
    memory("k", Element::bf16, transposed(keys));
    memory("v", Element::bf16, keys);
    memory("o", Element::bf16, queries);
    memory("lse", Element::fp32, packed(rows()));
    const Place products = add(Action::product, "q k", scores(), Element::fp32, q_place, k_place);
    const Place scale = number("scale", shape_.scale);
    const Place scaled = on_scores(Action::multiply, "scaled scores", products, scale);
    put({Action::product, softmax(masked(scaled)), v_place, {}, o_place});
    return std::move(built_);
  }

 private:
  Sizes scores() const { return {shape_.batch, shape_.heads, shape_.q_len, shape_.kv_len}; }
  Sizes rows() const { return {shape_.batch, shape_.heads, shape_.q_len, 1}; }

  Place keep(OperandTensor tensor) {
    built_.tensors.push_back(std::move(tensor));
    return built_.tensors.size() - 1;
  }

  void memory(const std::string& name, Element element, const Layout& layout) {
    keep({name, element, layout.sizes, layout.strides, true, {}});
  }

  Place by_value(const std::string& name, Element element, std::uint32_t bits) {
    const Layout one = packed({1, 1, 1, 1});
    return keep({name, element, one.sizes, one.strides, false, bits});
  }
  Place number(const std::string& name, float value) {
    return by_value(name, Element::fp32, std::bit_cast<std::uint32_t>(value));
  }
  Place number(const std::string& name, int value) {
    return by_value(name, Element::int32, std::bit_cast<std::uint32_t>(value));
  }

  void put(const Operation& operation) { built_.operations.push_back(operation); }

  // An operation with a result of its own.
  Place add(Action action, const std::string& name, const Sizes& sizes, Element element, Place x,
            std::optional<Place> b = {}, std::optional<Place> where = {}) {
    const Layout layout = packed(sizes);
    const Place y = keep({name, element, layout.sizes, layout.strides, false, {}});
    put({action, x, b, where, y});
    return y;
  }

  Place on_scores(Action action, const std::string& name, Place x, std::optional<Place> b = {},
                  std::optional<Place> where = {}) {
    return add(action, name, scores(), Element::fp32, x, b, where);
  }

  Place index(Action action, const std::string& name, Place x, std::optional<Place> b = {}) {
    return add(action, name, scores(), Element::int32, x, b);
  }

  // Scores where a compares so with b, elsewhere the least float: -inf would make a row without
  // keys NaN.
  Place kept_where(Action comparison, const std::string& name, Place a, Place b, Place score) {
    const Place where = add(comparison, "where " + name, scores(), Element::boolean, a, b);
    const Place least = number("outside " + name, std::numeric_limits<float>::lowest());
    return on_scores(Action::select, name, score, least, where);
  }

  Place masked(Place score) {
    if (shape_.mask.above >= flash::unlimited) return score;
    const bool shifts = shape_.mask.from_bottom_right && shape_.q_len != shape_.kv_len;
    Place row = index(Action::row_index, "row", score);
    const Place column = index(Action::column_index, "column", score);
    if (shifts) {
      row = index(Action::add, "row + keys", row, number("keys", shape_.kv_len));
      row = index(Action::subtract, "row + keys - rows", row, number("rows", shape_.q_len));
    }
    const Place causal = kept_where(Action::at_least, "causal scores", row, column, score);
    if (shape_.mask.below >= flash::unlimited) return causal;
    return windowed(causal, shape_.mask.below + 1 - (shifts ? shape_.kv_len - shape_.q_len : 0));
  }

  // Row i sees column j where j + reach > i; the sum in fp32, as the pattern has it.
  Place windowed(Place score, int reach) {
    const Place row = index(Action::row_index, "row again", score);
    const Place column = index(Action::column_index, "column again", score);
    const Place amount = number("reach", static_cast<float>(reach));
    const Place reached = on_scores(Action::add, "column + reach", column, amount);
    return kept_where(Action::greater, "scores in the window", reached, row, score);
  }

  // P; LSE on the way.
  Place softmax(Place score) {
    const Place most = add(Action::row_maximum, "row maximum", rows(), Element::fp32, score);
    const Place below = on_scores(Action::subtract, "score - maximum", score, most);
    const Place weight = on_scores(Action::exponential, "weight", below);
    const Place sum = add(Action::row_sum, "row sum", rows(), Element::fp32, weight);
    const Place log = add(Action::logarithm, "log of the sum", rows(), Element::fp32, sum);
    put({Action::add, most, log, {}, lse_place});
    return add(Action::divide, "p", scores(), Element::bf16, weight, sum);
  }

  const flash::AttentionShape& shape_;
  AttentionOperations built_;
};

}  // namespace

AttentionOperations attention_operations(const flash::AttentionShape& shape) {
  flash::check_shape(shape);
  const std::string reason = why_not(shape);
  if (!reason.empty()) throw CudnnUnsupported("no graph of cuDNN here for " + reason);
  return Builder(shape).build();
}

}  // namespace longhaul::kernels::vendor
