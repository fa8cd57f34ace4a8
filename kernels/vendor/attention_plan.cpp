#include "kernels/vendor/attention_plan.h"

#include <exception>
#include <utility>

namespace longhaul::kernels::vendor {

namespace {

cudnnDataType_t type_of(Element element) {
  switch (element) {
    case Element::bf16: return CUDNN_DATA_BFLOAT16;
    case Element::fp32: return CUDNN_DATA_FLOAT;
    case Element::int32: return CUDNN_DATA_INT32;
    case Element::boolean: return CUDNN_DATA_BOOLEAN;
  }
  throw CudnnError("no such element");
}

cudnnPointwiseMode_t mode_of(Action action) {
  switch (action) {
    case Action::multiply: return CUDNN_POINTWISE_MUL;
    case Action::add: return CUDNN_POINTWISE_ADD;
    case Action::subtract: return CUDNN_POINTWISE_SUB;
    case Action::divide: return CUDNN_POINTWISE_DIV;
    case Action::exponential: return CUDNN_POINTWISE_EXP;
    case Action::logarithm: return CUDNN_POINTWISE_LOG;
    case Action::row_index:
    case Action::column_index: return CUDNN_POINTWISE_GEN_INDEX;
    case Action::at_least: return CUDNN_POINTWISE_CMP_GE;
    case Action::greater: return CUDNN_POINTWISE_CMP_GT;
    case Action::select: return CUDNN_POINTWISE_BINARY_SELECT;
    case Action::product:
    case Action::row_maximum:
    case Action::row_sum: break;
  }
  throw CudnnError("not element by element");
}

// Indices move in int32 and comparisons are boolean, as their results are; all else is fp32, an
// index where it is made too.
cudnnDataType_t precision_of(Action action, Element result) {
  if (action == Action::row_index || action == Action::column_index) return CUDNN_DATA_FLOAT;
  return result == Element::bf16 ? CUDNN_DATA_FLOAT : type_of(result);
}

}  // namespace

AttentionGraph::AttentionGraph(const flash::AttentionShape& shape, cudnnHandle_t handle)
    : graph_(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "the graph of attention") {
  const AttentionOperations attention = attention_operations(shape);
  for (const OperandTensor& tensor : attention.tensors) add_tensor(tensor);
  for (const Operation& operation : attention.operations) {
    add_operation(operation, attention.tensors[operation.y]);
  }
  graph_.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operations_);
  if (handle != nullptr) graph_.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, handle);
  graph_.finalize();
}

void AttentionGraph::add_tensor(const OperandTensor& tensor) {
  const std::int64_t id = id_of(tensors_.size());
  Descriptor described(CUDNN_BACKEND_TENSOR_DESCRIPTOR, "tensor " + tensor.name);
  described.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
  described.set(CUDNN_ATTR_TENSOR_DATA_TYPE, type_of(tensor.element));
  described.set(CUDNN_ATTR_TENSOR_DIMENSIONS, tensor.sizes);
  described.set(CUDNN_ATTR_TENSOR_STRIDES, tensor.strides);
  described.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, std::int64_t{16});
  described.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, !tensor.in_memory && !tensor.value);
  described.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, tensor.value.has_value());
  described.finalize();
  tensors_.push_back(std::move(described));
  if (tensor.value) scalars_.push_back({id, *tensor.value});
}

void AttentionGraph::add_operation(const Operation& operation, const OperandTensor& result) {
  Descriptor described = [&] {
    switch (operation.action) {
      case Action::product: return product(operation, result.name);
      case Action::row_maximum:
      case Action::row_sum: return reduction(operation, result.name);
      default: return pointwise(operation, result);
    }
  }();
  described.finalize();
  operations_.push_back(std::move(described));
}

Descriptor AttentionGraph::product(const Operation& operation, const std::string& name) {
  Descriptor& how = details_.emplace_back(CUDNN_BACKEND_MATMUL_DESCRIPTOR, "product " + name);
  how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
  how.finalize();
  Descriptor described(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, "operation " + name);
  described.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, tensor(operation.x));
  described.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, tensor(operation.b.value()));
  described.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, tensor(operation.y));
  described.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
  return described;
}

Descriptor AttentionGraph::reduction(const Operation& operation, const std::string& name) {
  const bool maximum = operation.action == Action::row_maximum;
  Descriptor& how = details_.emplace_back(CUDNN_BACKEND_REDUCTION_DESCRIPTOR, "reduction " + name);
  how.set(CUDNN_ATTR_REDUCTION_OPERATOR,
          maximum ? CUDNN_REDUCE_TENSOR_MAX : CUDNN_REDUCE_TENSOR_ADD);
  how.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
  how.finalize();
  Descriptor described(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, "operation " + name);
  described.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, tensor(operation.x));
  described.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, tensor(operation.y));
  described.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
  return described;
}

Descriptor AttentionGraph::pointwise(const Operation& operation, const OperandTensor& result) {
  const Action action = operation.action;
  Descriptor& how =
      details_.emplace_back(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "pointwise " + result.name);
  how.set(CUDNN_ATTR_POINTWISE_MODE, mode_of(action));
  how.set(CUDNN_ATTR_POINTWISE_MATH_PREC, precision_of(action, result.element));
  if (action == Action::row_index) how.set(CUDNN_ATTR_POINTWISE_AXIS, std::int64_t{2});
  if (action == Action::column_index) how.set(CUDNN_ATTR_POINTWISE_AXIS, std::int64_t{3});
  how.finalize();
  Descriptor described(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "operation " + result.name);
  described.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
  described.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensor(operation.x));
  if (operation.b) described.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensor(*operation.b));
  if (operation.where)
    described.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, tensor(*operation.where));
  described.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensor(operation.y));
  return described;
}

Arguments arguments_of(const flash::ForwardTensors& tensors, const std::vector<Scalar>& scalars) {
  Arguments arguments;
  // cuDNN takes all addresses as ones that it may write through; it writes only to O and LSE.
  const auto add = [&](std::int64_t id, const void* address) {
    arguments.ids.push_back(id);
    arguments.addresses.push_back(const_cast<void*>(address));
  };
  add(id_of(q_place), tensors.q);
  add(id_of(k_place), tensors.k);
  add(id_of(v_place), tensors.v);
  add(id_of(o_place), tensors.o);
  add(id_of(lse_place), tensors.lse);
  for (const Scalar& scalar : scalars) add(scalar.id, &scalar.bits);
  return arguments;
}

Descriptor packed_arguments(const Arguments& arguments, void* workspace) {
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "the arguments of a call");
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, arguments.ids);
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, arguments.addresses);
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, workspace);
  pack.finalize();
  return pack;
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
