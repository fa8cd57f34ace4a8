// The program: what every rank does, as plain data. A schedule is written once as a program;
// the engine times it, the reference executor computes it, the live executor runs it.
//
// One instruction list serves all ranks (SPMD). Where ranks differ, an Index says how: it may
// depend on the rank's coordinates in the mesh and on loop counters. Where they do different
// things (the stages of a pipeline), instructions have conditions. Loops (layers,
// micro-batches, ring steps) stay loops, so a program is small whatever the number of GPUs.
//
// Order: instructions are issued in list order; each goes to one stream, streams run in order,
// and an instruction waits for every earlier instruction that wrote what it reads, or read or
// wrote what it writes (dependences by tensor, slot by slot). Nothing else is ordered.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim/units/data_type.h"
#include "sim/units/id.h"
#include "sim/units/quantity.h"
#include "sim/units/sequence.h"

namespace longhaul {

// ---- The mesh of ranks -------------------------------------------------------------------

/// Directions in which ranks differ. The second line are parts of an axis, not further axes: its
/// `inner` part is Mesh::ring_part, data_part or expert_data_part consecutive coordinates, its `outer`
/// part counts those. The third line deals the ranks of a stage anew, as experts see them: counted through
/// tensor, context and data in mesh order, expert_tensor fastest, then expert, then expert_data.
/// Neither stands in Mesh::order; both stand in groups (the third not beside others), shards and
/// indices.
enum class Axis {
  tensor, ulysses, ring, data, pipeline,
  ring_inner, ring_outer, data_inner, data_outer,
  expert_tensor, expert, expert_data, expert_data_inner, expert_data_outer
};
constexpr int axis_count = 5;

/// Sizes and placement of the axes. `order` lists them fastest first: rank =
/// c[order[0]] + size[order[0]] * (c[order[1]] + size[order[1]] * ...). Rank r runs on GPU r.
struct Mesh {
  std::vector<Axis> order{Axis::tensor, Axis::ulysses, Axis::ring, Axis::data, Axis::pipeline};
  std::int64_t sizes[axis_count] = {1, 1, 1, 1, 1};  ///< by Axis
  std::int64_t ring_part = 1;  ///< ranks of an inner ring; divides the ring
  std::int64_t data_part = 1;  ///< replicas that share their states; divides data
  std::int64_t expert_tensor = 1;  ///< ranks that cut each expert; with `experts` divides a stage
  std::int64_t experts = 1;        ///< ranks that the experts are dealt to
  std::int64_t expert_data_part = 1;  ///< ranks that share experts' states; divides expert_data

  [[nodiscard]] std::int64_t size(Axis axis) const;
  [[nodiscard]] std::int64_t ranks() const;
  [[nodiscard]] std::int64_t coordinate(RankId rank, Axis axis) const;
};

/// A communicator: every rank belongs to the one that shares its other coordinates. Members are
/// numbered along `axes`, fastest first.
struct Group {
  std::string name;  ///< "tensor", "ring", "ulysses", "data x context"
  std::vector<Axis> axes;
  bool ends = false;  ///< of its one axis only the first and the last rank are members
  /// Device memory that its library holds on each member; absent: NCCL's buffers.
  std::optional<Bytes> buffers = std::nullopt;
};
/// False for the ranks between those of a group of ends: they belong to no communicator of it.
bool in_group(const Mesh& mesh, const Group& group, RankId rank);
std::int64_t group_size(const Mesh& mesh, const Group& group);
std::int64_t group_index(const Mesh& mesh, const Group& group, RankId rank);
std::vector<RankId> group_members(const Mesh& mesh, const Group& group, RankId rank);

// ---- Indices that depend on rank and loop --------------------------------------------------

/// An entry of a table: the one at constant + counter(loop) + axis_coefficient * coordinate(axis).
/// Schedules that are no arithmetic of a counter are tables (which chunk, which micro-batch).
struct Lookup {
  std::shared_ptr<const std::vector<std::int64_t>> table;
  std::int64_t constant = 0;
  std::optional<LoopId> loop;
  std::optional<Axis> axis;
  std::int64_t axis_coefficient = 0;
};

/// constant + loop_coefficient * counter(loop) + axis_coefficient * coordinate(axis) + lookups,
/// modulo `modulus` (0: not reduced; the result of a reduction is in 0..modulus-1).
struct Index {
  std::int64_t constant = 0;
  std::optional<LoopId> loop;
  std::int64_t loop_coefficient = 0;
  std::optional<Axis> axis;
  std::int64_t axis_coefficient = 0;
  std::int64_t modulus = 0;
  std::vector<Lookup> lookups = {};

