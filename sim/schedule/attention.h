// Attention over a sequence dealt to ranks: one interface, one file per method.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sim/scenario/scenario.h"
#include "sim/schedule/builder.h"

namespace longhaul {

/// Sizes and layouts every part of a schedule needs; all counts are local to a rank.
struct Shapes {
  explicit Shapes(const Scenario& scenario);
  std::int64_t batch = 1;   ///< sequences per micro-batch
  std::int64_t tokens = 0;  ///< tokens of a sequence on a rank: S / (ring x ulysses)
  std::int64_t cached = 0;  ///< keys in a ring rank's cache before the pass
  std::int64_t heads = 0;   ///< query heads after tensor parallelism
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t value_dim = 0;  ///< of values and outputs: head_dim but for latent attention
  std::int64_t ring = 1;
  std::int64_t ulysses = 1;
  std::int64_t tensor = 1;
  bool chunked = false;     ///< RingVariant::chunked_offload
  std::int64_t chunks = 1;  ///< of the sequence, one after another
  DataType type = DataType::bf16;          ///< activations
  DataType travelling = DataType::fp32;    ///< key/value gradients on their way around a ring
  bool synchronous_hops = false;           ///< the host waits for the GPU before each hop of a ring
  std::vector<Shard> token_shards;         ///< of the token dimension on a rank
  std::vector<Shard> ring_shards;          ///< of the token dimension after Ulysses' all-to-all
  std::vector<Shard> head_shards;          ///< of the head dimension
  std::vector<Shard> ulysses_head_shards;  ///< of the head dimension after the all-to-all

