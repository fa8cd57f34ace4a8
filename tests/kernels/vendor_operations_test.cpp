// The operations that stand for attention at cuDNN, carried out one by one: they are attention.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "kernels/common/random_inputs.h"
#include "kernels/flash_attention/reference.h"
#include "kernels/vendor/attention_operations.h"
#include "kernels/vendor/cudnn_error.h"

namespace longhaul::kernels::vendor {

namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::WithinAbs;
using flash::AttentionInputs;
using flash::AttentionShape;
using flash::MaskSpec;

// The four indices of an element.
struct Element4 {
  std::int64_t batch, head, row, column;
};

// Every tensor as doubles at its strides, nothing rounded; what nobody wrote is NaN.
class Machine {
 public:
  explicit Machine(const AttentionOperations& attention) : attention_(attention) {
    for (const OperandTensor& tensor : attention.tensors) {
      std::int64_t last = 0;
      for (int i = 0; i < 4; ++i) last += (tensor.sizes[i] - 1) * tensor.strides[i];
      values_.emplace_back(last + 1, std::numeric_limits<double>::quiet_NaN());
      if (tensor.value) values_.back()[0] = number(tensor);
    }
  }

  void load(std::size_t place, const std::vector<Bfloat16>& from) {
    REQUIRE(values_[place].size() == from.size());
    std::transform(from.begin(), from.end(), values_[place].begin(), to_float);
  }

  void run() {
    for (const Operation& operation : attention_.operations) {
      const auto& sizes = attention_.tensors[operation.y].sizes;
      for (std::int64_t b = 0; b < sizes[0]; ++b) {
        for (std::int64_t h = 0; h < sizes[1]; ++h) {
          for (std::int64_t r = 0; r < sizes[2]; ++r) {
            for (std::int64_t c = 0; c < sizes[3]; ++c) {
              at(operation.y, {b, h, r, c}) = result(operation, {b, h, r, c});
            }
          }
        }
      }
    }
  }

  const std::vector<double>& values(std::size_t place) const { return values_[place]; }

 private:
  static double number(const OperandTensor& tensor) {
    if (tensor.element == Element::int32) return std::bit_cast<std::int32_t>(*tensor.value);
    return std::bit_cast<float>(*tensor.value);
  }

  double& at(std::size_t place, const Element4& element) {
    const auto& strides = attention_.tensors[place].strides;
    return values_[place][element.batch * strides[0] + element.head * strides[1] +
                          element.row * strides[2] + element.column * strides[3]];
  }

  // An operand's value for an element of the result: a size of 1 stands for any, fewer heads are
  // shared by neighbours.
  double operand(std::size_t place, const Element4& element, std::int64_t heads) {
    const auto& sizes = attention_.tensors[place].sizes;
    return at(place, {sizes[0] == 1 ? 0 : element.batch, element.head / (heads / sizes[1]),
                      sizes[2] == 1 ? 0 : element.row, sizes[3] == 1 ? 0 : element.column});
  }

  double over_columns(const Operation& operation, const Element4& element) {
    const std::int64_t columns = attention_.tensors[operation.x].sizes[3];
    const bool maximum = operation.action == Action::row_maximum;
    double found = maximum ? -std::numeric_limits<double>::infinity() : 0;
    for (std::int64_t c = 0; c < columns; ++c) {
      const double value = at(operation.x, {element.batch, element.head, element.row, c});
      found = maximum ? std::max(found, value) : found + value;
    }
    return found;
  }

  double product(const Operation& operation, const Element4& element, std::int64_t heads) {
    double sum = 0;
    for (std::int64_t i = 0; i < attention_.tensors[operation.x].sizes[3]; ++i) {
      sum += at(operation.x, {element.batch, element.head, element.row, i}) *
             operand(*operation.b, {element.batch, element.head, i, element.column}, heads);
    }
    return sum;
  }

  double result(const Operation& operation, const Element4& element) {
    const std::int64_t heads = attention_.tensors[operation.y].sizes[1];
    const auto x = [&] { return operand(operation.x, element, heads); };
    const auto b = [&] { return operand(operation.b.value(), element, heads); };
    switch (operation.action) {
      case Action::product: return product(operation, element, heads);
      case Action::row_maximum:
      case Action::row_sum: return over_columns(operation, element);
      case Action::multiply: return x() * b();
      case Action::add: return x() + b();
      case Action::subtract: return x() - b();
      case Action::divide: return x() / b();
      case Action::exponential: return std::exp(x());
      case Action::logarithm: return std::log(x());
      case Action::row_index: return static_cast<double>(element.row);
      case Action::column_index: return static_cast<double>(element.column);
      case Action::at_least: return x() >= b() ? 1 : 0;
      case Action::greater: return x() > b() ? 1 : 0;
      case Action::select: return operand(operation.where.value(), element, heads) != 0 ? x() : b();
    }
    return std::numeric_limits<double>::quiet_NaN();
  }