  static Index of(std::int64_t value) { Index i; i.constant = value; return i; }
  static Index counter(LoopId loop, std::int64_t coefficient = 1, std::int64_t constant = 0,
                       std::int64_t modulus = 0);
  static Index coordinate(Axis axis, std::int64_t constant = 0, std::int64_t modulus = 0);
};

/// Something that holds of a rank in a turn: at_least <= value <= at_most.
struct Condition {
  Index value;
  std::int64_t at_least = 0;
  std::int64_t at_most = 0;
};

// ---- Tensors -----------------------------------------------------------------------------

/// Who owns the bytes: the rows of every memory table.
enum class MemoryCategory {
  parameters, gradients, optimizer, activations, kv_buffers, communication, workspace, logits,
  framework
};
constexpr int memory_category_count = 9;
const char* name_of(MemoryCategory category);

/// How one dimension is dealt to ranks, outermost cut first. Local index i of a rank and the
/// global index are related by `global_index` (sim/program/layout.h).
struct Shard {
  Axis axis;
  SequenceOrder order = SequenceOrder::contiguous;
  /// The whole is cut in so many chunks, each of them dealt in `order`: a rank's part is its shares
  /// of chunk 0, 1, ... one after another.
  std::int64_t chunks = 1;
};

/// What a tensor holds at the start of the program, or is wanted for at its end. The engine
/// ignores it; the reference executor fills inputs from global arrays and gathers outputs.
enum class Role { none, input, output, parameter, gradient };

/// A tensor of every rank: local shape, element type, owner, number of interchangeable slots
/// (one per layer, or two for a double buffer). A persistent tensor holds all its slots from
/// the start; others hold a slot between `allocate` and `release`.
struct Tensor {
  std::string name;
  std::vector<std::int64_t> shape;          ///< local to a rank
  std::vector<std::vector<Shard>> shards;   ///< per dimension; empty: the dimension is whole
  DataType type = DataType::bf16;
  MemoryCategory category = MemoryCategory::activations;
  std::int64_t slots = 1;
  bool persistent = false;
  bool in_host_memory = false;              ///< offloaded: counted against the host, not the GPU
  /// Persistent, but a view into another tensor's bytes, which count them (a summed gradient shard
  /// inside the full gradient buffer). To whoever computes it is a tensor of its own.
  bool view = false;
  Role role = Role::none;
  /// Persistent, and dealt to the stages of a pipeline: by stage, which slots of the whole model its
  /// slots 0, 1, ... are; it holds no others. Empty: every rank holds all slots.
  std::vector<std::vector<std::int64_t>> stage_slots = {};
  /// Dealt further to the members of a group along these axes, its owners: `stage_slots` then has an
  /// entry for each member of stage 0, of stage 1, ... (without a pipeline there is stage 0 alone).
  std::vector<Axis> owner_axes = {};

