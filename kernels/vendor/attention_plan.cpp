#include "kernels/vendor/attention_plan.h"

#include <bit>
#include <cstddef>
#include <exception>
#include <limits>
#include <optional>
#include <utility>

namespace longhaul::kernels::vendor {

namespace {

using Sizes = std::vector<std::int64_t>;

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

// [batch, rows, heads, columns] in memory, as cuDNN's [batch, heads, rows, columns].
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

// Why there is no graph here for a call, or "".
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

}  // namespace

// Adds tensors and operations to a graph; a tensor is its place among the graph's parts.
class GraphBuilder {
 public:
  GraphBuilder(AttentionGraph& graph, const flash::AttentionShape& shape)
      : graph_(graph), shape_(shape) {}

  void build() {
    const auto q =
        tensor("q", q_id, CUDNN_DATA_BFLOAT16, rows_of_heads(shape_, shape_.q_len, shape_.heads));
    const auto k = tensor("k", k_id, CUDNN_DATA_BFLOAT16,
                          transposed(rows_of_heads(shape_, shape_.kv_len, shape_.kv_heads)));
    const auto v = tensor("v", v_id, CUDNN_DATA_BFLOAT16,
                          rows_of_heads(shape_, shape_.kv_len, shape_.kv_heads));
    const auto o =
        tensor("o", o_id, CUDNN_DATA_BFLOAT16, rows_of_heads(shape_, shape_.q_len, shape_.heads));
    const auto products = between("q k", CUDNN_DATA_FLOAT, scores());
    matmul("q k", q, k, products);
    const auto scale =
        by_value("scale", CUDNN_DATA_FLOAT, std::bit_cast<std::uint32_t>(shape_.scale));
    const auto scaled = pointwise(CUDNN_POINTWISE_MUL, "scaled scores", products, scale);
    matmul("p v", softmax(masked(scaled)), v, o);
  }

 private:
  using Part = std::size_t;

  Sizes scores() const { return {shape_.batch, shape_.heads, shape_.q_len, shape_.kv_len}; }
  Sizes rows() const { return {shape_.batch, shape_.heads, shape_.q_len, 1}; }

  Part keep(Descriptor part) {
    part.finalize();
    graph_.parts_.push_back(std::move(part));
    return graph_.parts_.size() - 1;
  }