  /// [batch, tokens, heads, channels (0: head_dim)] as a rank holds it before any exchange.
  [[nodiscard]] TensorSpec heads_spec(std::int64_t head_count, std::int64_t channels = 0) const;
  /// The same after Ulysses' all-to-all: ring-local tokens, fewer heads.
  [[nodiscard]] TensorSpec core_spec(std::int64_t head_count, std::int64_t channels = 0) const;
  // A block of a ring: core_spec of what travels or is kept, by category and type.
  [[nodiscard]] TensorSpec core_queries(MemoryCategory category, DataType wanted) const;
  [[nodiscard]] TensorSpec core_keys(MemoryCategory category, DataType wanted) const;
  /// As wide as values, which latent attention makes narrower than its keys.
  [[nodiscard]] TensorSpec core_outputs(MemoryCategory category, DataType wanted) const;
  [[nodiscard]] TensorSpec core_values(MemoryCategory category, DataType wanted) const;
  /// A number of each row: statistics of the softmax. [batch, heads, tokens], fp32.
  [[nodiscard]] TensorSpec core_rows(MemoryCategory category) const;
  [[nodiscard]] std::int64_t core_tokens() const { return tokens * ulysses; }
  /// Keys of a ring rank: cached ones and those of its tokens.
  [[nodiscard]] std::int64_t core_key_tokens() const { return cached + core_tokens(); }
  [[nodiscard]] std::int64_t core_heads() const { return heads / ulysses; }
  /// Key/value heads of a rank after the all-to-all; replicated when they run out.
  [[nodiscard]] std::int64_t core_kv_heads() const;
  /// How often each key/value head is replicated before the all-to-all (1: not at all).
  [[nodiscard]] std::int64_t replication() const;
};

/// The attention problem of a scenario, as its program states it.
AttentionGeometry attention_geometry(const Scenario& scenario);

/// Passes over the model in a step: only training and pipelines have several.
std::int64_t micro_batches_of(const Scenario& scenario);

/// True if a training step keeps masks of dropout: GPT-like models on stacks that train them so.
bool keeps_dropout_masks(const Scenario& scenario);

/// What attention keeps from forward to backward.
struct AttentionState {
  TensorRef q, k, v;  ///< what the kernels saw: [b, s, h, d] after any exchange
  TensorRef o;        ///< the kernels' output, same layout as q
  TensorRef lse;      ///< [b, h, s]
  /// Of kernels that store scores (ContextAttention::keeps_scores): probabilities [b, h, s, n] of
  /// all n keys, and with dropout what is left of them and the mask.
  std::vector<TensorRef> scores;
};

/// The part of a method that runs on ring-local tokens: local, ring or all-gather.
class AttentionCore {
 public:
  virtual ~AttentionCore() = default;
  /// Emits o, lse = attention(q, k, v). o and lse are allocated by the caller.
  virtual void forward(ProgramBuilder& build, const AttentionState& state) const = 0;
  /// Emits dq, dk, dv (allocated by the caller) from the state and do.
  virtual void backward(ProgramBuilder& build, const AttentionState& state, TensorRef d_o,
                        TensorRef dq, TensorRef dk, TensorRef dv) const = 0;
};

std::unique_ptr<AttentionCore> make_local_attention(const Shapes& shapes);
std::unique_ptr<AttentionCore> make_ring_attention(const Shapes& shapes,
                                                   const ContextPlan& context);
/// A ring whose idle ranks compute for those with more work (RingVariant::helpers).
std::unique_ptr<AttentionCore> make_helper_attention(const Shapes& shapes);
/// A ring that stores its scores (RingVariant::materialised); needs AttentionState::scores.
std::unique_ptr<AttentionCore> make_score_ring(const Shapes& shapes);
std::unique_ptr<AttentionCore> make_all_gather_attention(const Shapes& shapes, SequenceOrder order);

/// The plain list of methods: the core that a plan's context method runs.
std::unique_ptr<AttentionCore> make_core(const ContextPlan& context, const Shapes& shapes);
/// The same for the first half of every rank's tokens, which is the first half of the sequence:
/// tokens are striped, zigzag or all on one rank.
std::unique_ptr<AttentionCore> make_half_core(ContextPlan context, Shapes shapes);

/// The whole of attention on a rank: Ulysses' exchanges around the core (docs/models/context_parallelism.md).
class ContextAttention {
 public:
  ContextAttention(const Scenario& scenario, const Shapes& shapes);
  /// From q, k, v to o, all [b, tokens, heads, d]. Leaves the kept state allocated in `slot` of
  /// tensors with `slots` slots; q, k, v are released if an exchange made copies of them. A prefill
  /// leaves keys and values in its cache, in the place of layer `layer`.
  AttentionState forward(ProgramBuilder& build, TensorRef q, TensorRef k, TensorRef v, TensorRef o,
                         std::int64_t slots, Index slot, const Index& layer) const;
  /// The first half of forward(): only what the kernels read, q, k, v, is made (again).
  AttentionState exchange_in(ProgramBuilder& build, TensorRef q, TensorRef k, TensorRef v,
                             std::int64_t slots, Index slot) const;
  /// Gives back what selective recompute does not keep: the kernels' output and statistics.
  void forget(ProgramBuilder& build, const AttentionState& state) const;
  /// Runs the core again to restore what forget() gave back.
  void recompute(ProgramBuilder& build, const AttentionState& state) const;
  /// In place of the kernels' output and statistics keeps those of the later half of the tokens
  /// (BurstEngine, arXiv 2509.19836): o, and what exchange it came from, are given back.
  void keep_later_half(ProgramBuilder& build, const AttentionState& state, TensorRef o,
                       std::int64_t slots, Index slot) const;
  /// Attends again for the first half, and joins the two to all that keep_later_half() gave back.
  void restore_first_half(ProgramBuilder& build, const AttentionState& state, TensorRef o,
                          std::int64_t slots, Index slot) const;
  /// The state a forward pass would have left, as tensors held from the start (backward alone).
  AttentionState given(ProgramBuilder& build, TensorRef q, TensorRef k, TensorRef v,
                       TensorRef o) const;
  /// From do to dq, dk, dv (allocated by the caller); releases nothing of the state.
  void backward(ProgramBuilder& build, const AttentionState& state, TensorRef d_o, TensorRef dq,
                TensorRef dk, TensorRef dv) const;
  /// Gives back the scores of the state, if it keeps any.
  void drop_scores(ProgramBuilder& build, const AttentionState& state) const;
  /// True if backward needs the scores themselves: kernels that are not fused, on a whole sequence,
  /// and rings that store them. (Pieces of other rings compute them again from the statistics.)
  [[nodiscard]] bool keeps_scores() const { return keeps_scores_; }
  /// True if the kernels' q, k, v, o are other tensors than the rank's own.
  [[nodiscard]] bool exchanges() const { return shapes_.ulysses > 1; }

