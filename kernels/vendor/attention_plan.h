#pragma once
// A forward call of attention as a graph of cuDNN's backend API, and the plan that computes it.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/flash_attention/tensors.h"
#include "kernels/vendor/attention_operations.h"
#include "kernels/vendor/cudnn_library.h"

namespace longhaul::kernels::vendor {

/// By which cuDNN knows a tensor of a graph; 0 is none.
constexpr std::int64_t id_of(std::size_t place) { return static_cast<std::int64_t>(place) + 1; }

/// A number that a graph takes by value: its id and four bytes, float or int32, in host memory.
struct Scalar {
  std::int64_t id = 0;
  std::uint32_t bits = 0;
};

/// The finalised graph of attention_operations(). Needs no GPU.
class AttentionGraph {
 public:
  /// `handle`: null for a graph that is planned without a GPU. Throws CudnnUnsupported as
  /// attention_operations(), CudnnError where cuDNN refuses.
  AttentionGraph(const flash::AttentionShape& shape, cudnnHandle_t handle);

  const Descriptor& descriptor() const { return graph_; }
  const std::vector<Scalar>& scalars() const { return scalars_; }

 private:
  void add_tensor(const OperandTensor& tensor);
  void add_operation(const Operation& operation, const OperandTensor& result);
  const Descriptor& tensor(std::size_t place) const { return tensors_[place]; }
  Descriptor product(const Operation& operation, const std::string& name);
  Descriptor reduction(const Operation& operation, const std::string& name);
  Descriptor pointwise(const Operation& operation, const OperandTensor& result);

  std::vector<Descriptor> tensors_;
  std::vector<Descriptor> details_;  // by which operations are described
  std::vector<Descriptor> operations_;
  std::vector<Scalar> scalars_;
  Descriptor graph_;
};

/// The tensors of a call and the numbers of its graph: ids, and where each is.
struct Arguments {
  std::vector<std::int64_t> ids;
  std::vector<void*> addresses;
};
Arguments arguments_of(const flash::ForwardTensors& tensors, const std::vector<Scalar>& scalars);

/// The same with a workspace, as cuDNN takes them; all must outlive it.
Descriptor packed_arguments(const Arguments& arguments, void* workspace);

/// An engine of cuDNN and how it would be set up for a graph.
struct Engine {
  Descriptor configuration;
  std::int64_t number = 0;  // cuDNN's own
};

/// cuDNN's suggestions for a graph (heuristics A), its best first; none where no engine computes
/// it. `device`: a GPU that need not be here; null for that of the graph's handle. cuDNN loads
/// libcuda.so.1 for this and suggests nothing without; the toolkit's stub is enough.
std::vector<Engine> suggested_engines(const AttentionGraph& graph, const Descriptor* device);

/// A GPU by what cuDNN wants to know of it, in the JSON that it writes of one itself.
Descriptor described_device(const std::string& json);

/// The first of the suggested engines that can be made ready, on the GPU of `handle`.
class AttentionPlan {
 public:
  /// Throws as AttentionGraph; CudnnUnsupported where no engine computes the graph.
  AttentionPlan(const flash::AttentionShape& shape, cudnnHandle_t handle);

  const Descriptor& descriptor() const { return plan_; }
  const std::vector<Scalar>& scalars() const { return graph_.scalars(); }
  std::int64_t workspace_bytes() const { return workspace_bytes_; }
  std::int64_t engine() const { return engine_; }

 private:
  AttentionGraph graph_;
  Descriptor plan_;
  std::int64_t workspace_bytes_ = 0;
  std::int64_t engine_ = 0;
};

}  // namespace longhaul::kernels::vendor