  [[nodiscard]] std::int64_t elements() const;
  [[nodiscard]] Bytes slot_bytes() const;
  /// Slots that a persistent tensor has on a rank from the start.
  [[nodiscard]] std::int64_t held_slots(const Mesh& mesh, RankId rank) const;
  /// The slot of a rank that is slot `whole` of the model; none: another stage holds it.
  [[nodiscard]] std::optional<std::int64_t> slot_of_whole(const Mesh& mesh, RankId rank,
                                                          std::int64_t whole) const;
};

/// A tensor slot, or the part [begin, begin + length) of its dimension `dim`.
struct TensorRef {
  TensorId tensor;
  Index slot;
  std::optional<int> slice_dim;
  Index slice_begin;
  std::int64_t slice_length = 0;
};

// ---- Instructions --------------------------------------------------------------------------

/// What an instruction does. Operands are listed as reads -> writes; "(+)" marks writes that add
/// when `accumulate` is set. b batch, s local tokens, h heads, g kv heads, d head dim, t = b*s.
enum class Op {
  loop_begin, loop_end,
  allocate,          ///< -> writes: hold memory for each slot written
  release,           ///< reads: give it back once everything that uses it is done
  zero,              ///< -> x
  copy,              ///< x -> y (same shape; also converts the element type)
  add,               ///< a, b -> c (+): residual sums, gradient sums
  gemm,              ///< A, B -> C (+): matrix product of the row-major operands flattened to
                     ///< A[m,k] (transpose_a: stands as [k,m]), B[k,n] (transpose_b: [n,k]), C[m,n],
                     ///< where k^2 = elements(A) elements(B) / elements(C)
  grouped_gemm,      ///< A[g,..], B[g,..] -> C[g,..] (+): a gemm for each index of dimension 0
  norm,              ///< x[t,m], weight[m] -> y[t,m]   (RMSNorm; LayerNorm is timed alike)
  norm_backward,     ///< x, weight, dy -> dx (+), dweight (always +)
  rope,              ///< x[b,s,h,d] -> y: rotary embedding at the tokens' global positions; y may be x;
                     ///< with `block`: of its query shard
  rope_backward,     ///< dy -> dx: the inverse rotation; dx may be dy
  split_qkv,         ///< qkv[b,s,g,(h/g+2),d] -> q[b,s,h,d], k[b,s,g,d], v[b,s,g,d]
  merge_qkv,         ///< dq, dk, dv -> dqkv: the inverse
  split_columns,     ///< x[r,a+b] -> y[r,a], z[r/n,b]: rows of x that share one of z are summed in it
  join_columns,      ///< y[r,a], z[r/n,b] -> x[r,a+b]: the transpose; n rows of y share one of z
  repeat_heads,      ///< x[b,s,g,d] -> y[b,s,g*n,d]: each head n times
  sum_heads,         ///< dy[b,s,g*n,d] -> dx[b,s,g,d]: its transpose
  reorder,           ///< x -> y: gathered shards of dim 1 into natural order (all-gather CP);
                     ///< with `inverse`: natural order into shards; `block`: of which tokens
  attend,            ///< q, k, v -> o[b,s,h,d], lse[b,h,s] of this block alone; rows that see no
                     ///< key give o = 0, lse = -inf. With `accumulate`: combined into o, lse
  merge_attention,   ///< o_block, lse_block -> o (+), lse (+): combine two partial results
  attention_delta,   ///< o, do -> delta[b,h,s] = rowsum(o * do)
  attend_backward,   ///< q, k, v, do, lse, delta -> dq (+), dk, dv of this block; `accumulate` adds to
                     ///< dq alone, dk and dv are written
  score,             ///< q[b,s,h,d], k[b,n,g,d] -> x[b,h,s,n]: products of rows; of a block divided by
                     ///< sqrt(d), -inf where its mask lets nothing through
  softmax,           ///< x -> p, row by row; rows without a score give 0
  softmax_backward,  ///< p, dp -> dx = scale * p (dp - rowsum(p dp))
  weigh,             ///< p[b,h,s,n], v[b,n,g,d] -> o[b,s,h,d] (+); transpose_a: p[b,h,s,n],
                     ///< x[b,s,h,d] -> y[b,n,g,d] (+), heads that share one of y summed
  swiglu,            ///< x[t,f,2] (gate, up)[, w[t]] -> y[t,f], rows times w if given
  swiglu_backward,   ///< x, dy[, w] -> dx[, dw]
  gelu,              ///< x -> y
  gelu_backward,     ///< x, dy -> dx
  route,             ///< logits[b,s,e] -> w[b,s,k]: weights of the k experts that each token passes
  route_backward,    ///< logits, dw -> dlogits
  dispatch,          ///< x[b,s,m][, w[b,s,k]] -> y[e,c,m][, v[e,c]]: each token (and its weights) to
                     ///< a row of each of its experts; rows without a token are 0
                     ///< (`route`: of which ranks' tokens the rows of x are, if not of the own)
  combine,           ///< y[e,c,m][, v[e,c]] -> x[b,s,m][, w[b,s,k]]: the transpose of dispatch
  embed,             ///< tokens[t], table[v,m] -> y[t,m]: rows outside this shard give 0
  embed_backward,    ///< tokens, dy -> dtable (always +)
  loss_statistics,   ///< logits[t,v], labels[t] -> stats[t,3]: max, sum exp(x-max), logit of the label
  loss,              ///< logits, labels, stats[n,t,3] -> loss[t], dlogits[t,v] = (softmax - onehot)*scale;
                     ///< dlogits may be the logits themselves
  adam,              ///< master (fp32), grad, m, v -> master, m, v: one step
  host,              ///< the host works for `host_time`; with `waits` it waits for the compute stream
                     ///< first (a value read back), which stands still meanwhile; with `not_before`
                     ///< it goes on at that time of the step (data that others read)
  wait,              ///< the compute stream waits for all that was given to stream `awaited`
  exchange,          ///< messages sent and received at once: reads x_i go to member me + to[i],
                     ///< writes y_j come from member me - from[j] (cyclic). Messages from one rank to
                     ///< another on one stream arrive in the order they are sent
  all_gather,        ///< x_i -> y_i along `dim`
  reduce_scatter,    ///< x_i -> y_i (+) along `dim`, summed
  all_reduce,        ///< x_i -> x_i, summed; or x_i -> y_i (+)
  all_to_all,        ///< x_i -> y_i: cut along `dim`, joined along `join_dim`
  broadcast,         ///< x_i -> y_i: what member `root` reads, to all
  node_dispatch,     ///< x_i[b,s,..] -> y_i[n c,..]: each token once to every member that has one of its
                     ///< experts, n members with c rows each. Over the network once per node, to the
                     ///< member of equal place there, which passes it on (`route`; DeepEP)
  node_combine,      ///< y_i[n c,..] -> x_i[b,s,..]: the transpose, summed in each node first
  send_receive,      ///< x_i -> y_i: x_i to member (me + shift), y_i from member (me - shift)
  to_host,           ///< x_i -> y_i (+): copies from the GPU's memory to its host's
  from_host,         ///< x_i -> y_i: and back
  host_zero,         ///< -> x_i: the host's processor fills its memory with zeros
  host_copy,         ///< x_i -> y_i: it copies or casts; y_i may be x_i: a pass that scales
  host_adam,         ///< master, grad, m, v -> master, m, v[, w]: one step by the host's processor;
                     ///< w is the new master in its own element type
};
const char* name_of(Op op);
bool is_collective(Op op);     ///< all ranks of a group, each at the same place of the program
bool is_token_exchange(Op op); ///< node_dispatch, node_combine
bool is_communication(Op op);  ///< moves bytes over links: collectives, exchanges, work of the host
bool is_host_work(Op op);      ///< to or in host memory; its group is each rank by itself

/// The in-order queues of a rank. `outer` is for what crosses between groups while something else
/// runs within them: outer rings beside inner ones, sums over groups that share ZeRO's states.
/// `pipeline_back` carries gradients beside the activations on `pipeline`. Offload: `copy` to host
/// memory, `fetch` from it (a GPU has a copy engine for each way), `processor` what the host computes.
enum class Stream {
  compute, context, tensor, data, pipeline, copy, outer, expert, pipeline_back, fetch, processor
};
constexpr int stream_count = 11;
const char* name_of(Stream stream);

/// Why the step spends this time: rows of the step's breakdown.
enum class Part { forward, recompute, backward, gradient_reduction, parameter_gather, optimizer };
const char* name_of(Part part);

/// The attention problem a program solves, shared by all its attend instructions.
struct AttentionGeometry {
  std::int64_t sequence = 0;  ///< global tokens
  std::int64_t ring = 1;      ///< shards of the sequence that attend to each other in turn
  SequenceOrder order = SequenceOrder::contiguous;
  MaskSpec mask;
  /// Probabilities are dropped at random in training: a matter of time alone. The reference executor
  /// drops none.
  bool dropout = false;
  /// Keys that stand before the sequence in a cache, which every query follows: the first
  /// cached / ring keys of each shard, dealt in order, of striped sequences striped.
  std::int64_t cached = 0;