  // The sequence in chunks that wait in host memory (sim/schedule/chunked.cpp). The state's tensors
  // stand there, with a slot per chunk. A chunk's pieces are what a rank has of it: [b, tokens /
  // chunks, heads, d].
  /// Gives q, k, v pieces of a chunk, allocated; they are released behind their exchange.
  using ProjectChunk = std::function<std::array<TensorRef, 3>(const Index& chunk)>;
  /// Takes dq, dk, dv pieces of a chunk, and releases them.
  using TakeGradients =
      std::function<void(const Index& chunk, const std::array<TensorRef, 3>& gradients)>;
  [[nodiscard]] bool is_chunked() const { return shapes_.chunked; }
  /// From what `project` gives, chunk by chunk, to o, allocated by the caller.
  AttentionState chunked_forward(ProgramBuilder& build, const ProjectChunk& project,
                                 TensorRef o) const;
  /// From do to what `take` is given, chunk by chunk; gives back the state.
  void chunked_backward(ProgramBuilder& build, const AttentionState& state, TensorRef d_o,
                        const TakeGradients& take) const;
  /// Gives back the state of a forward pass that no backward pass follows.
  void release_chunks(ProgramBuilder& build, const AttentionState& state) const;
  /// The same of any tensors in host memory with a slot per chunk.
  void release_hosts(ProgramBuilder& build, const std::vector<TensorRef>& hosts) const;
  /// What a rank has of chunk `chunk` of a tensor [b, tokens, ..].
  [[nodiscard]] TensorRef piece_of(TensorRef whole, const Index& chunk) const;
  /// Such pieces of q, k, v; of their gradients if `prefix` is "d".
  [[nodiscard]] std::array<TensorRef, 3> fresh_pieces(ProgramBuilder& build,
                                                      const std::string& prefix) const;
  /// Copies chunks to their places in host memory, which it allocates.
  void send(ProgramBuilder& build, const std::string& name, const std::vector<TensorRef>& chunks,
            const std::vector<TensorRef>& hosts) const;
  /// A tensor in host memory with a slot per chunk, of which `spec` is one.
  TensorRef on_host(ProgramBuilder& build, const std::string& name, TensorSpec spec) const;