  Descriptor described(const std::string& name, std::int64_t id, cudnnDataType_t type,
                       const Layout& layout) {
    Descriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, "tensor " + name);
    tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
    tensor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, type);
    tensor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, layout.sizes);
    tensor.set(CUDNN_ATTR_TENSOR_STRIDES, layout.strides);
    tensor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, std::int64_t{16});
    return tensor;
  }

  // The caller's memory.
  Part tensor(const std::string& name, std::int64_t id, cudnnDataType_t type,
              const Layout& layout) {
    return keep(described(name, id, type, layout));
  }

  // What passes from operation to operation and is never in memory.
  Part between(const std::string& name, cudnnDataType_t type, const Sizes& sizes) {
    Descriptor tensor = described(name, next_id_++, type, packed(sizes));
    tensor.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, true);
    return keep(std::move(tensor));
  }

  Part by_value(const std::string& name, cudnnDataType_t type, std::uint32_t bits) {
    const std::int64_t id = next_id_++;
    Descriptor tensor = described(name, id, type, packed({1, 1, 1, 1}));
    tensor.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, true);
    graph_.scalars_.push_back({id, bits});
    return keep(std::move(tensor));
  }

  Part by_value(const std::string& name, int value) {
    return by_value(name, CUDNN_DATA_INT32, std::bit_cast<std::uint32_t>(value));
  }

  const Descriptor& part(Part which) const { return graph_.parts_[which]; }

  void add(Descriptor operation) {
    operation.finalize();
    graph_.operations_.push_back(std::move(operation));
  }

  void matmul(const std::string& name, Part a, Part b, Part c) {
    Descriptor how(CUDNN_BACKEND_MATMUL_DESCRIPTOR, "product " + name);
    how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
    const Part kept = keep(std::move(how));
    Descriptor operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, "operation " + name);
    operation.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, part(a));
    operation.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, part(b));
    operation.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, part(c));
    operation.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, part(kept));
    add(std::move(operation));
  }

  Part reduce(cudnnReduceTensorOp_t how_to, const std::string& name, Part x) {
    Descriptor how(CUDNN_BACKEND_REDUCTION_DESCRIPTOR, "reduction " + name);
    how.set(CUDNN_ATTR_REDUCTION_OPERATOR, how_to);
    how.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    const Part kept = keep(std::move(how));
    const Part y = between(name, CUDNN_DATA_FLOAT, rows());
    Descriptor operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, "operation " + name);
    operation.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, part(x));
    operation.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, part(y));
    operation.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, part(kept));
    add(std::move(operation));
    return y;
  }

  // y = mode(x[, b[, where]]), computed as `precision`; `axis` is GEN_INDEX's.
  struct Pointwise {
    cudnnPointwiseMode_t mode;
    cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    std::optional<std::int64_t> axis = {};
  };
  void pointwise(const Pointwise& what, const std::string& name, Part x, std::optional<Part> b,
                 std::optional<Part> where, Part y) {
    Descriptor how(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "pointwise " + name);
    how.set(CUDNN_ATTR_POINTWISE_MODE, what.mode);
    how.set(CUDNN_ATTR_POINTWISE_MATH_PREC, what.precision);
    if (what.axis) how.set(CUDNN_ATTR_POINTWISE_AXIS, *what.axis);
    const Part kept = keep(std::move(how));
    Descriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "operation " + name);
    operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, part(kept));
    operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, part(x));
    if (b) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, part(*b));
    if (where) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, part(*where));
    operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, part(y));
    add(std::move(operation));
  }

  // The same on scores, in fp32.
  Part pointwise(cudnnPointwiseMode_t mode, const std::string& name, Part x,
                 std::optional<Part> b = {}) {
    const Part y = between(name, CUDNN_DATA_FLOAT, scores());
    pointwise({.mode = mode}, name, x, b, {}, y);
    return y;
  }

  // The number of each score's row (axis 2) or column (axis 3).
  Part number(const std::string& name, Part like, std::int64_t axis) {
    const Part y = between(name, CUDNN_DATA_INT32, scores());
    pointwise({.mode = CUDNN_POINTWISE_GEN_INDEX, .axis = axis}, name, like, {}, {}, y);
    return y;
  }

  Part shifted(cudnnPointwiseMode_t mode, const std::string& name, Part index, int by) {
    const Part y = between(name, CUDNN_DATA_INT32, scores());
    const Part amount = by_value(name + ", amount", by);
    pointwise({.mode = mode, .precision = CUDNN_DATA_INT32}, name, index, amount, {}, y);
    return y;
  }

  // Scores where `a` compares so with `b`, elsewhere the least float (as cudnn-frontend: -inf would
  // make a row without keys NaN).
  Part kept_where(cudnnPointwiseMode_t comparison, const std::string& name, Part a, Part b,
                  Part score) {
    const Part where = between("where " + name, CUDNN_DATA_BOOLEAN, scores());
    pointwise({.mode = comparison, .precision = CUDNN_DATA_BOOLEAN}, "where " + name, a, b, {},
              where);
    const Part least = by_value("outside " + name, CUDNN_DATA_FLOAT,
                                std::bit_cast<std::uint32_t>(std::numeric_limits<float>::lowest()));
    const Part y = between(name, CUDNN_DATA_FLOAT, scores());
    pointwise({.mode = CUDNN_POINTWISE_BINARY_SELECT}, name, score, least, where, y);
    return y;
  }

  Part masked(Part score) {
    if (shape_.mask.above >= flash::unlimited) return score;
    const bool shifts = shape_.mask.from_bottom_right && shape_.q_len != shape_.kv_len;
    Part row = number("row", score, 2);
    const Part column = number("column", score, 3);
    if (shifts) {
      row = shifted(CUDNN_POINTWISE_ADD, "row + keys", row, shape_.kv_len);
      row = shifted(CUDNN_POINTWISE_SUB, "row + keys - rows", row, shape_.q_len);
    }
    const Part causal = kept_where(CUDNN_POINTWISE_CMP_GE, "causal scores", row, column, score);
    if (shape_.mask.below >= flash::unlimited) return causal;
    const int shift = shifts ? shape_.kv_len - shape_.q_len : 0;
    return windowed(causal, shape_.mask.below + 1 - shift);
  }

  // Row i sees column j where j + reach > i; the sum in fp32, as the pattern has it.
  Part windowed(Part score, int reach) {
    const Part row = number("row again", score, 2);
    const Part column = number("column again", score, 3);
    const Part amount = by_value("reach", CUDNN_DATA_FLOAT,
                                 std::bit_cast<std::uint32_t>(static_cast<float>(reach)));
    const Part reached = between("column + reach", CUDNN_DATA_FLOAT, scores());
    pointwise({.mode = CUDNN_POINTWISE_ADD, .axis = 3}, "column + reach", column, amount, {},
              reached);
    return kept_where(CUDNN_POINTWISE_CMP_GT, "scores in the window", reached, row, score);
  }

  Part softmax(Part score) {
    const Part most = reduce(CUDNN_REDUCE_TENSOR_MAX, "row maximum", score);
    const Part below = pointwise(CUDNN_POINTWISE_SUB, "score - maximum", score, most);
    const Part weight = pointwise(CUDNN_POINTWISE_EXP, "weight", below);
    const Part sum = reduce(CUDNN_REDUCE_TENSOR_ADD, "row sum", weight);
    const Part log = between("log of the sum", CUDNN_DATA_FLOAT, rows());
    pointwise({.mode = CUDNN_POINTWISE_LOG}, "log of the sum", sum, {}, {}, log);
    const Part lse = tensor("lse", lse_id, CUDNN_DATA_FLOAT, packed(rows()));
    pointwise({.mode = CUDNN_POINTWISE_ADD}, "lse", most, log, {}, lse);
    const Part p = between("p", CUDNN_DATA_BFLOAT16, scores());
    pointwise({.mode = CUDNN_POINTWISE_DIV}, "p", weight, sum, {}, p);
    return p;
  }

  AttentionGraph& graph_;
  const flash::AttentionShape& shape_;
  std::int64_t next_id_ = lse_id + 1;
};