  [[nodiscard]] std::int64_t shard_queries() const { return sequence / ring; }
  [[nodiscard]] std::int64_t shard_keys() const { return (cached + sequence) / ring; }
};

/// Which block of the attention problem one attend, attend_backward or merge_attention is about:
/// queries of shard `query_owner` against keys of shard `key_owner` (absent: all keys, in
/// natural order, of striped sequences shard by shard). In a double ring a shard is place `owner` of inner ring `node`, with
/// `node_shards` shards each; query_shard() and key_shard() of sim/program/cursor.h add up.
struct AttentionBlock {
  Index query_owner;
  std::optional<Index> key_owner;
  std::optional<Index> query_node = std::nullopt;
  std::optional<Index> key_node = std::nullopt;
  std::int64_t node_shards = 0;
  /// Of every shard's tokens the first half alone take part, as queries and as keys: the first half
  /// of the sequence, where shards are striped, zigzag or the whole. A zigzag half is contiguous.
  bool first_half = false;
};

/// Which tokens pass which experts, and whose tokens stand in rows: of route, dispatch, combine and
/// their kin.
struct TokenRoute {
  /// Node-limited routing: a token's experts lie in at most `group_limit` of `groups` equal groups of
  /// neighbouring experts.
  std::int64_t groups = 1;
  std::int64_t group_limit = 1;
  /// dispatch, combine: x has rows of the tokens of each member of this group, member by member.
  /// Absent: of the rank's own tokens.
  std::optional<GroupId> sources = std::nullopt;
  bool selected = false;  ///< ... only of those tokens that pass an expert of this rank
  TensorId tokens = {};   ///< with sources: a tensor [b, s, ..] whose layout says who has which
  // node_dispatch, node_combine:
  std::int64_t experts = 0;     ///< of the layer
  std::int64_t node_ranks = 1;  ///< neighbours of the group that share a node
  std::int64_t node_rows = 0;   ///< rows that a member sends to each node at most
  int sms = 0;                  ///< that the kernel holds
};

/// One instruction. Fields beyond op, stream and operands matter only to the ops that name them.
struct Instruction {
  Op op = Op::copy;
  Stream stream = Stream::compute;
  Part part = Part::forward;
  /// Ranks and turns that execute it: all of these hold. Of loop_begin: that enter the loop.
  std::vector<Condition> when;
  std::string label;                 ///< for people: "qkv projection", "ring exchange"
  std::vector<TensorRef> reads;
  std::vector<TensorRef> writes;
  bool accumulate = false;           ///< see Op
  bool transpose_a = false;          ///< gemm: A stands as [k, m]; weigh
  bool transpose_b = false;          ///< gemm: B stands as [n, k]
  bool inverse = false;              ///< reorder
  bool fused = false;                ///< costs nothing of its own: part of the previous kernel
  std::optional<AttentionBlock> block;
  std::optional<GroupId> group;      ///< collectives
  int dim = 0;                       ///< collectives
  int join_dim = 0;                  ///< all_to_all
  int root = 0;                      ///< broadcast
  int shift = 1;                     ///< send_receive
  std::vector<int> to;               ///< exchange, by read
  std::vector<int> from;             ///< exchange, by write
  Stream awaited = Stream::pipeline; ///< wait
  double scale = 1.0;                ///< loss, softmax_backward
  std::int64_t experts_per_token = 0;  ///< dispatch, combine, node_dispatch, node_combine
  TokenRoute route;                  ///< the same, and route
  bool full_precision = false;       ///< gemm: in the operands' type, not Program::product_type
  double weight_casts = 1.0;         ///< gemm: share of its runs that cast B to the product type
  double launches = 1.0;             ///< kernels that the stack launches for it
  double traffic = 1.0;              ///< bytes they move, in bytes that the op must (attend: beyond 1,
                                     ///< copies of its operands around it)
  bool pageable = false;             ///< to_host, from_host: of memory that is not pinned
  /// Communication: called for behind all that the compute stream was given before, and begins once
  /// that is done, though what it reads may have been there for long.
  bool behind_compute = false;
  Seconds host_time;                 ///< host
  Seconds not_before;                ///< host: it goes on at this time of the step, or later
  bool waits = false;                ///< host
  LoopId loop;                       ///< loop_begin, loop_end
};

/// A loop and how often its body runs (at least once on some rank).
struct Loop {
  std::string name;  ///< "layers forward", "ring steps", "micro-batches"
  std::int64_t count = 1;
  /// The body does the same work in every turn (no timing depends on the counter), so the engine
  /// may skip turns once they repeat.
  bool uniform = false;
  /// Where stages of a pipeline differ, by stage: turns (`count` is then the most of them), and the
  /// range of turns [first, second) to which `uniform` refers.
  std::vector<std::int64_t> stage_counts = {};
  std::vector<std::pair<std::int64_t, std::int64_t>> stage_uniform = {};
  std::int64_t period = 1;  ///< uniform: turns so far apart do the same work