 private:
  struct ChunkGradients;
  struct QueryChunk;
  void choose_caches(const Scenario& scenario);
  void fill_cache(ProgramBuilder& build, TensorRef k, TensorRef v, const Index& layer) const;
  [[nodiscard]] TensorRef into_cache(ProgramBuilder& build, const std::string& name, TensorSpec cache,
                                     TensorRef x, const Index& layer) const;
  [[nodiscard]] AttentionState with_cached(ProgramBuilder& build, AttentionState state,
                                           const Index& layer) const;
  [[nodiscard]] TensorSpec piece_spec(std::int64_t heads, std::int64_t channels = 0) const;
  [[nodiscard]] TensorSpec chunk_spec(TensorSpec core, MemoryCategory category) const;
  AttentionState chunks_on_host(ProgramBuilder& build) const;
  [[nodiscard]] Index distance(LoopId column, LoopId row) const;
  void rotate(ProgramBuilder& build, Op op, const std::string& name, TensorRef x,
              const Index& chunk) const;
  AttentionState fetched_keys(ProgramBuilder& build, const Index& chunk) const;
  void fetch_keys(ProgramBuilder& build, const AttentionState& hosts, const Index& chunk) const;
  AttentionState exchange_chunk_in(ProgramBuilder& build, const std::array<TensorRef, 3>& pieces,
                                   const Index& chunk) const;
  void attend_chunks(ProgramBuilder& build, const AttentionState& hosts, AttentionState& chunk,
                     LoopId rows) const;
  QueryChunk fetched_queries(ProgramBuilder& build, const Index& chunk, bool own) const;
  void fetch_queries(ProgramBuilder& build, const AttentionState& hosts,
                     const ChunkGradients& gradients, const Index& row, const Index& chunk,
                     bool own) const;
  void attend_chunk_backward(ProgramBuilder& build, const QueryChunk& query,
                             const AttentionState& keys, TensorRef dk_sum, TensorRef dv_sum,
                             const AttentionBlock& block) const;
  void hold_queries(ProgramBuilder& build, bool hold) const;
  void key_chunk_backward(ProgramBuilder& build, const AttentionState& hosts,
                          const ChunkGradients& gradients, LoopId rows,
                          const TakeGradients& take) const;
  TensorRef own_queries_backward(ProgramBuilder& build, const AttentionState& hosts,
                                 const ChunkGradients& gradients, const AttentionState& keys,
                                 const std::array<TensorRef, 2>& sums, const Index& row) const;
  void later_queries_backward(ProgramBuilder& build, const AttentionState& hosts,
                              const ChunkGradients& gradients, const AttentionState& keys,
                              const std::array<TensorRef, 2>& sums, LoopId rows) const;
  std::array<TensorRef, 3> chunk_gradients_home(ProgramBuilder& build, TensorRef dq,
                                                TensorRef dk_sum, TensorRef dv_sum,
                                                const Index& row) const;
  AttentionState forward_of_pieces(ProgramBuilder& build, TensorRef q, TensorRef k, TensorRef v,
                                   TensorRef o) const;
  void backward_of_pieces(ProgramBuilder& build, const AttentionState& state, TensorRef d_o,
                          TensorRef dq, TensorRef dk, TensorRef dv) const;
  /// A tensor on its way through an all-to-all.
  struct Move {
    std::string name;
    TensorRef from, to;
  };
  enum class Way { in, back };  ///< heads are cut and tokens joined, or the reverse
  [[nodiscard]] TensorRef destination(ProgramBuilder& build, const std::string& name,
                                      TensorRef from, std::int64_t head_count, std::int64_t slots,
                                      Index slot) const;
  void exchange(ProgramBuilder& build, const std::vector<Move>& moves, Way way) const;
  void exchange_together(ProgramBuilder& build, const std::vector<Move>& moves, Way way) const;
  void lone_copies(ProgramBuilder& build, const std::vector<TensorRef>& refs) const;
  void unpack(ProgramBuilder& build, const std::vector<TensorRef>& refs) const;
  [[nodiscard]] TensorSpec statistics_spec(std::int64_t slots) const;
  [[nodiscard]] AttentionState later_half(ProgramBuilder& build, const AttentionState& state,
                                          std::int64_t slots, Index slot) const;
  TensorRef replicated(ProgramBuilder& build, const std::string& name, TensorRef from) const;
  void gradients_home(ProgramBuilder& build, std::vector<Move> gradients) const;
  [[nodiscard]] std::vector<TensorRef> scores(ProgramBuilder& build, std::int64_t slots,
                                              Index slot) const;
  Shapes shapes_;
  std::unique_ptr<AttentionCore> core_;
  std::unique_ptr<AttentionCore> half_core_;  ///< where half of the sequence attends again
  bool keeps_scores_;
  /// Layers and micro-batches that a prefill keeps keys and values of (0: none); by stage which.
  std::int64_t caches_ = 0;
  std::vector<std::vector<std::int64_t>> caches_of_stages_;
  bool drops_;
  bool rotates_chunks_;  ///< positions are embedded behind the exchange
  bool packed_;       ///< q, k, v in one exchange
  bool packed_copies_;  ///< and the core works on copies of k and v
  bool copies_;       ///< the stack puts tensors in order around an exchange
  bool lone_copies_;  ///< ... even if there is nobody to exchange with
};

}  // namespace longhaul
