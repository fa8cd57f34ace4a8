#pragma once
// A forward call of attention as a graph of cuDNN's backend API, and the plan that computes it.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/flash_attention/problem.h"
#include "kernels/vendor/cudnn_library.h"

namespace longhaul::kernels::vendor {

/// How a variant pack names the caller's tensors.
inline constexpr std::int64_t q_id = 1;
inline constexpr std::int64_t k_id = 2;
inline constexpr std::int64_t v_id = 3;
inline constexpr std::int64_t o_id = 4;
inline constexpr std::int64_t lse_id = 5;

/// A number that a graph takes by value: its id and four bytes, float or int32, in host memory.
struct Scalar {
  std::int64_t id = 0;
  std::uint32_t bits = 0;
};

/// The finalised graph of one call: S = scale Q K^T, mask, softmax with LSE = max + log(sum), O = P
/// V with P in bf16. cuDNN has no operation for a masked softmax before 9.21, so it is pointwise
/// operations and reductions, which its engines know as attention by their pattern: the one that
/// NVIDIA/cudnn-frontend (CompositeSDPANode) builds. Needs no GPU.
class AttentionGraph {
 public:
  /// `handle`: null for a graph that is planned without a GPU.
  /// Throws CudnnUnsupported for a shape that this has no pattern for (varying lengths, masks
  /// other than full, causal from either corner, and a window), CudnnError where cuDNN refuses.
  AttentionGraph(const flash::AttentionShape& shape, cudnnHandle_t handle);

  const Descriptor& descriptor() const { return graph_; }
  const std::vector<Scalar>& scalars() const { return scalars_; }
  /// Operations in the graph: 10 without a mask; 4 more for causal, 2 more where its corner is the
  /// bottom right of a rectangle, 5 more for a window's left end.
  int operations() const { return static_cast<int>(operations_.size()); }

 private:
  friend class GraphBuilder;
  std::vector<Descriptor> parts_;  // tensors, and what operations are described by
  std::vector<Descriptor> operations_;
  std::vector<Scalar> scalars_;
  Descriptor graph_;
};

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
