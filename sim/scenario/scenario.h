// What to run: a model on a cluster, under a workload and a plan. A Scenario that left
// check_scenario() cannot be wrong: sizes divide, degrees multiply, ranks exist.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/model/model.h"
#include "sim/scenario/software.h"
#include "sim/topology/cluster.h"
#include "sim/units/data_type.h"
#include "sim/units/quantity.h"
#include "sim/units/sequence.h"

namespace longhaul {

enum class Phase { train, forward, prefill, decode, attention };
/// What one iteration of phase `attention` runs.
enum class Pass { forward, backward, forward_backward };
struct Workload {
  Phase phase = Phase::train;
  Pass pass = Pass::forward_backward;
  std::int64_t sequence_length = 0;  ///< tokens of one sequence, all ranks together
  std::int64_t cached_tokens = 0;    ///< tokens already in the KV cache (prefill, decode)
  std::int64_t micro_batch = 1;      ///< sequences per model replica and micro-batch
  std::int64_t global_batch = 1;     ///< sequences per optimizer step
  MaskSpec mask;
  /// Tokens of a layer's most loaded expert over the mean; 1: balanced.
  double expert_imbalance = 1.0;
  /// Tokens an expert takes, over the mean: the rest is dropped, what lacks is padded. 0: dropless.
  double expert_capacity = 0.0;
  std::optional<bool> dropout;  ///< masks are kept; absent: as the stack trains such models
  /// What it takes one process to bring a sequence from storage to host memory (training); 0: data
  /// are there when they are wanted.
  Seconds sample_time = Seconds();
  bool operator==(const Workload&) const = default;
};

enum class ContextMethod { none, ring, ulysses, usp, all_gather, double_ring };
enum class InnerPlacement { ulysses, ring };  ///< which of the two sits on neighbouring GPUs

/// What a ring does: keys and values travel both ways (pass_kv), the query side travels backward,
/// ranks that a causal mask leaves idle help the others (shards in order), queries travel forward, or
/// keys and then values travel and the scores are stored (materialised). Of Ulysses: the sequence
/// goes through attention in chunks that wait in host memory (chunked_offload).
enum class RingVariant { pass_kv, q_side_backward, helpers, pass_q, materialised, chunked_offload };

struct ContextPlan {
  ContextMethod method = ContextMethod::none;
  std::int64_t ring = 1;     ///< ring degree (all_gather: the group's size)
  std::int64_t ulysses = 1;  ///< all-to-all degree
  SequenceOrder order = SequenceOrder::zigzag;
  InnerPlacement inner = InnerPlacement::ulysses;
  /// Ranks of an inner ring of a double ring (1 or all of `ring`: a single ring).
  std::int64_t inner_ring = 1;
  RingVariant variant = RingVariant::pass_kv;
  std::int64_t chunks = 0;  ///< of chunked_offload; 0: of 64K tokens
  bool packed_qkv = false;  ///< q, k and v stand in one tensor: one all-to-all takes all three
  [[nodiscard]] bool has_double_ring() const { return inner_ring > 1 && inner_ring < ring; }
  [[nodiscard]] std::int64_t degree() const { return ring * ulysses; }
  [[nodiscard]] bool is_chunked() const { return variant == RingVariant::chunked_offload; }
  bool operator==(const ContextPlan&) const = default;
};

enum class Recompute { none, selective, full };
/// What recompute keeps of a layer. standard: `selective` gives back attention's statistics, `full`
/// everything but the layer's input.
enum class RecomputeDetail {
  standard,
  attention_core,         ///< the same as selective
  keep_attention_output,  ///< full, but attention is not run again
  keep_attention_output_part,  ///< the same for the later half of the sequence (BurstEngine)
  keep_linear_outputs,    ///< outputs of matrix products and attention are kept
  op_sac                  ///< torchtitan: the same, but every second matrix product runs again
};
enum class Offload { optimizer, activations, parameters };

/// How tokens reach the ranks of their experts and come back (Megatron-LM's
/// --moe-token-dispatcher-type; docs/models/moe.md).
enum class ExpertDispatch {
  alltoall,   ///< a row for each expert that a token passes, straight to its rank
  allgather,  ///< every rank of the expert group gets all its tokens; outputs are reduce-scattered
  deepep      ///< once per node over the network, once per rank over NVLink (flex with DeepEP)
};

/// In what order the stages of a pipeline run the passes of their micro-batches. Those from zb_h1 on
/// make weight gradients apart from the backward pass (zero bubble, arXiv 2401.10241).
enum class PipelineSchedule {
  one_f_one_b,
  interleaved,  ///< 1F1B of virtual_pipeline chunks on each stage
  zb_h1,        ///< by rule, with the activations of 1F1B
  zb_h2,        ///< by rule, with up to 2 p - 1 micro-batches of p stages in flight
  zb_1p,        ///< planned from how long passes take, with at most p in flight
  zb_2p,        ///< with at most 2 p
  zb_v          ///< two chunks per stage, dealt down and up again
};

/// True if B and W are passes of their own.
inline bool splits_backward(PipelineSchedule schedule) {
  return schedule >= PipelineSchedule::zb_h1;
}

/// What the passes of a micro-batch cost the stages of a pipeline, in any one unit of time and any one of
/// memory: what an automatic schedule is planned from. By stage, first to last.
struct PassCosts {
  std::vector<std::int64_t> forward;
  std::vector<std::int64_t> backward;  ///< without weight gradients
  std::vector<std::int64_t> weights;
  std::int64_t message = 0;        ///< between two stages
  std::vector<std::int64_t> held;  ///< memory, from the forward pass to the backward pass
  std::vector<std::int64_t> kept;  ///< from there to the weight gradients
};

/// Directions in which a plan deals ranks. `context` stands for its two, the inner one first;
/// `expert` is part of the others and only says that they keep their order.
enum class PlanAxis { tensor, context, ulysses, ring, data, pipeline, expert };

struct Plan {
  std::int64_t tensor = 1;
  bool sequence_parallel = false;  ///< Megatron SP (needs tensor > 1)
  ContextPlan context;
  std::int64_t pipeline = 1;
  std::int64_t virtual_pipeline = 1;
  PipelineSchedule schedule = PipelineSchedule::one_f_one_b;
  /// The first and the last part of the model have fewer layers than the others, which are even.
  bool uneven_stages = false;
  /// Layers of every part (pipeline x virtual_pipeline), first to last; empty: even or uneven.
  std::vector<std::int64_t> stage_layers = {};
  /// Micro-batches that a chunk runs before the next chunk's turn; 0: as virtual_group_of() says.
  std::int64_t virtual_group = 0;
  std::int64_t data = 1;           ///< replicas
  /// Which axes are placed on neighbouring GPUs, fastest first; empty: tensor, context, data,
  /// pipeline. Axes of degree 1 may be missing (settled_rank_order() has all).
  std::vector<PlanAxis> rank_order = {};
  int zero = 1;                    ///< ZeRO stage; 3 = FSDP full shard
  std::int64_t expert = 1;         ///< ranks that a layer's experts are dealt to
  std::int64_t expert_tensor = 1;  ///< ranks that share the width of each expert
  ExpertDispatch expert_dispatch = ExpertDispatch::alltoall;
  bool fp8_expert_dispatch = false;    ///< tokens travel to experts in fp8 (deepep), back in bf16
  bool shared_expert_overlap = false;  ///< shared experts beside the exchanges of the routed ones
  bool shard_over_context = true;  ///< ZeRO shards over data x context ranks
  /// Ranks that share ZeRO's states when fewer than all replicas (hybrid sharding); 0: all.
  std::int64_t zero_group = 0;
  Recompute recompute = Recompute::none;
  RecomputeDetail recompute_detail = RecomputeDetail::standard;
  std::int64_t mlp_tiles = 1;    ///< pieces of a rank's tokens whose MLP activations exist at a time
  std::int64_t loss_chunks = 1;  ///< pieces of a rank's tokens whose logits exist at a time
  std::int64_t recompute_layers = 0;  ///< of the layers, so many recompute, the first ones; 0: all.
                                      ///< In a pipeline of each part (Megatron-LM's method block)
  std::vector<Offload> offload;
  // Absent: what the software stack does (SoftwareProfile).
  std::optional<bool> overlap_gradient_reduction = std::nullopt;
  std::optional<bool> overlap_parameter_gather = std::nullopt;
  /// Of zero-bubble pipelines: no stage waits for the others before its optimizer step, which is
  /// validated later. Absent: so it is.
  std::optional<bool> post_validation = std::nullopt;
  std::optional<bool> overlap_tensor_collectives = std::nullopt;
  std::optional<bool> zero_owners = std::nullopt;  ///< ZeRO 1 deals whole weights to ranks
  std::optional<bool> reshard_after_forward = std::nullopt;
  std::optional<std::int64_t> prefetch = std::nullopt;  ///< layers gathered ahead (ZeRO 3)
  std::optional<std::int64_t> host_threads = std::nullopt;  ///< of a rank; 0: its share of cores
  std::optional<bool> pageable_offload = std::nullopt;      ///< gradients go to unpinned memory
  /// Processes per rank that read batches ahead (PyTorch's num_workers); 0: the training loop reads.
  std::optional<std::int64_t> loader_workers = std::nullopt;

