// Collectives by hand; scattering and gathering; and every misuse the executor must catch.
#include <catch2/catch.hpp>

#include "tests/sim/reference/one_op.h"

using namespace longhaul;
using namespace longhaul::test;
using Catch::Matchers::Contains;

namespace {

const std::vector<Shard> over_ring{{Axis::ring, SequenceOrder::contiguous}};

// One collective over a ring whose ranks hold consecutive parts of `whole` along dimension 0.
struct Collective {
  Op op;
  std::int64_t ranks;
  std::vector<std::int64_t> from, to;  ///< local shapes
  Instruction fields{};
  std::vector<double> before{};  ///< what the result holds first, on every rank

  [[nodiscard]] std::vector<std::vector<double>> run(const Array& whole) const {
    SmallProgram small(ranks);
    std::vector<std::vector<Shard>> shards(from.size());
    shards[0] = over_ring;
    const TensorRef x = small.tensor("x", from, shards);
    const TensorRef y = small.tensor("y", to);
    Instruction instruction = fields;
    instruction.op = op;
    instruction.group = GroupId(0);
    instruction.reads = {x};
    instruction.writes = {y};
    small.program.code = {instruction};
    ReferenceRun run(small.program);
    run.set_global("x", 0, whole);
    if (!before.empty()) {
      run.set_global("y", 0, {to, before});
    }
    run.run();
    std::vector<std::vector<double>> results;
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      results.push_back(run.local(RankId(static_cast<std::size_t>(rank)), "y", 0).values);
    }
    return results;
  }
};

using Values = std::vector<std::vector<double>>;

// Two ranks exchange x by way of a temporary y.
SmallProgram relay() {
  SmallProgram small(2);
  const TensorRef x = small.tensor("x", {1}, {over_ring});
  const TensorRef y = small.temporary("y", {1});
  const TensorRef z = small.tensor("z", {1}, {over_ring});
  small.add(Op::allocate, {}, {y});
  small.add(Op::send_receive, {x}, {y});
  small.add(Op::copy, {y}, {z});
  small.add(Op::release, {y}, {});
  return small;
}

void run_relay(const SmallProgram& small, ExecutionOrder order = ExecutionOrder::program) {
  ReferenceRun run(small.program);
  run.set_global("x", 0, array_of({2}, {1, 2}));
  run.run(order, 7);
  CHECK(run.gather_global("z", 0).values == std::vector<double>{2, 1});
}

}  // namespace

TEST_CASE("all-gather joins the parts in the group's order, along the dimension asked for") {
  Instruction along;
  along.dim = 0;
  CHECK(Collective{Op::all_gather, 3, {1, 2}, {3, 2}, along}.run(
            array_of({3, 2}, {1, 2, 3, 4, 5, 6})) == Values(3, {1, 2, 3, 4, 5, 6}));
  along.dim = 1;
  CHECK(Collective{Op::all_gather, 2, {2, 1}, {2, 2}, along}.run(array_of({4, 1}, {1, 2, 3, 4})) ==
        Values(2, {1, 3, 2, 4}));
}

TEST_CASE("reduce-scatter gives member i the i-th part of the sum, and adds if it accumulates") {
  Instruction along;
  along.dim = 0;
  const Array whole = array_of({4}, {1, 2, 10, 20});
  CHECK(Collective{Op::reduce_scatter, 2, {2}, {1}, along}.run(whole) == Values{{11}, {22}});
  along.accumulate = true;
  CHECK(Collective{Op::reduce_scatter, 2, {2}, {1}, along, {100}}.run(whole) ==
        Values{{111}, {122}});
}

TEST_CASE("all-reduce gives everyone the sum") {
  CHECK(Collective{Op::all_reduce, 4, {1}, {1}}.run(array_of({4}, {1, 2, 4, 8})) ==
        Values(4, {15}));
}

TEST_CASE("a broadcast gives everyone what its root has") {
  Instruction from;
  from.root = 2;
  CHECK(Collective{Op::broadcast, 4, {1}, {1}, from}.run(array_of({4}, {1, 2, 4, 8})) ==
        Values(4, {4}));
}

