// Attention of which the later half of the sequence is kept and the first half run again
// (BurstEngine's sequence-level selective checkpointing, arXiv 2509.19836): under a causal mask the
// later queries have three quarters of the work. The halves are those of every rank's tokens, so
// that all ranks do the same; the first halves attend among themselves, with half the keys to send.
#include <tuple>
#include <utility>

#include "sim/schedule/attention.h"

namespace longhaul {

namespace {

// Tokens stand in dimension 1 of q, k, v, o and in dimension 2 of the statistics [b, h, s].
int tokens_of(const ProgramBuilder& build, const TensorRef& ref) {
  return build.of(ref).shape.size() == 3 ? 2 : 1;
}

TensorRef half_of(const ProgramBuilder& build, TensorRef whole, std::int64_t which) {
  const int dim = tokens_of(build, whole);
  const std::int64_t length = build.of(whole).shape[static_cast<std::size_t>(dim)] / 2;
  return ProgramBuilder::slice(std::move(whole), dim, Index::of(which * length), length);
}

TensorSpec half_spec(const ProgramBuilder& build, const TensorRef& whole) {
  TensorSpec spec = build.spec_like(whole);
  spec.shape[static_cast<std::size_t>(tokens_of(build, whole))] /= 2;
  return spec;
}

// Everything emitted since `begin` that is about a block is about its first half.
void narrow_to_first_half(Program& program, std::size_t begin) {
  for (std::size_t i = begin; i < program.code.size(); ++i) {
    Instruction& instruction = program.code[i];
    if (instruction.op == Op::reorder && !instruction.block) {
      instruction.block = AttentionBlock();
    }
    if (instruction.block) {
      instruction.block->first_half = true;
    }
  }
}

}  // namespace

AttentionState ContextAttention::later_half(ProgramBuilder& build, const AttentionState& state,
                                            std::int64_t slots, Index slot) const {
  AttentionState half;
  TensorSpec outputs = half_spec(build, state.o);
  TensorSpec rows = half_spec(build, state.lse);
  outputs.slots = rows.slots = slots;
  half.o = build.tensor("o_of_later_half", outputs, slot);
  half.lse = build.tensor("lse_of_later_half", rows, slot);
  return half;
}

void ContextAttention::keep_later_half(ProgramBuilder& build, const AttentionState& state,
                                       TensorRef o, std::int64_t slots, Index slot) const {
  const AttentionState later = later_half(build, state, slots, slot);
  for (const auto& [whole, half] : {std::pair{state.o, later.o}, {state.lse, later.lse}}) {
    build.allocate(half);
    build.compute(Op::copy, "keep the later half of attention", {half_of(build, whole, 1)}, {half});
    build.release({whole});
  }
  if (exchanges()) {
    build.release({o});
  }
}

void ContextAttention::restore_first_half(ProgramBuilder& build, const AttentionState& state,
                                          TensorRef o, std::int64_t slots, Index slot) const {
  const AttentionState later = later_half(build, state, slots, slot);
  AttentionState first;
  build.begin_names("first_half_");
  const auto copy_of = [&](const char* name, const TensorRef& whole) {
    const TensorRef made = build.fresh(name, half_spec(build, whole));
    build.compute(Op::copy, "first half of " + build.of(whole).name, {half_of(build, whole, 0)},
                  {made});
    return made;
  };
  first.q = copy_of("q", state.q);
  first.k = copy_of("k", state.k);
  first.v = copy_of("v", state.v);
  first.o = build.fresh("o", half_spec(build, state.o));
  first.lse = build.fresh("lse", half_spec(build, state.lse));
  const std::size_t begin = build.program().code.size();
  half_core_->forward(build, first);
  narrow_to_first_half(build.program(), begin);
  build.end_names();
  build.release({first.q, first.k, first.v});
  for (const auto& [whole, front, back] :
       {std::tuple{state.o, first.o, later.o}, {state.lse, first.lse, later.lse}}) {
    build.allocate(whole);
    build.compute(Op::copy, "join the halves of attention", {front}, {half_of(build, whole, 0)});
    build.compute(Op::copy, "join the halves of attention", {back}, {half_of(build, whole, 1)});
    build.release({front, back});
  }
  if (exchanges()) {
    build.allocate(o);
    exchange(build, {{"o", state.o, o}}, Way::back);
  }
}

}  // namespace longhaul