  [[nodiscard]] bool offloads(Offload what) const {
    return std::find(offload.begin(), offload.end(), what) != offload.end();
  }
  /// Replicas among the ranks of a ZeRO group: all, or zero_group without its context ranks.
  [[nodiscard]] std::int64_t sharing_replicas() const {
    return zero_group == 0 ? data : zero_group / (shard_over_context ? context.degree() : 1);
  }
  /// Ranks that hold the same experts in a ZeRO group with all its tensor and context ranks.
  [[nodiscard]] std::int64_t sharing_expert_replicas() const {
    return sharing_replicas() * context.degree() * tensor / (expert_tensor * expert);
  }
  bool operator==(const Plan&) const = default;
};

/// What a rank keeps of each parameter besides gradients: `mixed`: the compute type, an fp32 master
/// copy and fp32 moments; `compute`: parameter and moments in the compute type; `fp32`: parameter and
/// moments in fp32, cast for each use (FSDP; needs ZeRO 3 over several ranks, else as mixed).
enum class States { mixed, compute, fp32 };

struct Precision {
  DataType compute = DataType::bf16;
  DataType gradients = DataType::fp32;
  DataType attention = DataType::bf16;
  States states = States::mixed;
  bool operator==(const Precision&) const = default;
};

/// A checked scenario. `gpus` = tensor x context x pipeline x data, and the cluster has them.
struct Scenario {
  Model model;
  Cluster cluster;
  std::int64_t gpus = 1;
  Workload workload;
  Plan plan;
  Precision precision;
  std::string software = "ideal";
  /// Attention kernel family ("fa2", "fa3", "fa4", "cudnn", "unfused"); empty: the best the device has.
  std::string attention_kernel;
  std::vector<std::string> remarks;  ///< consequences worth saying ("KV heads replicated 2x")
  /// Absent: the profile called `software`. Set to ask what another stack would do.
  std::shared_ptr<const SoftwareProfile> stack_override = nullptr;
  bool deterministic = false;  ///< kernels give the same bits in every run
  bool expandable_segments = false;  ///< of PyTorch's allocator (PYTORCH_CUDA_ALLOC_CONF)
  [[nodiscard]] const SoftwareProfile& stack() const {
    return stack_override ? *stack_override : *find_software(software);
  }
  /// Of stages whose schedule is planned; absent: as before anything is measured, all are alike.
  std::optional<PassCosts> pass_costs = std::nullopt;
  /// True if a stage begins its next step when it has ended this one, whatever the others do.
  [[nodiscard]] bool steps_apart() const {
    return splits_backward(plan.schedule) && plan.post_validation.value_or(true);
  }
  std::int64_t node_gpus = 1;  ///< GPUs of one of the cluster's nodes
  double host_speed = 1.0;  ///< of the cluster's hosts, against a DGX H100's
  std::int64_t host_cores = 0;       ///< of each; 0: not known
  std::int64_t ranks_of_a_host = 1;  ///< that share one
  [[nodiscard]] std::int64_t loader_workers() const {
    return plan.loader_workers.value_or(stack().loader_workers);
  }
  /// Of reading one micro-batch from storage, one process of the rank working on it.
  [[nodiscard]] Seconds reading_time() const {
    return workload.sample_time * static_cast<double>(workload.micro_batch);
  }
  /// What the stack's host needs on these hosts [s].
  [[nodiscard]] double host_time(SoftwareNumber which) const {
    return stack().number(which) / host_speed;
  }
  // What the plan says, else the stack's habit. Nobody reshards between a pipeline's micro-batches
  // unless told to: torchtitan's reshard_after_forward_policy "default", Llama 3 (arXiv 2407.21783,
  // section 3.3.2).
  [[nodiscard]] bool overlaps_gradient_reduction() const {
    return plan.overlap_gradient_reduction.value_or(stack().overlap_gradient_reduction &&
                                                    !has_pieces());
  }
  [[nodiscard]] bool overlaps_parameter_gather() const {
    return plan.overlap_parameter_gather.value_or(stack().overlap_parameter_gather &&
                                                  !has_pieces()) &&
           !has_owners();
  }
  /// ZeRO 1 sums and gathers at the end of a step, each rank's slice of each tensor copied apart.
  [[nodiscard]] bool has_pieces() const { return plan.zero == 1 && stack().piecewise_shards; }
  /// ZeRO 1 deals whole weights to ranks, which broadcast what they updated: where the plan says so,
  /// or by the stack's habit where there is such a schedule.
  [[nodiscard]] bool has_owners() const {
    const bool possible = !has_experts(model) && !plan.offloads(Offload::optimizer);
    return plan.zero == 1 && plan.zero_owners.value_or(stack().zero_owners && possible);
  }
  [[nodiscard]] bool overlaps_tensor_collectives() const {
    return plan.overlap_tensor_collectives.value_or(stack().overlap_tensor_collectives) &&
           plan.sequence_parallel && plan.tensor > 1;
  }
  [[nodiscard]] bool reshards_after_forward() const {
    return plan.reshard_after_forward.value_or(stack().reshard_after_forward && plan.pipeline == 1);
  }
  [[nodiscard]] std::int64_t prefetch() const { return plan.prefetch.value_or(stack().prefetch); }
  [[nodiscard]] bool offload_is_pageable() const {
    return plan.pageable_offload.value_or(stack().pageable_offload);
  }
  /// What the plan or the stack's launcher sets; 0: the cores are shared.
  [[nodiscard]] std::int64_t host_threads() const {
    return plan.host_threads.value_or(ranks_of_a_host > 1 ? stack().host_threads
                                                          : stack().host_threads_alone);
  }
  /// With which a rank's host works on its memory: at most its cores; 0: not known, no limit.
  [[nodiscard]] double working_host_threads() const {
    const double share = static_cast<double>(host_cores) / static_cast<double>(ranks_of_a_host);
    const auto set = static_cast<double>(host_threads());
    return set > 0.0 && share > 0.0 ? std::min(set, share) : std::max(set, share);
  }
  /// Micro-batches per step and replica.
  [[nodiscard]] std::int64_t micro_batches() const {
    return workload.global_batch / (workload.micro_batch * plan.data);
  }
};

}  // namespace longhaul