TEST_CASE("all-to-all cuts along one dimension and joins along the other") {
  // Rank 0 holds token 0 with heads a, b; rank 1 token 1. Afterwards each has one head of both.
  Instruction exchange;
  exchange.dim = 1;
  exchange.join_dim = 0;
  CHECK(Collective{Op::all_to_all, 2, {1, 2}, {2, 1}, exchange}.run(
            array_of({2, 2}, {1, 2, 3, 4})) == Values{{1, 3}, {2, 4}});
}

TEST_CASE("send and receive passes data on by the shift, around the end") {
  Instruction shift;
  const Array whole = array_of({3}, {1, 2, 3});
  CHECK(Collective{Op::send_receive, 3, {1}, {1}, shift}.run(whole) == Values{{3}, {1}, {2}});
  shift.shift = -1;
  CHECK(Collective{Op::send_receive, 3, {1}, {1}, shift}.run(whole) == Values{{2}, {3}, {1}});
  shift.shift = 2;
  CHECK(Collective{Op::send_receive, 3, {1}, {1}, shift}.run(whole) == Values{{2}, {3}, {1}});
}

TEST_CASE("a collective whose result has another shape than its tensor is refused") {
  Instruction along;
  along.dim = 0;
  CHECK_THROWS_AS((Collective{Op::all_gather, 2, {2}, {3}, along}.run(array_of({4}, {1, 2, 3, 4}))),
                  ReferenceError);
  CHECK_THROWS_WITH(
      (Collective{Op::reduce_scatter, 2, {3}, {2}, along}.run(array_of({6}, {1, 2, 3, 4, 5, 6}))),
      Contains("cuts [3] into 2 parts"));
}

TEST_CASE("groups that differ by other coordinates do not mix") {
  // Two replicas of a ring of two: sums stay within each ring.
  SmallProgram small(2, 2);
  const TensorRef x = small.tensor(
      "x", {1},
      {{{Axis::data, SequenceOrder::contiguous}, {Axis::ring, SequenceOrder::contiguous}}});
  small.add(Op::all_reduce, {x}, {x});
  ReferenceRun run(small.program);
  run.set_global("x", 0, array_of({4}, {1, 2, 10, 20}));
  run.run();
  CHECK(run.gather_global("x", 0).values == std::vector<double>{3, 3, 30, 30});
}

TEST_CASE("what is scattered is gathered again, in every order of the sequence") {
  for (const SequenceOrder order :
       {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped}) {
    SmallProgram small(2, 2);
    small.tensor("x", {1, 4}, {{{Axis::data, SequenceOrder::contiguous}}, {{Axis::ring, order}}});
    ReferenceRun run(small.program);
    Array whole = Array::filled({2, 8}, 0.0);
    for (std::size_t i = 0; i < whole.values.size(); ++i) {
      whole.values[i] = static_cast<double>(i);
    }
    run.set_global("x", 0, whole);
    CHECK(run.gather_global("x", 0).values == whole.values);
    // Rank 1 is the second of the first replica's ring.
    const std::vector<double> second =
        order == SequenceOrder::contiguous ? std::vector<double>{4, 5, 6, 7}
        : order == SequenceOrder::zigzag   ? std::vector<double>{2, 3, 4, 5}
                                           : std::vector<double>{1, 3, 5, 7};
    CHECK(run.local(RankId(1), "x", 0).values == second);
  }
}

TEST_CASE("ranks that should hold the same part must agree") {
  SmallProgram small(2);
  const TensorRef x = small.tensor("x", {1}, {over_ring});
  const TensorRef y = small.tensor("y", {1});  // the same on both
  small.add(Op::copy, {x}, {y});
  ReferenceRun run(small.program);
  run.set_global("x", 0, array_of({2}, {1, 1 + 1e-11}));
  run.run();
  CHECK_THROWS_WITH(run.gather_global("y", 0), Contains("disagree"));
  ReferenceRun close(small.program);
  close.set_global("x", 0, array_of({2}, {1, 1 + 1e-13}));
  close.run();
  CHECK_NOTHROW(close.gather_global("y", 0));
}

