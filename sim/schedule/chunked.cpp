// Ulysses-Offload, or FPDT (arXiv 2408.16978; DeepSpeed, deepspeed/sequence/fpdt_layer.py): the
// sequence goes through attention in chunks. A chunk's queries attend to its own keys and then to
// those of the chunks before it, which wait in host memory and come back one ahead of their use.
// Backward, a chunk of keys meets its own queries and then those of the chunks behind it; queries,
// outputs, their gradients and the sums of dq come and go. docs/models/context_parallelism.md.
#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "sim/schedule/attention.h"

namespace longhaul {

namespace {

TensorRef at_turn(const TensorRef& ref, Index turn) {
  turn.modulus = 2;
  return ProgramBuilder::at(ref, std::move(turn));
}

Index behind(Index chunk) {
  chunk.constant += 1;
  return chunk;
}

}  // namespace

// A chunk on a rank before any exchange, or what a rank holds of it behind it.
TensorSpec ContextAttention::piece_spec(std::int64_t heads, std::int64_t channels) const {
  TensorSpec spec = shapes_.heads_spec(heads, channels);
  spec.shape[1] /= shapes_.chunks;
  return spec;
}

std::array<TensorRef, 3> ContextAttention::fresh_pieces(ProgramBuilder& build,
                                                        const std::string& prefix) const {
  return {build.fresh(prefix + "q_piece", piece_spec(shapes_.heads)),
          build.fresh(prefix + "k_piece", piece_spec(shapes_.kv_heads)),
          build.fresh(prefix + "v_piece", piece_spec(shapes_.kv_heads, shapes_.value_dim))};
}

TensorSpec ContextAttention::chunk_spec(TensorSpec core, MemoryCategory category) const {
  core.shape[core.shape.size() == 3 ? 2 : 1] /= shapes_.chunks;
  core.category = category;
  return core;
}

TensorRef ContextAttention::piece_of(TensorRef whole, const Index& chunk) const {
  const std::int64_t tokens = shapes_.tokens / shapes_.chunks;
  return ProgramBuilder::slice(std::move(whole), 1, times(chunk, tokens), tokens);
}

TensorRef ContextAttention::on_host(ProgramBuilder& build, const std::string& name,
                                    TensorSpec spec) const {
  spec.slots = shapes_.chunks;
  spec.in_host_memory = true;
  return build.tensor(name + "_on_host", spec);
}

AttentionState ContextAttention::chunks_on_host(ProgramBuilder& build) const {
  const auto kept = MemoryCategory::activations;
  const DataType type = shapes_.type;
  AttentionState state;
  state.q = on_host(build, "q", chunk_spec(shapes_.core_queries(kept, type), kept));
  state.k = on_host(build, "k", chunk_spec(shapes_.core_keys(kept, type), kept));
  state.v = on_host(build, "v", chunk_spec(shapes_.core_values(kept, type), kept));
  state.o = on_host(build, "o", chunk_spec(shapes_.core_outputs(kept, type), kept));
  state.lse = on_host(build, "lse", chunk_spec(shapes_.core_rows(kept), kept));
  return state;
}

void ContextAttention::send(ProgramBuilder& build, const std::string& name,
                            const std::vector<TensorRef>& chunks,
                            const std::vector<TensorRef>& hosts) const {
  for (const TensorRef& host : hosts) {
    build.allocate(host);
  }
  build.host_work(Op::to_host, "send " + name, chunks, hosts);
}

void ContextAttention::release_hosts(ProgramBuilder& build,
                                     const std::vector<TensorRef>& hosts) const {
  const LoopId loop = build.begin_loop("chunks in host memory", shapes_.chunks, false);
  for (const TensorRef& host : hosts) {
    build.release({ProgramBuilder::at(host, Index::counter(loop))});
  }
  build.end_loop(loop);
}

void ContextAttention::release_chunks(ProgramBuilder& build, const AttentionState& state) const {
  release_hosts(build, {state.q, state.k, state.v, state.o, state.lse});
}

// counter(column) - counter(row).
Index ContextAttention::distance(LoopId column, LoopId row) const {
  std::vector<std::int64_t> minus;
  for (std::int64_t i = 0; i < shapes_.chunks; ++i) {
    minus.push_back(-i);
  }
  Index index = Index::counter(column);
  Lookup lookup;
  lookup.table = std::make_shared<const std::vector<std::int64_t>>(std::move(minus));
  lookup.loop = row;
  index.lookups.push_back(std::move(lookup));
  return index;
}

// Positions of a whole chunk are those of its place in the sequence.
void ContextAttention::rotate(ProgramBuilder& build, Op op, const std::string& name, TensorRef x,
                              const Index& chunk) const {
  if (rotates_chunks_) {
    build.compute(op, "rotary embedding of " + name, {x}, {x}).block = AttentionBlock{chunk, {}};
  }
}

// ---- forward

AttentionState ContextAttention::chunked_forward(ProgramBuilder& build,
                                                 const ProjectChunk& project, TensorRef o) const {
  const AttentionState hosts = chunks_on_host(build);
  const LoopId rows = build.begin_loop("chunks of queries", shapes_.chunks, false);
  const Index row = Index::counter(rows);
  build.begin_when({row, 1, shapes_.chunks - 1});
  fetch_keys(build, hosts, Index::of(0));  // while the chunk is projected and attends to itself
  build.end_when();
  AttentionState chunk = exchange_chunk_in(build, project(row), row);
  const auto here = [&](const TensorRef& host) { return ProgramBuilder::at(host, row); };
  send(build, "q, k, v", {chunk.q, chunk.k, chunk.v},
       {here(hosts.q), here(hosts.k), here(hosts.v)});
  attend_chunks(build, hosts, chunk, rows);
  build.release({chunk.q, chunk.k, chunk.v});
  send(build, "attention output", {chunk.o, chunk.lse}, {here(hosts.o), here(hosts.lse)});
  const TensorRef piece = build.fresh("o_piece", piece_spec(shapes_.heads, shapes_.value_dim));
  exchange(build, {{"o", chunk.o, piece}}, Way::back);
  build.release({chunk.o, chunk.lse});
  build.compute(Op::copy, "join attention output", {piece}, {piece_of(o, row)});
  build.release({piece});
  build.end_loop(rows);
  return hosts;
}

// Two slots, of which one is filled while the other is worked on.
AttentionState ContextAttention::fetched_keys(ProgramBuilder& build, const Index& chunk) const {
  const auto buffers = MemoryCategory::kv_buffers;
  TensorSpec keys = chunk_spec(shapes_.core_keys(buffers, shapes_.type), buffers);
  TensorSpec values = chunk_spec(shapes_.core_values(buffers, shapes_.type), buffers);
  keys.slots = values.slots = 2;
  AttentionState state;
  state.k = at_turn(build.tensor("k_fetched", keys), chunk);
  state.v = at_turn(build.tensor("v_fetched", values), chunk);
  return state;
}

void ContextAttention::fetch_keys(ProgramBuilder& build, const AttentionState& hosts,
                                  const Index& chunk) const {
  const AttentionState pair = fetched_keys(build, chunk);
  build.allocate(pair.k);
  build.allocate(pair.v);
  build.host_work(Op::from_host, "fetch keys and values",
                  {ProgramBuilder::at(hosts.k, chunk), ProgramBuilder::at(hosts.v, chunk)},
                  {pair.k, pair.v});
}

AttentionState ContextAttention::exchange_chunk_in(ProgramBuilder& build,
                                                   const std::array<TensorRef, 3>& pieces,
                                                   const Index& chunk) const {
  const auto kept = MemoryCategory::activations;
  const DataType type = shapes_.type;
  AttentionState made;
  made.q = build.fresh("q_chunk", chunk_spec(shapes_.core_queries(kept, type), kept));
  made.k = build.fresh("k_chunk", chunk_spec(shapes_.core_keys(kept, type), kept));
  made.v = build.fresh("v_chunk", chunk_spec(shapes_.core_values(kept, type), kept));
  exchange(build, {{"q", pieces[0], made.q}, {"k", pieces[1], made.k}, {"v", pieces[2], made.v}},
           Way::in);
  build.release({pieces[0], pieces[1], pieces[2]});
  rotate(build, Op::rope, "q", made.q, chunk);
  rotate(build, Op::rope, "k", made.k, chunk);
  return made;
}

// The chunk's queries, of row `rows`, with its own keys and then all before them: its o and lse.
void ContextAttention::attend_chunks(ProgramBuilder& build, const AttentionState& hosts,
                                     AttentionState& chunk, LoopId rows) const {
  const auto scratch = MemoryCategory::workspace;
  const Index row = Index::counter(rows);
  const TensorRef sum = build.fresh(
      "chunk_o", chunk_spec(shapes_.core_outputs(scratch, DataType::fp32), scratch));
  chunk.lse = build.fresh("chunk_lse", chunk_spec(shapes_.core_rows(scratch), scratch));
  build.compute(Op::attend, "attention within a chunk", {chunk.q, chunk.k, chunk.v},
                {sum, chunk.lse})
      .block = AttentionBlock{row, row};
  const std::int64_t last = std::max<std::int64_t>(1, shapes_.chunks - 1);
  const LoopId columns = build.begin_loop("chunks of keys before", last, false);
  const Index column = Index::counter(columns);
  build.begin_when({distance(columns, rows), -shapes_.chunks, -1});
  build.begin_when({distance(columns, rows), -shapes_.chunks, -2});
  fetch_keys(build, hosts, behind(column));
  build.end_when();
  const AttentionState keys = fetched_keys(build, column);
  const TensorRef o = build.fresh(
      "chunk_o_partial", chunk_spec(shapes_.core_outputs(scratch, shapes_.type), scratch));
  const TensorRef lse =
      build.fresh("chunk_lse_partial", chunk_spec(shapes_.core_rows(scratch), scratch));
  const AttentionBlock block{row, column};
  build.compute(Op::attend, "attention between chunks", {chunk.q, keys.k, keys.v}, {o, lse}).block =
      block;
  build.release({keys.k, keys.v});
  Instruction& merge = build.compute(Op::merge_attention, "combine partial attention", {o, lse},
                                     {sum, chunk.lse});
  merge.block = block;
  merge.accumulate = true;
  build.release({o, lse});
  build.end_when();
  build.end_loop(columns);
  chunk.o = build.fresh("chunk_o_exchanged",
                        chunk_spec(shapes_.core_outputs(scratch, shapes_.type), scratch));
  build.compute(Op::copy, "attention output to compute type", {sum}, {chunk.o});
  build.release({sum});
}

// ---- backward

// What waits in host memory besides the state: gradients of outputs, sums of those of queries.
struct ContextAttention::ChunkGradients {
  TensorRef d_o;                ///< whole, of this rank's tokens
  TensorRef d_o_host, dq_host;  ///< by chunk
};

// What a chunk of queries brings to a chunk of keys. Those of the row's own chunk stand in buffers
// of their own, which are filled while the row before is at its last; of the others there are two
// slots, one of which is filled while the other is worked on.
struct ContextAttention::QueryChunk {
  TensorRef q, o, d_o, lse, dq;
  [[nodiscard]] std::array<TensorRef, 5> all() const { return {q, o, d_o, lse, dq}; }
};

ContextAttention::QueryChunk ContextAttention::fetched_queries(ProgramBuilder& build,
                                                               const Index& chunk,
                                                               bool own) const {
  const auto buffers = MemoryCategory::kv_buffers;
  const auto slot = [&](const std::string& name, TensorSpec core) {
    TensorSpec spec = chunk_spec(std::move(core), buffers);
    spec.slots = own ? 1 : 2;
    return own ? build.tensor("own_" + name, spec) : at_turn(build.tensor(name, spec), chunk);
  };
  return {slot("q_fetched", shapes_.core_queries(buffers, shapes_.type)),
          slot("o_fetched", shapes_.core_outputs(buffers, shapes_.type)),
          slot("do_fetched", shapes_.core_outputs(buffers, shapes_.type)),
          slot("lse_fetched", shapes_.core_rows(buffers)),
          slot("dq_sum", shapes_.core_queries(buffers, DataType::fp32))};
}

// In the first row gradients of outputs come from the exchange and those of queries begin; chunks
// that meet more keys than the row's, all but its own, have a place for both in host memory.
void ContextAttention::fetch_queries(ProgramBuilder& build, const AttentionState& hosts,
                                     const ChunkGradients& gradients, const Index& row,
                                     const Index& chunk, bool own) const {
  const auto host = [&](const TensorRef& ref) { return ProgramBuilder::at(ref, chunk); };
  const QueryChunk query = fetched_queries(build, chunk, own);
  if (own) {
    for (const TensorRef& ref : query.all()) {
      build.allocate(ref);
    }
  }
  build.host_work(Op::from_host, "fetch queries", {host(hosts.q), host(hosts.o), host(hosts.lse)},
                  {query.q, query.o, query.lse});
  build.begin_when({row, 0, 0});
  const TensorRef piece = build.fresh("do_piece", piece_spec(shapes_.heads, shapes_.value_dim));
  build.compute(Op::copy, "cut gradient of output", {piece_of(gradients.d_o, chunk)}, {piece});
  exchange(build, {{"do", piece, query.d_o}}, Way::in);
  build.release({piece});
  build.compute(Op::zero, "zero query gradients", {}, {query.dq});
  if (!own) {
    build.allocate(host(gradients.dq_host));
    send(build, "gradient of output", {query.d_o}, {host(gradients.d_o_host)});
  }
  build.end_when();
  build.begin_when({row, 1, shapes_.chunks});
  build.host_work(Op::from_host, "fetch gradients",
                  {host(gradients.d_o_host), host(gradients.dq_host)}, {query.d_o, query.dq});
  build.end_when();
}

// FlashAttention's backward takes the rowsum of o do in every call.
void ContextAttention::attend_chunk_backward(ProgramBuilder& build, const QueryChunk& query,
                                             const AttentionState& keys, TensorRef dk_sum,
                                             TensorRef dv_sum,
                                             const AttentionBlock& block) const {
  const auto scratch = MemoryCategory::workspace;
  const DataType type = shapes_.type;
  const auto part = [&](const char* name, TensorSpec core) {
    return build.fresh(name, chunk_spec(std::move(core), scratch));
  };
  const TensorRef delta = part("delta", shapes_.core_rows(scratch));
  build.compute(Op::attention_delta, "attention delta", {query.o, query.d_o}, {delta});
  const TensorRef dq = part("dq_partial", shapes_.core_queries(scratch, type));
  const TensorRef dk = part("dk_partial", shapes_.core_keys(scratch, type));
  const TensorRef dv = part("dv_partial", shapes_.core_values(scratch, type));
  build
      .compute(Op::attend_backward, "attention of chunks backward",
               {query.q, keys.k, keys.v, query.d_o, query.lse, delta}, {dq, dk, dv})
      .block = block;
  build.compute(Op::add, "sum query gradients", {query.dq, dq}, {query.dq});
  build.compute(Op::add, "sum key gradients", {dk_sum, dk}, {dk_sum});
  build.compute(Op::add, "sum value gradients", {dv_sum, dv}, {dv_sum});
  build.release({dq, dk, dv, delta});
}

void ContextAttention::chunked_backward(ProgramBuilder& build, const AttentionState& hosts,
                                        TensorRef d_o, const TakeGradients& take) const {
  const auto kept = MemoryCategory::activations;
  const ChunkGradients gradients{
      d_o, on_host(build, "do", chunk_spec(shapes_.core_outputs(kept, shapes_.type), kept)),
      on_host(build, "dq", chunk_spec(shapes_.core_queries(kept, DataType::fp32), kept))};
  hold_queries(build, true);
  const LoopId rows = build.begin_loop("chunks of keys", shapes_.chunks, false);
  key_chunk_backward(build, hosts, gradients, rows, take);
  build.end_loop(rows);
  hold_queries(build, false);
}

// Both slots for all rows: given back in every turn, they would wait for the sums' way out.
void ContextAttention::hold_queries(ProgramBuilder& build, bool hold) const {
  // Chunks 1 and 2 take slots 1 and 0; there may be no second.
  for (std::int64_t chunk = 1; chunk <= std::min<std::int64_t>(2, shapes_.chunks - 1); ++chunk) {
    for (const TensorRef& ref : fetched_queries(build, Index::of(chunk), false).all()) {
      hold ? build.allocate(ref) : build.release({ref});
    }
  }
}

// A chunk of keys meets its own queries and those behind it.
void ContextAttention::key_chunk_backward(ProgramBuilder& build, const AttentionState& hosts,
                                          const ChunkGradients& gradients, LoopId rows,
                                          const TakeGradients& take) const {
  const Index row = Index::counter(rows);
  fetch_keys(build, hosts, row);
  fetch_queries(build, hosts, gradients, row, row, true);
  const AttentionState keys = fetched_keys(build, row);
  const auto scratch = MemoryCategory::workspace;
  const TensorRef dk = build.fresh(
      "dk_sum", chunk_spec(shapes_.core_keys(scratch, DataType::fp32), scratch));
  const TensorRef dv = build.fresh(
      "dv_sum", chunk_spec(shapes_.core_values(scratch, DataType::fp32), scratch));
  build.compute(Op::zero, "zero key gradients", {}, {dk});
  build.compute(Op::zero, "zero value gradients", {}, {dv});
  if (shapes_.chunks > 1) {
    build.begin_when({row, 0, shapes_.chunks - 2});
    fetch_queries(build, hosts, gradients, row, behind(row), false);
    build.end_when();
  }
  const TensorRef dq = own_queries_backward(build, hosts, gradients, keys, {dk, dv}, row);
  later_queries_backward(build, hosts, gradients, keys, {dk, dv}, rows);
  build.release({keys.k, keys.v, ProgramBuilder::at(hosts.k, row),
                 ProgramBuilder::at(hosts.v, row)});
  take(row, chunk_gradients_home(build, dq, dk, dv, row));
}

// The row's own queries have met all keys now: their gradient is whole, in the compute type.
TensorRef ContextAttention::own_queries_backward(ProgramBuilder& build,
                                                 const AttentionState& hosts,
                                                 const ChunkGradients& gradients,
                                                 const AttentionState& keys,
                                                 const std::array<TensorRef, 2>& sums,
                                                 const Index& row) const {
  const QueryChunk own = fetched_queries(build, row, true);
  attend_chunk_backward(build, own, keys, sums[0], sums[1], {row, row});
  const auto scratch = MemoryCategory::workspace;
  const TensorRef dq = build.fresh(
      "dq_chunk", chunk_spec(shapes_.core_queries(scratch, shapes_.type), scratch));
  build.compute(Op::copy, "query gradient to compute type", {own.dq}, {dq});
  build.release({own.q, own.o, own.d_o, own.lse, own.dq});
  const auto here = [&](const TensorRef& host) { return ProgramBuilder::at(host, row); };
  build.release({here(hosts.q), here(hosts.o), here(hosts.lse)});
  build.begin_when({row, 1, shapes_.chunks});
  build.release({here(gradients.d_o_host), here(gradients.dq_host)});
  build.end_when();
  return dq;
}

void ContextAttention::later_queries_backward(ProgramBuilder& build, const AttentionState& hosts,
                                              const ChunkGradients& gradients,
                                              const AttentionState& keys,
                                              const std::array<TensorRef, 2>& sums,
                                              LoopId rows) const {
  if (shapes_.chunks == 1) {
    return;
  }
  const Index row = Index::counter(rows);
  // A column is the chunk before its queries: those of chunk 0 meet no keys but their own.
  const LoopId columns = build.begin_loop("chunks of queries behind", shapes_.chunks - 1, false);
  const Index queries = Index::counter(columns, 1, 1);
  build.begin_when({distance(columns, rows), 0, shapes_.chunks});
  if (shapes_.chunks > 2) {
    build.begin_when({queries, 1, shapes_.chunks - 2});
    fetch_queries(build, hosts, gradients, row, behind(queries), false);
    build.end_when();
  }
  const QueryChunk later = fetched_queries(build, queries, false);
  attend_chunk_backward(build, later, keys, sums[0], sums[1], {queries, row});
  build.host_work(Op::to_host, "send sums of query gradients", {later.dq},
                  {ProgramBuilder::at(gradients.dq_host, queries)});
  build.end_when();
  build.end_loop(columns);
}

// Gradients of a chunk, back with the ranks whose tokens they are of: dq, dk, dv.
std::array<TensorRef, 3> ContextAttention::chunk_gradients_home(ProgramBuilder& build,
                                                                TensorRef dq, TensorRef dk_sum,
                                                                TensorRef dv_sum,
                                                                const Index& row) const {
  const auto scratch = MemoryCategory::workspace;
  const TensorRef dk =
      build.fresh("dk_chunk", chunk_spec(shapes_.core_keys(scratch, shapes_.type), scratch));
  const TensorRef dv =
      build.fresh("dv_chunk", chunk_spec(shapes_.core_values(scratch, shapes_.type), scratch));
  build.compute(Op::copy, "key gradient to compute type", {dk_sum}, {dk});
  build.compute(Op::copy, "value gradient to compute type", {dv_sum}, {dv});
  build.release({dk_sum, dv_sum});
  rotate(build, Op::rope_backward, "dq", dq, row);
  rotate(build, Op::rope_backward, "dk", dk, row);
  const std::array<TensorRef, 3> home = fresh_pieces(build, "d");
  exchange(build, {{"dq", dq, home[0]}, {"dk", dk, home[1]}, {"dv", dv, home[2]}}, Way::back);
  build.release({dq, dk, dv});
  return home;
}

// ---- attention alone: q, k, v are there

AttentionState ContextAttention::forward_of_pieces(ProgramBuilder& build, TensorRef q, TensorRef k,
                                                   TensorRef v, TensorRef o) const {
  return chunked_forward(
      build,
      [&](const Index& chunk) {
        const std::array<TensorRef, 3> pieces = fresh_pieces(build, "");
        build.compute(Op::copy, "cut q", {piece_of(q, chunk)}, {pieces[0]});
        build.compute(Op::copy, "cut k", {piece_of(k, chunk)}, {pieces[1]});
        build.compute(Op::copy, "cut v", {piece_of(v, chunk)}, {pieces[2]});
        return pieces;
      },
      o);
}

void ContextAttention::backward_of_pieces(ProgramBuilder& build, const AttentionState& state,
                                          TensorRef d_o, TensorRef dq, TensorRef dk,
                                          TensorRef dv) const {
  chunked_backward(build, state, d_o,
                   [&](const Index& chunk, const std::array<TensorRef, 3>& pieces) {
                     build.compute(Op::copy, "join dq", {pieces[0]}, {piece_of(dq, chunk)});
                     build.compute(Op::copy, "join dk", {pieces[1]}, {piece_of(dk, chunk)});
                     build.compute(Op::copy, "join dv", {pieces[2]}, {piece_of(dv, chunk)});
                     build.release({pieces[0], pieces[1], pieces[2]});
                   });
}

}  // namespace longhaul