  const AttentionOperations& attention_;
  std::vector<std::vector<double>> values_;
};

AttentionInputs random_inputs(const MaskSpec& mask, int q_len, int kv_len) {
  AttentionInputs inputs;
  inputs.shape.head_dim = 64;
  inputs.shape.batch = 2;
  inputs.shape.heads = 4;
  inputs.shape.kv_heads = 2;
  inputs.shape.q_len = q_len;
  inputs.shape.kv_len = kv_len;
  inputs.shape.scale = 0.125f;
  inputs.shape.mask = mask;
  const std::size_t keys = 2 * 2 * 64 * static_cast<std::size_t>(kv_len);
  inputs.q = random_bfloat16(2 * 4 * 64 * static_cast<std::size_t>(q_len), 1);
  inputs.k = random_bfloat16(keys, 2);
  inputs.v = random_bfloat16(keys, 3);
  return inputs;
}

// O and LSE of every row against attention in double precision.
void check_rows(const AttentionInputs& inputs, const Machine& machine) {
  const AttentionShape& shape = inputs.shape;
  for (int batch = 0; batch < shape.batch; ++batch) {
    for (int head = 0; head < shape.heads; ++head) {
      for (int row = 0; row < shape.q_len; ++row) {
        INFO("batch " << batch << " head " << head << " row " << row);
        const flash::AttentionRow expected = flash::attention_row(inputs, batch, head, row);
        const auto lse = machine.values(lse_place)[flash::lse_place(shape, batch, head, row)];
        CHECK_THAT(lse, WithinAbs(expected.lse, 1e-9));
        const auto first = flash::output_place(shape, batch, head, row) * shape.head_dim;
        int wrong = 0;
        for (int i = 0; i < shape.head_dim; ++i) {
          const double off = std::abs(machine.values(o_place)[first + i] - expected.o[i]);
          if (!(off < 1e-9)) ++wrong;  // a NaN too
        }
        CHECK(wrong == 0);
      }
    }
  }
}

}  // namespace

TEST_CASE("the operations handed to cuDNN compute attention under every mask that they have") {
  struct Case {
    std::string name;
    MaskSpec mask;
    int q_len, kv_len;
    std::size_t operations;
  };
  const auto tried = GENERATE(values<Case>({
      {"full", flash::full_mask(), 9, 13, 10},
      {"causal, square", flash::causal_mask(), 11, 11, 14},
      {"causal from the top left of a wide rectangle", flash::diagonal_mask(0), 7, 12, 14},
      {"causal from the top left of a tall rectangle", flash::diagonal_mask(0), 12, 7, 14},
      {"causal from the bottom right", flash::causal_mask(), 7, 12, 16},
      {"window, square", flash::window_mask(3), 11, 11, 19},
      {"window of the row's own key", flash::window_mask(0), 11, 11, 19},
      {"window from the bottom right", flash::window_mask(3), 7, 12, 21},
  }));
  INFO(tried.name);
  const AttentionInputs inputs = random_inputs(tried.mask, tried.q_len, tried.kv_len);
  const AttentionOperations attention = attention_operations(inputs.shape);
  CHECK(attention.operations.size() == tried.operations);
  Machine machine(attention);
  machine.load(q_place, inputs.q);
  machine.load(k_place, inputs.k);
  machine.load(v_place, inputs.v);
  machine.run();
  check_rows(inputs, machine);
}

TEST_CASE("a call that there is no pattern of cuDNN for is refused by name") {
  const auto refused = [](const AttentionShape& shape, const std::string& why) {
    CHECK_THROWS_AS(attention_operations(shape), CudnnUnsupported);
    CHECK_THROWS_WITH(attention_operations(shape), Contains(why));
  };
  const auto square = [](const MaskSpec& mask) { return random_inputs(mask, 8, 8).shape; };
  refused(square(flash::zigzag_mask(1, 0)), "halves of a zigzag");
  refused(square(flash::zigzag_mask(0, 1)), "halves of a zigzag");
  refused(square(flash::striped_mask(0, 1, 2)), "a diagonal that starts beside a corner");
  MaskSpec two_sided = flash::window_mask(3);
  two_sided.above = flash::unlimited;
  refused(square(two_sided), "a window that is not causal");
  AttentionShape varying = square(flash::causal_mask());
  varying.batch = 1;
  varying.sequences = {{0, 8, 0, 8}};
  refused(varying, "varying lengths");
}

}  // namespace longhaul::kernels::vendor
