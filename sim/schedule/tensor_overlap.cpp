// Matrix products in pieces beside the collectives of sequence parallelism, as Transformer Engine's
// user buffers and PyTorch's asynchronous tensor parallelism run them: a gathered operand is used
// shard by shard as the shards come around the tensor ranks; of a summed product each rank's shard is
// worked out alone and sent to it while the next one is. docs/models/training_step.md.
#include <algorithm>

#include "sim/schedule/transformer_block.h"

namespace longhaul {

namespace {

// Pieces behind the first, and their messages, are launched out of one library call: a launch out of
// C++ takes some 4 us where host_launch, which is Python's, is 15 to 25 us. An estimate.
constexpr double launch_of_piece = 0.2;

Index rank_behind(std::int64_t steps, std::int64_t ranks) {
  return Index::coordinate(Axis::tensor, (ranks - steps) % ranks, ranks);
}

Index rank_ahead(std::int64_t steps, std::int64_t ranks) {
  return Index::coordinate(Axis::tensor, steps % ranks, ranks);
}

}  // namespace

bool TransformerBlock::overlaps() const {
  return sequence_parallel_ && scenario_.overlaps_tensor_collectives();
}

// What a product of a layer gathers in fp8 stands in fp8 from here on; else x itself.
TensorRef TransformerBlock::as_gathered(ProgramBuilder& build, const std::string& name,
                                        TensorRef x) const {
  if (!sequence_parallel_ || !scenario_.stack().fp8_gathers ||
      scenario_.precision.compute != DataType::fp8 || build.of(x).type == DataType::fp8) {
    return x;
  }
  TensorSpec spec = stream_spec();
  spec.type = DataType::fp8;
  spec.category = MemoryCategory::communication;
  const TensorRef cast = build.fresh(name + "_fp8", spec);
  // The product that reads it pays for its cast (docs/models/gemm.md).
  build.compute(Op::copy, "cast " + name, {x}, {cast}).fused = true;
  return cast;
}

TensorRef TransformerBlock::gather_operand(ProgramBuilder& build, const std::string& name,
                                           TensorRef x) const {
  const TensorRef cast = as_gathered(build, name, x);
  const TensorRef all = gather_tokens(build, name, cast);
  drop_gathered(build, cast, x);
  return all;
}

// Autograd keeps what an operator read: a recompute's gathered tokens, until the weight gradient.
bool TransformerBlock::keeps_gathered(const ProgramBuilder& build) const {
  return sequence_parallel_ && scenario_.stack().keeps_gathered_tokens &&
         build.part() == Part::recompute;
}

void TransformerBlock::wait_for_tensor_ranks(ProgramBuilder& build) const {
  if (shapes_.tensor > 1 && scenario_.stack().waits_for_tensor_ranks) {
    build.wait_for("wait for tensor ranks", Stream::tensor);
  }
}

// The sum of a data gradient travels while the weight gradient runs, in stacks that do not wait; in
// pieces (overlaps()) it always does.
TensorRef TransformerBlock::sum_gradient(ProgramBuilder& build, const std::string& name,
                                         TensorRef partial) const {
  const TensorRef sum = sum_over_tensor(build, name, partial);
  if (!overlaps()) {
    wait_for_tensor_ranks(build);
  }
  return sum;
}

// A product's input, for its weight gradient: gathered again, mostly while the data gradient runs.
TensorRef TransformerBlock::gather_again(ProgramBuilder& build, const std::string& name,
                                         TensorRef x, const std::optional<TensorRef>& kept) const {
  if (kept) {
    return *kept;
  }
  const TensorRef tokens = gather_operand(build, name, x);
  if (sequence_parallel_) {
    wait_for_tensor_ranks(build);
  }
  return tokens;
}

// The tokens of one rank's shard in a tensor of all tokens; `rank` times the shard's length.
TensorRef TransformerBlock::tokens_of(TensorRef whole, Index rank) const {
  const std::int64_t tokens = shapes_.tokens / shapes_.tensor;
  return ProgramBuilder::slice(std::move(whole), 1, times(std::move(rank), tokens), tokens);
}

// Shards on their way, in buffers that stay from layer to layer.
TensorRef TransformerBlock::shard_buffer(ProgramBuilder& build, const std::string& name,
                                         DataType type, std::int64_t slots) const {
  TensorSpec spec = stream_spec();
  spec.type = type;
  spec.category = MemoryCategory::communication;
  spec.slots = slots;
  spec.persistent = true;
  return build.tensor(name, spec);
}

void TransformerBlock::pass_on(ProgramBuilder& build, const std::string& label, TensorRef from,
                               TensorRef to, int shift) const {
  Instruction& hop = build.collective(Op::send_receive, Stream::tensor,
                                      *build.group("tensor", {Axis::tensor}), label, {from}, {to});
  hop.shift = shift;
  hop.launches = launch_of_piece;
}

TensorRef TransformerBlock::multiply_gathered(ProgramBuilder& build, const Product& product,
                                              bool keeps) const {
  const bool full = product.attention && scenario_.stack().fp8_mlp_only;
  if (!overlaps()) {
    const TensorRef all = gather_operand(build, product.name, product.a);
    build.gemm(product.label, all, product.weight, product.c, false, product.transposed)
        .full_precision = full;
    if (keeps) {
      return all;
    }
    drop_gathered(build, all, product.a);
    return product.a;
  }
  const TensorRef own = as_gathered(build, product.name, product.a);
  const DataType type = build.of(own).type;
  const std::int64_t ranks = shapes_.tensor;
  TensorRef all = product.a;
  if (keeps) {
    TensorSpec spec = gathered_spec();
    spec.type = type;
    spec.category = MemoryCategory::communication;
    all = build.fresh(product.name + "_gathered", spec);
  }
  // By how far a shard has come, not by its owner: so all tensor ranks do the same and are folded.
  const TensorRef buffer = shard_buffer(build, product.name + "_shards", type, ranks - 1);
  TensorRef shard = own;
  for (std::int64_t step = 0; step < ranks; ++step) {
    const TensorRef next = build.at(buffer, Index::of(std::min(step, ranks - 2)));
    if (step + 1 < ranks) {
      pass_on(build, "pass on tokens of " + product.name, shard, next, 1);
    }
    const Index owner = rank_behind(step, ranks);
    Instruction& piece = build.gemm(product.label, shard, product.weight,
                                    tokens_of(product.c, owner), false, product.transposed);
    piece.launches = step == 0 ? 1.0 : launch_of_piece;
    piece.full_precision = full;
    piece.weight_casts = step == 0 ? 1.0 : 0.0;
    if (keeps) {  // the product reads the buffer itself
      build.compute(Op::copy, "shard of " + product.name, {shard}, {tokens_of(all, owner)}).fused =
          true;
    }
    shard = next;
  }
  drop_gathered(build, own, product.a);
  return all;
}

TensorRef TransformerBlock::multiply_and_sum(ProgramBuilder& build, const std::string& name,
                                             const std::string& label, TensorRef a,
                                             TensorRef weight, bool attention) const {
  const bool full = attention && scenario_.stack().fp8_mlp_only;
  if (!overlaps()) {
    const TensorRef partial = build.fresh(name, gathered_spec());
    build.gemm(label, a, weight, partial).full_precision = full;
    return sum_over_tensor(build, name, partial);
  }
  const std::int64_t ranks = shapes_.tensor;
  const TensorRef outgoing = shard_buffer(build, name + "_outgoing", shapes_.type, ranks - 1);
  const TensorRef incoming = shard_buffer(build, name + "_incoming", shapes_.type, ranks - 1);
  const TensorRef sum = build.fresh(name + "_sum", stream_spec());
  for (std::int64_t step = 0; step < ranks; ++step) {
    const bool own = step + 1 == ranks;
    const TensorRef part = own ? sum : build.at(outgoing, Index::of(step));
    Instruction& piece =
        build.gemm(label, tokens_of(a, rank_ahead(step + 1, ranks)), weight, part);
    piece.launches = step == 0 ? 1.0 : launch_of_piece;
    piece.full_precision = full;
    piece.weight_casts = step == 0 ? 1.0 : 0.0;
    if (!own) {
      pass_on(build, "send part of " + name, part, build.at(incoming, Index::of(step)),
              static_cast<int>(step) + 1);
    }
  }
  // One kernel reads all parts and writes their sum: ranks + 1 passes, not three for each addition.
  const auto additions = static_cast<double>(ranks - 1);
  for (std::int64_t step = 0; step + 1 < ranks; ++step) {
    Instruction& add = build.compute(Op::add, "sum parts of " + name,
                                     {sum, build.at(incoming, Index::of(step))}, {sum});
    add.traffic = (additions + 2.0) / (3.0 * additions);
    add.launches = 1.0 / additions;
  }
  return sum;
}

}  // namespace longhaul