AttentionGraph::AttentionGraph(const flash::AttentionShape& shape, cudnnHandle_t handle)
    : graph_(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "the graph of attention") {
  flash::check_shape(shape);
  const std::string reason = why_not(shape);
  if (!reason.empty()) throw CudnnUnsupported("no graph of cuDNN here for " + reason);
  GraphBuilder(*this, shape).build();
  graph_.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operations_);
  if (handle != nullptr) graph_.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, handle);
  graph_.finalize();
}

Descriptor described_device(const std::string& json) {
  Descriptor device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, "the properties of a GPU");
  device.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, json);
  device.finalize();
  return device;
}

std::vector<Engine> suggested_engines(const AttentionGraph& graph, const Descriptor* device) {
  Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "the choice of engines");
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph.descriptor());
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_HEUR_MODE_A);
  if (device != nullptr) heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *device);
  heuristics.finalize();
  const auto most = heuristics.count(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR);
  std::vector<Descriptor> configurations;
  for (std::int64_t i = 0; i < most; ++i) {
    configurations.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "an engine's configuration");
  }
  const auto found = heuristics.fill(CUDNN_ATTR_ENGINEHEUR_RESULTS, configurations);
  std::vector<Engine> engines;
  for (std::int64_t i = 0; i < found; ++i) {
    std::vector<Descriptor> engine;
    engine.emplace_back(CUDNN_BACKEND_ENGINE_DESCRIPTOR, "an engine");
    configurations[i].fill(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    const auto number = engine[0].integer(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    engines.push_back({std::move(configurations[i]), number});
  }
  return engines;
}

AttentionPlan::AttentionPlan(const flash::AttentionShape& shape, cudnnHandle_t handle)
    : graph_(shape, handle), plan_(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "a plan") {
  std::exception_ptr refused =
      std::make_exception_ptr(CudnnUnsupported("no engine of cuDNN computes this attention"));
  for (const Engine& engine : suggested_engines(graph_, nullptr)) {
    try {
      plan_ = Descriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "a plan");
      plan_.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engine.configuration);
      plan_.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, handle);
      plan_.finalize();
      workspace_bytes_ = plan_.integer(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
      engine_ = engine.number;
      return;
    } catch (const CudnnError&) {  // the next may do
      refused = std::current_exception();
    }
  }
  std::rethrow_exception(refused);
}

}  // namespace longhaul::kernels::vendor