TEST_CASE("arrays of another shape, unknown tensors and slots beyond the last are refused") {
  SmallProgram small(2);
  small.tensor("x", {1}, {over_ring});
  small.temporary("y", {1});
  ReferenceRun run(small.program);
  CHECK_THROWS_AS(run.set_global("x", 0, array_of({3}, {1, 2, 3})), ReferenceError);
  CHECK_THROWS_AS(run.set_global("z", 0, array_of({2}, {1, 2})), ReferenceError);
  CHECK_THROWS_AS(run.set_global("x", 1, array_of({2}, {1, 2})), ReferenceError);
  CHECK_THROWS_AS(run.set_global("y", 0, array_of({1}, {1})), ReferenceError);
  CHECK_THROWS_AS(run.gather_global("x", 0), ReferenceError);  // never set
  CHECK_NOTHROW(run.set_global("x", 0, array_of({2}, {1, 2})));
}

TEST_CASE("a slice is read and written in place") {
  SmallProgram small;
  TensorRef x = small.tensor("x", {2, 3});
  TensorRef y = small.tensor("y", {2, 1});
  x.slice_dim = 1;
  x.slice_begin = Index::of(2);
  x.slice_length = 1;
  small.add(Op::copy, {x}, {y});
  x.slice_begin = Index::of(0);
  small.add(Op::copy, {y}, {x});
  ReferenceRun run(small.program);
  run.set_global("x", 0, array_of({2, 3}, {1, 2, 3, 4, 5, 6}));
  run.run();
  CHECK(run.gather_global("x", 0).values == std::vector<double>{3, 2, 3, 6, 5, 6});
}

TEST_CASE("a slice beyond its tensor is refused") {
  SmallProgram small;
  TensorRef x = small.tensor("x", {3});
  const TensorRef y = small.tensor("y", {2});
  x.slice_dim = 0;
  x.slice_begin = Index::of(2);
  x.slice_length = 2;
  small.add(Op::copy, {x}, {y});
  ReferenceRun run(small.program);
  run.set_global("x", 0, array_of({3}, {1, 2, 3}));
  CHECK_THROWS_WITH(run.run(), Contains("beyond its end"));
}

TEST_CASE("a sound relay runs in any order; each way to misuse memory in it is caught") {
  run_relay(relay());
  run_relay(relay(), ExecutionOrder::any_legal);
  const auto complaint = [](const SmallProgram& small) -> std::string {
    ReferenceRun run(small.program);
    run.set_global("x", 0, array_of({2}, {1, 2}));
    try {
      run.run();
    } catch (const ReferenceError& error) {
      return error.what();
    }
    return "none";
  };
  SmallProgram early = relay();  // released before its use
  std::swap(early.program.code[2], early.program.code[3]);
  CHECK_THAT(complaint(early),
             Contains("instruction 3 (copy 'copy') uses 'y' slot 0, which is not held"));

  SmallProgram never = relay();  // not released
  never.program.code.pop_back();
  CHECK_THAT(complaint(never), Contains("'y' slot 0 is held at the end"));

  SmallProgram twice = relay();  // allocated twice
  twice.program.code.insert(twice.program.code.begin(), twice.program.code[0]);
  CHECK_THAT(complaint(twice), Contains("which is held already"));

  SmallProgram again = relay();  // released twice
  again.program.code.push_back(again.program.code.back());
  CHECK_THAT(complaint(again), Contains("which is not held"));

  SmallProgram absent = relay();  // not allocated
  absent.program.code.erase(absent.program.code.begin());
  CHECK_THAT(complaint(absent), Contains("which is not held"));

  SmallProgram empty = relay();  // read before it was written
  empty.program.code.erase(empty.program.code.begin() + 1);
  CHECK_THAT(complaint(empty), Contains("never written"));

  SmallProgram beyond = relay();
  beyond.program.code[2].writes[0].slot = Index::of(1);
  CHECK_THAT(complaint(beyond), Contains("slot 1 of 1"));
}

