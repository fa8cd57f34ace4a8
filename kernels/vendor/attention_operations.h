#pragma once
// A forward call of attention as the operations by which cuDNN's engines know it: plain data,
// without cuDNN, so that tests can carry it out.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/flash_attention/problem.h"

namespace longhaul::kernels::vendor {

enum class Element { bf16, fp32, int32, boolean };

/// Memory of the caller, a number given by value, or what passes from operation to operation and is
/// never in memory. Sizes are [batch, heads, rows, columns], strides in elements.
struct OperandTensor {
  std::string name;
  Element element = Element::fp32;
  std::vector<std::int64_t> sizes;
  std::vector<std::int64_t> strides;
  bool in_memory = false;
  std::optional<std::uint32_t> value;  // the bits of a float or an int32
};

enum class Action {
  product,      // y = x b, summed over x's columns; heads of b are shared by as many of x
  row_maximum,  // over columns
  row_sum,
  multiply,
  add,
  subtract,
  divide,
  exponential,
  logarithm,
  row_index,  // of each element of x
  column_index,
  at_least,  // x >= b
  greater,   // x > b
  select     // x where `where`, elsewhere b
};

/// y = action(x[, b[, where]]), element by element where not said otherwise; a size of 1 stands for
/// any. Tensors by their place in AttentionOperations::tensors.
struct Operation {
  Action action = Action::product;
  std::size_t x = 0;
  std::optional<std::size_t> b;
  std::optional<std::size_t> where;
  std::size_t y = 0;
};

struct AttentionOperations {
  std::vector<OperandTensor> tensors;
  std::vector<Operation> operations;  // each after those whose results it takes
};

/// Places of the caller's tensors.
inline constexpr std::size_t q_place = 0;
inline constexpr std::size_t k_place = 1;  // as K^T: its rows and columns swapped
inline constexpr std::size_t v_place = 2;
inline constexpr std::size_t o_place = 3;
inline constexpr std::size_t lse_place = 4;

/// S = scale Q K^T, mask, softmax with LSE = max + log(sum) on the way, O = P V with P in bf16, in
/// the pattern that NVIDIA/cudnn-frontend (CompositeSDPANode) builds for cuDNN before 9.21: 10
/// operations without a mask; 4 more for causal, 2 more where its corner is the bottom right of a
/// rectangle, 5 more for a window's left end. A row that sees no key gets the mean of V.
/// Throws CudnnUnsupported, with the reason, for varying lengths and masks other than full, causal
/// from either corner and causal with a window.
AttentionOperations attention_operations(const flash::AttentionShape& shape);

}  // namespace longhaul::kernels::vendor
