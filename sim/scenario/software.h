// What a software stack adds to the ideal schedule: the host's launch times, kernels that are not
// fused, collectives that are not overlapped, ranks of unequal speed. Files:
// calibrate/profiles/software/*.yaml; every mechanism has a cause and is defined in
// docs/models/software.md.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/units/quantity.h"

namespace longhaul {

/// Numbers of a profile that can be fitted; durations are in seconds.
enum class SoftwareNumber {
  host_launch,       ///< host time to launch one kernel [s]
  host_collective,   ///< host time to launch one collective [s]
  host_micro_batch,  ///< further host time per micro-batch: the training loop [s]
  host_step,         ///< time per optimizer step in which the GPU waits for the host (data loading,
                     ///< gradient norm read back, logging) [s]
  speed_spread,      ///< relative standard deviation of the speed of GPUs of one model
};
constexpr int software_number_count = 5;
const char* name_of(SoftwareNumber number);

/// Fitted numbers are those of software_fit.yaml; what the stack's own file says is their prior.
struct SoftwareValue {
  double value = 0.0;
  double spread = 0.0;  ///< standard deviation of what is known about it, in its own unit
  bool fit = false;     ///< may be fitted on measured runs (docs/models/software.md)
  double prior = 0.0;   ///< value and spread without those runs
  double prior_spread = 0.0;
};

/// What a stack's users recompute where a run does not say.
enum class UnstatedRecompute {
  unknown,   ///< nothing, selectively or fully: no telling
  lightest,  ///< the least that fits: recipes tuned for speed
  full       ///< every layer: the stack's default
};

/// How a stack runs one memory-bound operator of the program: `launches` kernels that together move
/// `traffic` times the bytes that the operator must.
struct OperatorHabit {
  std::string op;  ///< as the program names it: "norm", "rope", "swiglu"
  double launches = 1.0;
  double traffic = 1.0;
};

/// What the host needs to call an attention kernel through its library: the kernel is launched early in
/// that time, so it shows only where kernels are shorter.
struct AttentionCallHabit {
  std::string kernel;  ///< "cudnn", "fa4"
  Seconds forward;
  Seconds backward;
};

/// How those who start the stack by a trainer of its own word set what work in host memory depends on.
struct TrainerHabit {
  std::string framework;  ///< word of `software.framework` in measured runs
  std::int64_t host_threads = 0;
  bool pageable_offload = false;
};

/// Memory that a library holds for its kernels throughout, counted by the framework's allocator.
struct LibraryWorkspace {
  std::string name;
  std::int64_t training = 1;   ///< how many in a training step (one per host thread, ...)
  std::int64_t inference = 1;  ///< and in a pass without gradients
  Bytes bytes;                 ///< each, before Hopper
  Bytes since_hopper;          ///< each, from Hopper on
  Bytes deterministic;         ///< each, when kernels must be deterministic; 0: as otherwise
};

/// What a memory figure out of a stack's own logs is, where whoever wrote it down does not say.
enum class MemoryReading {
  reserved,   ///< max_memory_reserved
  allocated,  ///< max_memory_allocated
  device      ///< of the whole device, as nvidia-smi reads it
};

struct SoftwareProfile {
  std::string name;
  std::vector<std::string> frameworks;  ///< words of `software.framework` in measured runs
  std::array<SoftwareValue, software_number_count> numbers;
  std::vector<OperatorHabit> operators;
  std::vector<AttentionCallHabit> attention_calls;
  // Habits of the schedule (docs/models/software.md).
  bool overlap_gradient_reduction = true;   ///< behind the last micro-batch's backward pass
  bool overlap_parameter_gather = true;     ///< ZeRO 1: behind the next forward pass
  bool zero_owners = false;                 ///< ZeRO 1: ranks own whole weights, and broadcast them
  bool overlap_tensor_collectives = false;  ///< sequence parallelism: products in pieces beside them
  bool waits_for_tensor_ranks = false;      ///< no product beside their second gathers and sums
  bool keeps_gathered_tokens = false;       ///< a recompute's, until its layer's backward pass
  bool fp8_gathers = false;                 ///< and what fp8 products gather travels in fp8
  bool keeps_fp8_weights = false;           ///< fp8: weights are cast in a step's first micro-batch
  bool keeps_fp8_inputs = false;            ///< what fp8 products read is saved in fp8
  bool reshard_after_forward = true;        ///< FSDP: gathered weights are dropped after forward
  std::int64_t prefetch = 1;                ///< ZeRO 3: layers whose weights are gathered ahead
  std::int64_t gather_copies = 0;           ///< ZeRO 3: passes over gathered weights before their use
  std::int64_t gradient_copies = 0;         ///< over fresh gradients before their sum
  bool piecewise_shards = false;            ///< ZeRO 1: slices are copied apart, after the step
  bool fp32_gradient_sums = false;          ///< ZeRO 2, 3: and their sum over replicas is in fp32
  bool synchronous_offload = false;         ///< nothing is computed while layer inputs are copied
  bool late_gradient_offload = false;       ///< gradients leave for the host with the optimizer's step
  bool blocking_gradient_offload = false;   ///< ZeRO 3: backward waits for gradients' copies
  bool serial_host_optimizer = false;       ///< scaling, Adam, casts, copies back one after another
  bool pageable_offload = false;            ///< host memory of gradients is not pinned
  /// Threads of a rank's work in host memory: as its launcher leaves them; 0: the node's cores, shared.
  std::int64_t host_threads = 0;
  std::int64_t host_threads_alone = 0;      ///< of a rank that has its node to itself
  bool states_host_threads = false;         ///< its file says so
  std::vector<TrainerHabit> trainers;
  bool sums_unshared_gradients = true;      ///< ZeRO 0: replicas sum their gradients
  bool times_optimizer = true;              ///< its step ends with the optimizer's, not with backward
  bool fp32_logits = false;                 ///< the loss works on an fp32 copy of the logits
  bool fp32_ring_gradients = true;          ///< dK, dV travel around a ring in fp32
  bool reads_loss = false;                  ///< the host reads every micro-batch's loss back
  bool waits_for_messages = false;          ///< the host waits for those between pipeline stages
  bool synchronous_hops = false;            ///< the host waits for its GPU before each hop of a ring
  bool waits_for_batches = false;           ///< the host reads back what it sent of a micro-batch
  std::int64_t loader_workers = 0;          ///< processes that read batches ahead; 0: the host itself
  bool scatters_messages = false;           ///< tensor ranks send a slice each between stages
  bool fp8_mlp_only = false;                ///< fp8 products are the MLP's, not those around attention
  bool pads_vocabulary = false;             ///< to a multiple of 128 on every tensor rank
  bool keeps_gaps = false;                  ///< nothing is launched ahead of the kernel that runs
  bool unset_weights = false;               ///< a benchmark's weights were never set
  bool gathers_logits = false;              ///< every rank of a replica has all tokens' logits
  bool exchange_copies = false;             ///< tensors are put in order around an all-to-all
  bool lone_exchange_copies = false;        ///< also where Ulysses' group has one member
  bool packed_copies = false;               ///< keys and values are copied out of a packed tensor
  bool separate_query_sums = false;         ///< rings: a pass of its own adds each block's dq
  bool sliced_merges = false;               ///< partial results of some rows are combined in copies
  bool late_messages = false;               ///< of rings: SMs come free behind attention's tiles
  std::string flash_kernel;                 ///< what measured runs' word FlashAttention stands for
  // Habits of memory (docs/models/memory.md).
  bool gpt_dropout = false;                 ///< ungated models (GPT-2, GPT-3) train with dropout
  bool gated_dropout = false;               ///< and gated ones (Llama) do
  bool eager_loss = false;                  ///< cross entropy out of separate fp32 operators
  bool gradients_on_demand = false;         ///< no gradients are held between steps
  UnstatedRecompute unstated_recompute = UnstatedRecompute::unknown;
  bool compiled_loss = false;               ///< of few kernels, and a second fp32 tensor beside fp32_logits
  bool softmax_copy = false;                ///< the loss makes a second fp32 tensor of the logits
  bool keeps_silu = false;                  ///< gated MLPs keep the gate's activation, too
  bool mlp_gradient_in_place = false;       ///< of the up projection's output, written over it
  bool fp32_head_pieces = false;            ///< a loss in pieces: each one's head gradient in fp32, too
  std::int64_t norm_copies = 0;             ///< what norms save besides input and output, in theirs
  bool leaf_gradients = false;              ///< of a micro-batch, apart from the sums
  bool joins_weights = false;               ///< tensor ranks keep joined copies of layers' weights
  bool compute_gradients = false;           ///< gradients are of the compute type, in measured runs
  bool fp16_gradients = false;              ///< and fp16 runs', where nothing is said of them
  bool gradient_buckets = false;            ///< ZeRO 0: gradients travel in buckets of their own
  bool dummy_gradients = false;             ///< a tensor per shape of weight stands in for gradients
  std::int64_t live_parameters = 0;         ///< ZeRO 3: elements gathered at most; 0: by layers
  std::int64_t prefetch_bucket = 0;         ///< and elements gathered ahead at once
  std::int64_t reduction_bucket = 0;        ///< ZeRO: elements of gradients summed at once; 0: none
  bool stages_by_cost = false;              ///< pipeline stages of equal FLOPs, not equal layers
  bool record_streams = false;              ///< what a collective used is reused late
  bool gather_buffer = false;               ///< gathered tokens stand in a buffer of the stack
  MemoryReading memory_reading = MemoryReading::reserved;  ///< what its logs call memory
  bool memory_in_gib = false;               ///< and what they call GB is 2^30 bytes
  Seconds segment;                          ///< to take one from the driver, where steps begin with
                                            ///< an empty cache; 0: they do not
  /// Of a NIC's nominal rate, what its transfers between nodes reach at most.
  double network_share = 1.0;
  Seconds grouped_product;                  ///< what each member adds to a grouped product
  Bytes context;                            ///< taken from the driver: CUDA context and kernels
  std::vector<LibraryWorkspace> workspaces;
  std::string source_name;                  ///< where it was read, for `inputs`
  std::string hash;                         ///< of that text
  std::string fit_name;                     ///< the file of its fitted numbers; empty: none
  std::string fit_hash;
  std::set<std::string> fitted_runs;        ///< measured runs that its numbers rest on, by id

  [[nodiscard]] double number(SoftwareNumber which) const {
    return numbers[static_cast<std::size_t>(which)].value;
  }
  [[nodiscard]] SoftwareValue& at(SoftwareNumber which) {
    return numbers[static_cast<std::size_t>(which)];
  }
};

/// Takes fitted numbers (format longhaul-software-fit/1) into the profiles that they are of.
void read_software_fit(const SourcePtr& source,
                       std::map<std::string, std::shared_ptr<SoftwareProfile>>& profiles,
                       Diagnostics& diagnostics);

/// Names of the profiles that come with longhaul, sorted.
const std::vector<std::string>& software_names();

/// The profile of that name; nothing if there is none. Read once, then shared.
std::shared_ptr<const SoftwareProfile> find_software(const std::string& name);

/// The profile whose `frameworks` has the longest word that occurs in `framework` ("NeMo 24.07"),
/// whatever its case and what joins its parts; nothing if there is none.
std::shared_ptr<const SoftwareProfile> software_of_framework(const std::string& framework);

/// Reads a profile; the format is calibrate/profiles/README.md.
std::optional<SoftwareProfile> read_software(const SourcePtr& source, Diagnostics& diagnostics);

}  // namespace longhaul