TEST_CASE("memory given back and taken again holds nothing of what it held") {
  SmallProgram small = relay();
  small.program.code.push_back(small.program.code[0]);  // allocate
  small.program.code.push_back(small.program.code[2]);  // read
  small.program.code.push_back(small.program.code[3]);
  ReferenceRun run(small.program);
  run.set_global("x", 0, array_of({2}, {1, 2}));
  CHECK_THROWS_WITH(run.run(), Contains("never written"));
}

TEST_CASE("a rank that never comes to a collective leaves the others waiting for ever") {
  ReferenceRun run(relay().program);
  run.set_global("x", 0, array_of({2}, {1, 2}));
  run.leave_out(RankId(1), 1);
  for (const std::size_t place : {2, 3}) {  // what follows would trip over the missing data
    run.leave_out(RankId(1), place);
  }
  CHECK_THROWS_WITH(run.run(), Contains("never ends") &&
                                   Contains("rank 0, instruction 1 (send_receive 'send_receive') "
                                            "waits for others of group 'ring'"));
}

TEST_CASE("ranks that meet in different collectives are found out") {
  SmallProgram small = relay();
  const TensorRef x = small.program.code[1].reads[0];
  small.add(Op::all_reduce, {x}, {x});
  ReferenceRun run(small.program);
  run.set_global("x", 0, array_of({2}, {1, 2}));
  for (const std::size_t place : {1, 2}) {
    run.leave_out(RankId(0), place);
  }
  CHECK_THROWS_WITH(run.run(), Contains("meets"));
}

TEST_CASE("a group that lists an axis twice is refused") {
  SmallProgram small = relay();
  small.program.groups[0].axes = {Axis::ring, Axis::ring};
  ReferenceRun run(small.program);
  run.set_global("x", 0, array_of({2}, {1, 2}));
  CHECK_THROWS_WITH(run.run(), Contains("lists an axis twice"));
}

TEST_CASE("loops run, with slots and owners that depend on their counters") {
  // y[i] = x[2 - i] for i = 0..2.
  SmallProgram small;
  TensorRef x = small.tensor("x", {1});
  TensorRef y = small.tensor("y", {1});
  small.program.tensors[0].slots = small.program.tensors[1].slots = 3;
  small.program.loops = {{"turns", 3, true}};
  x.slot = Index::counter(LoopId(0), -1, 2);
  y.slot = Index::counter(LoopId(0));
  small.add(Op::loop_begin, {}, {});
  small.add(Op::copy, {x}, {y});
  small.add(Op::loop_end, {}, {});
  for (const ExecutionOrder order : {ExecutionOrder::program, ExecutionOrder::any_legal}) {
    ReferenceRun run(small.program);
    for (std::int64_t slot = 0; slot < 3; ++slot) {
      run.set_global("x", slot, array_of({1}, {10.0 + static_cast<double>(slot)}));
    }
    run.run(order, 3);
    for (std::int64_t slot = 0; slot < 3; ++slot) {
      CHECK(run.gather_global("y", slot).values[0] == 12.0 - static_cast<double>(slot));
    }
  }
}

TEST_CASE("any legal order is one that the seed decides, and dependences always hold") {
  // x -> x + x, twelve times in place: any order but the listed one would give another number.
  SmallProgram small;
  const TensorRef x = small.tensor("x", {1});
  const TensorRef other = small.tensor("other", {1});
  for (int i = 0; i < 12; ++i) {
    small.add(Op::add, {x, x}, {x});
    small.add(Op::copy, {x}, {other});
  }
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    ReferenceRun run(small.program);
    run.set_global("x", 0, array_of({1}, {1}));
    run.run(ExecutionOrder::any_legal, seed);
    CHECK(run.gather_global("other", 0).values[0] == 4096);
  }
}