  [[nodiscard]] std::int64_t turns(const Mesh& mesh, RankId rank) const;
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> uniform_turns(const Mesh& mesh,
                                                                    RankId rank) const;
};

/// The host that launches a rank's instructions one after another, ahead of the GPU by no more than
/// its queue holds. docs/models/software.md.
struct Host {
  Seconds launch;             ///< per kernel
  Seconds collective;         ///< per collective
  double queue = 1024.0;      ///< kernels launched ahead: CUDA's pending launches
  /// Memory that a collective used is free again only once the host has seen it done
  /// (Tensor.record_stream); not so what tensor ranks gather, if that stands in a buffer of its own.
  bool record_streams = false;
  bool gather_buffer = false;
  /// Messages of a ring are launched behind the attention kernel that runs beside them, on a stream
  /// of no higher priority: they get SMs once all tiles of that kernel have begun.
  bool late_messages = false;
  /// Per segment that the framework's allocator takes from the driver within the step; 0: it keeps
  /// those of the step before, and takes none.
  Seconds segment;
  /// With which a rank's host works on its memory; 0: as many as the memory feeds.
  double threads = 0.0;
};

/// Where the passes of a micro-batch stand in the code of a pipeline that splits backward passes:
/// places [first, second). `last_weights` are the weight gradients that are left for the end.
struct PassPlaces {
  std::pair<std::size_t, std::size_t> forward{0, 0};
  std::pair<std::size_t, std::size_t> backward{0, 0};
  std::pair<std::size_t, std::size_t> weights{0, 0};
  std::pair<std::size_t, std::size_t> last_weights{0, 0};
};

struct Program {
  std::string name;
  Mesh mesh;
  std::vector<Group> groups;
  std::vector<Tensor> tensors;
  std::vector<Loop> loops;
  std::vector<Instruction> code;
  AttentionGeometry attention;
  /// Type the matrix products of the layers compute in (fp8: operands are cast on the way in).
  DataType product_type = DataType::bf16;
  Host host;
  double slowdown = 1.0;   ///< of every kernel: the slowest GPU's speed
  bool pads_rows = false;    ///< rows that are odd in shape stand padded to an even length
  Seconds gap;  ///< what a launch takes at least, however short its kernel: nothing is launched ahead
  bool unset_weights = false;  ///< products are of weights that were never set
  bool separate_query_sums = false;  ///< kernels give dq in the type of q, which a pass adds up
  bool sliced_merges = false;  ///< merges of some of a block's rows work on copies of these
  Seconds grouped_product;  ///< what each member adds to the time of a grouped product
  Bytes framework_memory;  ///< held on every GPU besides tensors (CUDA context, ...)
  bool expandable_segments = false;  ///< of the framework's allocator
  /// The stages of a pipeline begin their next step when they have ended this one, whatever the others
  /// do: the step is the longest time of any rank, without its wait for the first input.
  bool steps_apart = false;
  PassPlaces passes;

  [[nodiscard]] const Tensor& tensor(TensorId id) const { return tensors[id.index]; }
  [[nodiscard]] const Group& group(GroupId id) const { return groups[id.index]; }
};

/// Verifies the structure: ids exist, loops nest and balance, slices fit, operand counts match
/// the op, collectives have groups and gather
/// nothing in another type, tensors in host memory are touched by the host and by copies
/// alone. Throws BugError naming the fault.
void check_program(const Program& program);

}  // namespace longhaul
