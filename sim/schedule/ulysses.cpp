// DeepSpeed-Ulysses (arXiv 2309.14509): an all-to-all turns a piece of the sequence with all heads
// into the whole (ring-local) sequence with a piece of the heads, attention runs on that, and a
// second all-to-all turns its output back. Around a ring core this is USP (arXiv 2405.07719).
// When key/value heads run out, each is replicated before the exchange and its gradients summed.
#include "sim/schedule/attention.h"
#include "sim/schedule/stages.h"

#include "sim/units/check.h"

namespace longhaul {

namespace {

constexpr int tokens_dim = 1;
constexpr int heads_dim = 2;

}  // namespace

ContextAttention::ContextAttention(const Scenario& scenario, const Shapes& shapes)
    : shapes_(shapes),
      core_(make_core(scenario.plan.context, shapes)),
      keeps_scores_(shapes.ring == 1
                        ? scenario.attention_kernel == "unfused" &&
                              scenario.workload.phase != Phase::attention
                        : scenario.plan.context.variant == RingVariant::materialised),
      drops_(keeps_dropout_masks(scenario)),
      rotates_chunks_(scenario.workload.phase != Phase::attention &&
                      scenario.model.positions == PositionEmbedding::rope),
      packed_(scenario.plan.context.packed_qkv),
      packed_copies_(packed_ && scenario.stack().packed_copies),
      copies_(scenario.stack().exchange_copies),
      lone_copies_(scenario.stack().lone_exchange_copies && !packed_) {
  if (scenario.workload.phase == Phase::prefill) {
    choose_caches(scenario);
  }
  if (scenario.plan.recompute_detail == RecomputeDetail::keep_attention_output_part) {
    half_core_ = make_half_core(scenario.plan.context, shapes);
  }
}

// The model's caches stand micro-batch by micro-batch, layer by layer; a stage has its layers'.
void ContextAttention::choose_caches(const Scenario& scenario) {
  const Stages stages(scenario);
  const std::int64_t micro_batches = micro_batches_of(scenario);
  caches_ = stages.most_layers() * micro_batches;
  for (const auto& layers : stages.layers()) {
    auto& mine = caches_of_stages_.emplace_back();
    for (std::int64_t micro_batch = 0; micro_batch < micro_batches; ++micro_batch) {
      for (const std::int64_t layer : layers) {
        mine.push_back(micro_batch * scenario.model.layers + layer);
      }
    }
  }
}

// Probabilities (also where nothing is saved: softmax writes them beside the scores), and with
// dropout the mask and the product of the two, which the product with V saved (arXiv 2205.05198,
// section 4.1: 2, 1 and 2 bytes per score).
std::vector<TensorRef> ContextAttention::scores(ProgramBuilder& build, std::int64_t slots,
                                                Index slot) const {
  std::vector<TensorRef> kept;
  if (!keeps_scores_) {
    return kept;
  }
  TensorSpec spec;
  spec.shape = {shapes_.batch, shapes_.core_heads(), shapes_.core_tokens(),
                shapes_.core_key_tokens() * shapes_.ring};
  spec.shards = {
      {{Axis::data, SequenceOrder::contiguous}}, shapes_.ulysses_head_shards, shapes_.ring_shards, {}};
  spec.type = shapes_.type;
  spec.slots = slots;
  kept.push_back(build.fresh("attention_probabilities", spec, slot));
  if (drops_) {
    kept.push_back(build.fresh("attention_probabilities_dropped", spec, slot));
    spec.type = DataType::fp8;  // one byte per element
    kept.push_back(build.fresh("attention_probabilities_mask", spec, slot));
  }
  return kept;
}

void ContextAttention::drop_scores(ProgramBuilder& build, const AttentionState& state) const {
  for (const TensorRef& scores : state.scores) {
    build.release({scores});
  }
}

// `from` with its key/value heads repeated so that every rank of the exchange gets one.
TensorRef ContextAttention::replicated(ProgramBuilder& build, const std::string& name,
                                       TensorRef from) const {
  TensorSpec spec =
      shapes_.heads_spec(shapes_.kv_heads * shapes_.replication(), build.of(from).shape[3]);
  spec.category = MemoryCategory::communication;
  const TensorRef made = build.fresh(name + "_replicated", spec);
  build.compute(Op::repeat_heads, "replicate " + name + " heads", {from}, {made});
  return made;
}

TensorRef ContextAttention::destination(ProgramBuilder& build, const std::string& name,
                                        TensorRef from, std::int64_t head_count,
                                        std::int64_t slots, Index slot) const {
  TensorSpec spec = shapes_.core_spec(head_count, build.of(from).shape[3]);
  spec.slots = slots;
  return build.fresh(name + "_exchanged", spec, slot);
}

void ContextAttention::exchange(ProgramBuilder& build, const std::vector<Move>& moves,
                                Way way) const {
  if (packed_) {
    exchange_together(build, moves, way);
    return;
  }
  for (const Move& move : moves) {
    exchange_together(build, {move}, way);
  }
}

// An all-to-all sends pieces that are contiguous by destination and leaves them so by source. A
// tensor [b, s, h, d] is neither where heads are cut or joined, nor, of several sequences, where
// tokens are.
void ContextAttention::exchange_together(ProgramBuilder& build, const std::vector<Move>& moves,
                                         Way way) const {
  const bool in = way == Way::in;
  const bool orders_sent = copies_ && (in || shapes_.batch > 1);
  const bool orders_received = copies_ && (!in || shapes_.batch > 1);
  const auto scratch = [&](const std::string& name, TensorRef like) {
    return build.fresh(name, build.spec_like(like, MemoryCategory::communication));
  };
  std::string label = "all-to-all";
  std::vector<TensorRef> sent, received;
  for (const Move& move : moves) {
    label += " " + move.name;
    sent.push_back(move.from);
    received.push_back(move.to);
    if (orders_sent) {
      sent.back() = scratch(move.name + "_by_destination", move.from);
      build.compute(Op::copy, move.name + " by destination", {move.from}, {sent.back()});
    }
    if (orders_received) {
      received.back() = scratch(move.name + "_by_source", move.to);
    }
  }
  Instruction& collective =
      build.collective(Op::all_to_all, Stream::context, *build.group("ulysses", {Axis::ulysses}),
                       label, sent, received);
  collective.dim = in ? heads_dim : tokens_dim;
  collective.join_dim = in ? tokens_dim : heads_dim;
  for (std::size_t i = 0; i < moves.size(); ++i) {
    if (orders_sent) {
      build.release({sent[i]});
    }
    if (orders_received) {
      build.compute(Op::copy, moves[i].name + " from order by source", {received[i]},
                    {moves[i].to});
      build.release({received[i]});
    }
  }
}

// There and back in order, as around an exchange, with nothing exchanged between.
void ContextAttention::lone_copies(ProgramBuilder& build,
                                   const std::vector<TensorRef>& refs) const {
  if (!lone_copies_) {
    return;
  }
  for (const TensorRef& ref : refs) {
    const std::string name = build.of(ref).name;  // a copy: new tensors move the list
    const TensorRef other = build.fresh(
        name + "_by_destination", build.spec_like(ref, MemoryCategory::communication));
    build.compute(Op::copy, name + " by destination", {ref}, {other});
    build.compute(Op::copy, name + " from order by source", {other}, {ref});
    build.release({other});
  }
}

// Slices of one packed tensor are copied to tensors of their own, which is what is used from there on.
void ContextAttention::unpack(ProgramBuilder& build, const std::vector<TensorRef>& refs) const {
  if (!packed_copies_) {
    return;
  }
  for (const TensorRef& ref : refs) {
    const std::string name = build.of(ref).name;  // a copy: new tensors move the list
    const TensorRef own = build.fresh(
        name + "_unpacked", build.spec_like(ref, MemoryCategory::workspace));
    build.compute(Op::copy, name + " out of the packed tensor", {ref}, {own});
    build.compute(Op::copy, name + " in its stead", {own}, {ref}).fused = true;
    build.release({own});
  }
}

AttentionState ContextAttention::exchange_in(ProgramBuilder& build, TensorRef q, TensorRef k,
                                             TensorRef v, std::int64_t slots, Index slot) const {
  AttentionState state{q, k, v, {}, {}, {}};
  if (!exchanges()) {
    lone_copies(build, {q, k, v});
    unpack(build, {k, v});
    return state;
  }
  const bool replicates = shapes_.replication() > 1;
  const TensorRef k_sent = replicates ? replicated(build, "k", k) : k;
  const TensorRef v_sent = replicates ? replicated(build, "v", v) : v;
  state.q = destination(build, "q", q, shapes_.core_heads(), slots, slot);
  state.k = destination(build, "k", k_sent, shapes_.core_kv_heads(), slots, slot);
  state.v = destination(build, "v", v_sent, shapes_.core_kv_heads(), slots, slot);
  exchange(build, {{"q", q, state.q}, {"k", k_sent, state.k}, {"v", v_sent, state.v}}, Way::in);
  if (replicates) {
    build.release({k_sent, v_sent});
  }
  build.release({q, k, v});
  unpack(build, {state.k, state.v});
  return state;
}

// A prefill keeps every layer's keys and values.
void ContextAttention::fill_cache(ProgramBuilder& build, TensorRef k, TensorRef v,
                                  const Index& layer) const {
  TensorSpec cache = build.spec_like(k, MemoryCategory::kv_buffers);
  cache.slots = caches_;
  cache.stage_slots = caches_of_stages_;
  cache.persistent = true;
  cache.role = Role::output;
  build.compute(Op::copy, "keys into the cache", {k}, {build.tensor("k_cache", cache, layer)});
  build.compute(Op::copy, "values into the cache", {v}, {build.tensor("v_cache", cache, layer)});
}

// Behind what stands there ("k_cached": the bytes of `cache`, which it has held all along) adds x.
TensorRef ContextAttention::into_cache(ProgramBuilder& build, const std::string& name,
                                       TensorSpec cache, TensorRef x, const Index& layer) const {
  cache.slots = caches_;
  cache.stage_slots = caches_of_stages_;
  cache.persistent = true;
  const TensorRef whole = build.tensor(name + "_cache", cache, layer);
  cache.shape[1] = shapes_.cached;
  for (Shard& shard : cache.shards[1]) {
    const bool striped = shard.order == SequenceOrder::striped;
    shard.order = striped ? SequenceOrder::striped : SequenceOrder::contiguous;
  }
  cache.view = true;
  cache.role = Role::input;
  const auto part = [&](std::int64_t begin, std::int64_t length) {
    return ProgramBuilder::slice(whole, tokens_dim, Index::of(begin), length);
  };
  const TensorRef before = build.tensor(name + "_cached", cache, layer);
  build.compute(Op::copy, name + " in the cache", {before}, {part(0, shapes_.cached)}).fused = true;
  build.compute(Op::copy, name + " into the cache", {x},
                {part(shapes_.cached, shapes_.core_tokens())});
  return whole;
}

// What the kernels read: the whole cache, new tokens included, as a rank of the ring has it.
AttentionState ContextAttention::with_cached(ProgramBuilder& build, AttentionState state,
                                             const Index& layer) const {
  if (shapes_.cached > 0) {
    const auto kind = MemoryCategory::kv_buffers;
    state.k = into_cache(build, "k", shapes_.core_keys(kind, shapes_.type), state.k, layer);
    state.v = into_cache(build, "v", shapes_.core_values(kind, shapes_.type), state.v, layer);
  }
  return state;
}

AttentionState ContextAttention::forward(ProgramBuilder& build, TensorRef q, TensorRef k,
                                         TensorRef v, TensorRef o, std::int64_t slots, Index slot,
                                         const Index& layer) const {
  if (is_chunked()) {
    return forward_of_pieces(build, q, k, v, o);
  }
  if (caches_ > 0 && shapes_.cached == 0) {
    fill_cache(build, k, v, layer);
  }
  AttentionState state = exchange_in(build, q, k, v, slots, slot);
  state.o = o;
  if (exchanges()) {
    TensorSpec out = shapes_.core_spec(shapes_.core_heads(), shapes_.value_dim);
    out.slots = slots;
    state.o = build.fresh("o_exchanged", out, slot);
  }
  state.lse = build.fresh("lse", statistics_spec(slots), slot);
  state.scores = scores(build, slots, slot);
  core_->forward(build, with_cached(build, state, layer));
  if (exchanges()) {
    exchange(build, {{"o", state.o, o}}, Way::back);
  } else {
    lone_copies(build, {o});
  }
  return state;
}

void ContextAttention::forget(ProgramBuilder& build, const AttentionState& state) const {
  build.release({state.lse});
  drop_scores(build, state);
  if (exchanges()) {
    build.release({state.o});
  }
}

void ContextAttention::recompute(ProgramBuilder& build, const AttentionState& state) const {
  build.allocate(state.lse);
  for (const TensorRef& scores : state.scores) {
    build.allocate(scores);
  }
  if (exchanges()) {
    build.allocate(state.o);
  }
  core_->forward(build, state);
}

AttentionState ContextAttention::given(ProgramBuilder& build, TensorRef q, TensorRef k, TensorRef v,
                                       TensorRef o) const {
  AttentionState state{q, k, v, o, {}, {}};
  const auto held = [&](const std::string& name, std::int64_t heads, std::int64_t channels) {
    TensorSpec spec = shapes_.core_spec(heads, channels);
    spec.persistent = true;
    return build.tensor(name + "_exchanged", spec);
  };
  if (exchanges()) {
    state.q = held("q", shapes_.core_heads(), shapes_.head_dim);
    state.k = held("k", shapes_.core_kv_heads(), shapes_.head_dim);
    state.v = held("v", shapes_.core_kv_heads(), shapes_.value_dim);
    state.o = held("o", shapes_.core_heads(), shapes_.value_dim);
  }
  TensorSpec rows = statistics_spec(1);
  rows.persistent = true;
  state.lse = build.tensor("lse", rows);
  return state;
}

// Log-sum-exp per query and head, [b, h, s].
TensorSpec ContextAttention::statistics_spec(std::int64_t slots) const {
  TensorSpec rows;
  rows.shape = {shapes_.batch, shapes_.core_heads(), shapes_.core_tokens()};
  rows.shards = {
      {{Axis::data, SequenceOrder::contiguous}}, shapes_.ulysses_head_shards, shapes_.ring_shards};
  rows.type = DataType::fp32;
  rows.slots = slots;
  return rows;
}

// Gradients of q, k, v with the kernels' layout, exchanged back and summed over replicas.
void ContextAttention::gradients_home(ProgramBuilder& build, std::vector<Move> gradients) const {
  std::vector<Move> summed;
  for (Move& gradient : gradients) {
    if (shapes_.replication() > 1 && gradient.name != "dq") {
      TensorSpec spec = shapes_.heads_spec(shapes_.kv_heads * shapes_.replication(),
                                           build.of(gradient.to).shape[3]);
      spec.category = MemoryCategory::communication;
      const TensorRef replicas = build.fresh(gradient.name + "_replicated", spec);
      summed.push_back({gradient.name, replicas, gradient.to});
      gradient.to = replicas;
    }
  }
  exchange(build, gradients, Way::back);
  for (const Move& sum : summed) {
    build.compute(Op::sum_heads, "sum " + sum.name + " over replicas", {sum.from}, {sum.to});
    build.release({sum.from});
  }
}

void ContextAttention::backward(ProgramBuilder& build, const AttentionState& state, TensorRef d_o,
                                TensorRef dq, TensorRef dk, TensorRef dv) const {
  if (is_chunked()) {
    backward_of_pieces(build, state, d_o, dq, dk, dv);
    return;
  }
  if (!exchanges()) {
    lone_copies(build, {d_o});
    core_->backward(build, state, d_o, dq, dk, dv);
    lone_copies(build, {dq, dk, dv});
    return;
  }
  const TensorRef d_o_core =
      destination(build, "do", d_o, shapes_.core_heads(), 1, Index::of(0));
  exchange(build, {{"do", d_o, d_o_core}}, Way::in);
  const TensorRef dq_core = build.fresh("dq_exchanged", shapes_.core_spec(shapes_.core_heads()));
  const TensorRef dk_core = build.fresh("dk_exchanged", shapes_.core_spec(shapes_.core_kv_heads()));
  const TensorRef dv_core = build.fresh(
      "dv_exchanged", shapes_.core_spec(shapes_.core_kv_heads(), shapes_.value_dim));
  core_->backward(build, state, d_o_core, dq_core, dk_core, dv_core);
  gradients_home(build, {{"dq", dq_core, dq}, {"dk", dk_core, dk}, {"dv", dv_core, dv}});
  build.release({d_o_core, dq_core, dk_core, dv_core});
}

}  // namespace longhaul
