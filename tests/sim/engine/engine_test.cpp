// The engine: streams in order, dependences by slot, overlap, memory, deadlocks, determinism.
#include <catch2/catch.hpp>

#include "sim/engine/engine.h"
#include "sim/engine/price.h"
#include "sim/topology/read_cluster.h"
#include "sim/units/check.h"
#include "tests/sim/engine/small_programs.h"

using namespace longhaul;
using longhaul::test::Draft;

namespace {

struct Bench {
  explicit Bench(std::int64_t gpus)
      : cluster(*find_cluster("dgx-h100", {gpus}, {}, diagnostics)),
        kernels(find_kernel_costs(cluster.device(), "", diagnostics)),
        transport(find_transport_costs(cluster, diagnostics)) {}
  Timeline run(const Program& program, EngineOptions options = {}) const {
    return simulate(program, cluster, kernels, transport, options);
  }
  Diagnostics diagnostics;
  Cluster cluster;
  KernelCosts kernels;
  TransportCosts transport;
};

double seconds(SimTime time) { return time.seconds().value(); }

std::int64_t sum_of(const RankTimes& times) {
  std::int64_t sum = 0;
  for (const std::int64_t ticks : times.ticks) {
    sum += ticks;
  }
  return sum;
}

bool same(const RankTimes& a, const RankTimes& b) {
  return a.ticks == b.ticks && a.end == b.end && a.forward_end == b.forward_end;
}

}  // namespace

TEST_CASE("kernels of one stream run one after the other") {
  const Bench bench(1);
  Draft one(1);
  const TensorId a = one.tensor({4096, 4096});
  const TensorId b = one.tensor({4096, 4096});
  const TensorId c = one.tensor({4096, 4096});
  one.add(Op::gemm, {one.ref(a), one.ref(b)}, {one.ref(c)});
  const double once = seconds(bench.run(one.program).end);
  one.add(Op::gemm, {one.ref(a), one.ref(b)}, {one.ref(c)});
  const double twice = seconds(bench.run(one.program).end);
  CHECK(once > 0.0);
  CHECK_THAT(twice, Catch::Matchers::WithinRel(2.0 * once, 1e-9));
}

TEST_CASE("a collective overlaps kernels that do not touch its tensors, and no others") {
  const Bench bench(2);
  const auto build = [](bool dependent) {
    Draft d(2);
    const TensorId a = d.tensor({4096, 4096});
    const TensorId b = d.tensor({4096, 4096});
    const TensorId c = d.tensor({4096, 4096});
    const TensorId sent = d.tensor({64, 1024, 1024});
    const TensorId received = d.tensor({64, 1024, 1024});
    Instruction& hop = d.add(Op::send_receive, {d.ref(sent)}, {d.ref(received)});
    hop.stream = Stream::context;
    hop.group = GroupId(0);
    if (dependent) {
      d.add(Op::copy, {d.ref(received)}, {d.ref(sent)});
    }
    d.add(Op::gemm, {d.ref(a), d.ref(b)}, {d.ref(c)});
    return d.program;
  };
  const Timeline overlapped = bench.run(build(false));
  const Timeline dependent = bench.run(build(true));
  const auto exchange = static_cast<std::size_t>(Cause::ring_exchange);
  const auto gemm = static_cast<std::size_t>(Cause::gemm);
  CHECK(overlapped.ranks[0].ticks[exchange] + overlapped.ranks[0].ticks[gemm] ==
        overlapped.end.ticks());
  CHECK(dependent.ranks[0].ticks[exchange] > overlapped.ranks[0].ticks[exchange]);
  CHECK(dependent.end > overlapped.end);
}

namespace {

// One block of a ring of two: its merge, or its backward kernel with dq in fp32. 16,384 tokens of
// 32 heads a rank.
Program block_of_two(SequenceOrder order, Op op) {
  constexpr std::int64_t local = 16384;
  Draft d(2);
  d.program.attention = {2 * local, 2, order, {MaskKind::causal, 0}};
  const auto heads = [&](DataType type) {
    const TensorId made = d.tensor({1, local, 32, 128});
    d.program.tensors[made.index].type = type;
    return d.ref(made);
  };
  const auto rows = [&] {
    const TensorId made = d.tensor({1, 32, local});
    d.program.tensors[made.index].type = DataType::fp32;
    return d.ref(made);
  };
  const auto in_bf16 = [&] { return heads(DataType::bf16); };
  Instruction& made =
      op == Op::merge_attention
          ? d.add(op, {in_bf16(), rows()}, {heads(DataType::fp32), rows()})
          : d.add(op, {in_bf16(), in_bf16(), in_bf16(), in_bf16(), rows(), rows()},
                  {heads(DataType::fp32), in_bf16(), in_bf16()});
  made.block = AttentionBlock{Index::coordinate(Axis::ring), Index::coordinate(Axis::ring, 1, 2)};
  made.accumulate = true;
  return d.program;
}

double price_of(const Program& program, std::int64_t query_owner, std::int64_t key_owner) {
  const Bench bench(2);
  return Pricer(program, bench.kernels).price(0, query_owner, key_owner).time.value();
}

double copy_time(double bytes) {
  return Bench(2).kernels.memory_bound({Bytes::of(bytes), 1}).time.value();
}

}  // namespace

TEST_CASE("a merge of some rows moves their sums twice more where the stack slices them") {
  // Whole: read o and its sum, write the sum, 2 + 4 + 4 bytes an element. Of a slice the new sum is a
  // tensor of its own, which a copy reads and writes again: 18. Queries of rank 0 meet keys of rank
  // 1 in the later half of a zigzag shard, in all rows but the first of a striped one; those of rank
  // 1 are merged whole with either order.
  for (const SequenceOrder order : {SequenceOrder::zigzag, SequenceOrder::striped}) {
    CAPTURE(static_cast<int>(order));
    const double share = order == SequenceOrder::zigzag ? 0.5 : 1.0;
    Program program = block_of_two(order, Op::merge_attention);
    const double elements = 16384.0 * 32.0 * 128.0;
    const double plain = price_of(program, 0, 1);
    CHECK_THAT(plain, Catch::Matchers::WithinRel(copy_time(10.0 * elements * share), 0.03));
    const double whole = price_of(program, 1, 0);
    program.sliced_merges = true;
    CHECK_THAT(price_of(program, 0, 1),
               Catch::Matchers::WithinRel(copy_time(18.0 * elements * share), 0.03));
    CHECK(price_of(program, 1, 0) == whole);
  }
}

TEST_CASE("dq in the compute type costs a pass that adds it to its sum, of the rows of the call") {
  // 2 bytes read, 4 read and 4 written an element; in the first step the sum is only written. Half
  // of a zigzag shard's queries meet a later rank's keys.
  const double elements = 16384.0 * 32.0 * 128.0;
  Program program = block_of_two(SequenceOrder::zigzag, Op::attend_backward);
  const auto added = [&](std::int64_t query_owner, std::int64_t key_owner) {
    program.separate_query_sums = false;
    const double without = price_of(program, query_owner, key_owner);
    program.separate_query_sums = true;
    return price_of(program, query_owner, key_owner) - without;
  };
  CHECK_THAT(added(1, 0), Catch::Matchers::WithinRel(copy_time(10.0 * elements), 1e-6));
  CHECK_THAT(added(0, 1), Catch::Matchers::WithinRel(copy_time(5.0 * elements), 1e-6));
  program.code[0].accumulate = false;
  CHECK_THAT(added(1, 0), Catch::Matchers::WithinRel(copy_time(6.0 * elements), 1e-6));
  program.tensors[program.code[0].writes[0].tensor.index].type = DataType::bf16;
  CHECK(added(1, 0) == 0.0);
}

namespace {

// A message of 64 MiB, called for before a call of attention which needs what arrives, or does not.
Program message_and_attention(bool attends, bool needs, bool late) {
  constexpr std::int64_t local = 16384;
  Draft d(2);
  d.program.attention = {2 * local, 2, SequenceOrder::contiguous, {MaskKind::full, 0}};
  d.program.host.late_messages = late;
  const TensorId q = d.tensor({1, local, 16, 128});
  const TensorId k = d.tensor({1, local, 16, 128});
  const TensorId arriving = d.tensor({1, local, 16, 128});
  const TensorId o = d.tensor({1, local, 16, 128});
  const TensorId lse = d.tensor({1, 16, local});
  Instruction& hop = d.add(Op::send_receive, {d.ref(k)}, {d.ref(arriving)});
  hop.stream = Stream::context;
  hop.group = GroupId(0);
  if (attends) {
    const TensorId keys = needs ? arriving : k;
    d.add(Op::attend, {d.ref(q), d.ref(keys), d.ref(k)}, {d.ref(o), d.ref(lse)}).block =
        AttentionBlock{Index::coordinate(Axis::ring), Index::coordinate(Axis::ring)};
  }
  return d.program;
}

}  // namespace

TEST_CASE("a late message gets its SMs when the last tiles of attention have begun") {
  const Bench bench(2);
  const auto end = [&](bool attends, bool needs, bool late) {
    return seconds(bench.run(message_and_attention(attends, needs, late)).end);
  };
  AttentionShape shape;
  shape.queries = shape.keys = 16384;
  shape.heads = shape.kv_heads = 16;
  shape.head_dim = 128;
  shape.block = true;
  const KernelTime kernel = bench.kernels.attention(shape);
  const double message = end(false, false, false);
  // 2,048 tiles on 132 SMs are 16 waves; the message is longer than one and shorter than all.
  CHECK_THAT(kernel.time / kernel.last_tiles, Catch::Matchers::WithinRel(16.0, 1e-9));
  REQUIRE(message > kernel.last_tiles.value());
  REQUIRE(message < 0.5 * kernel.time.value());
  const double early = end(true, false, false);
  const double late = end(true, false, true);
  CHECK(early < 1.1 * kernel.time.value());
  // The message's SMs slow the last wave, which the message outlives: nothing but its start counts.
  CHECK_THAT(late, Catch::Matchers::WithinRel(
                       (kernel.time - kernel.last_tiles).value() + message, 0.01));
  // What attention waits for does not wait for attention.
  CHECK(end(true, true, true) == end(true, true, false));
}

TEST_CASE("skipping turns changes nothing where messages are late") {
  for (const std::int64_t ring : {2, 8}) {
    const Bench bench(ring);
    Program program = test::ring_layers(ring, 24, MaskKind::causal);
    program.host.late_messages = true;
    EngineOptions stepping;
    stepping.skip_repetition = false;
    const Timeline skipped = bench.run(program);
    const Timeline stepped = bench.run(program, stepping);
    CHECK(skipped.end == stepped.end);
    CHECK(skipped.simulated_events < stepped.simulated_events);
    for (std::size_t rank = 0; rank < stepped.ranks.size(); ++rank) {
      CHECK(same(skipped.ranks[rank], stepped.ranks[rank]));
    }
  }
}

namespace {

// Two messages one behind the other, and a kernel that needs what the second brings. Rank 1 may have
// a product of its own to make before it calls for either.
Program queued_messages(bool late) {
  Draft d(2);
  const TensorId a = d.tensor({8192, 8192});
  const TensorId b = d.tensor({8192, 8192});
  const TensorId c = d.tensor({8192, 8192});
  if (late) {
    d.add(Op::gemm, {d.ref(a), d.ref(b)}, {d.ref(c)}).when = {
        {Index::coordinate(Axis::ring), 1, 1}};
  }
  const TensorId first = d.tensor({64, 1024, 1024});
  const TensorId second = d.tensor({64, 1024, 1024});
  for (const TensorId sent : {first, second}) {
    const TensorId received = d.tensor({64, 1024, 1024});
    Instruction& hop =
        d.add(Op::send_receive, {d.ref(c), d.ref(sent)}, {d.ref(received), d.ref(sent)});
    hop.stream = Stream::context;
    hop.group = GroupId(0);
  }
  d.add(Op::copy, {d.ref(second)}, {d.ref(first)});
  return d.program;
}

}  // namespace

TEST_CASE("a rank that waits for a message behind another one waits for both, and for nobody") {
  // Both move from the start: all that is not the copy is ring exchange.
  const Bench bench(2);
  const Timeline queued = bench.run(queued_messages(false));
  const auto copy = static_cast<std::size_t>(Cause::memory_bound);
  const auto exchange = static_cast<std::size_t>(Cause::ring_exchange);
  const auto slower = static_cast<std::size_t>(Cause::slower_ranks);
  for (const RankTimes& times : queued.ranks) {
    CHECK(times.ticks[slower] == 0);
    CHECK(times.ticks[exchange] > 3 * times.ticks[copy]);
    CHECK(times.ticks[exchange] + times.ticks[copy] == queued.end.ticks());
  }
  // If one rank comes later by a product, the other waits for it that long, and the messages take
  // what they took.
  const Timeline late = bench.run(queued_messages(true));
  const auto gemm = static_cast<std::size_t>(Cause::gemm);
  CHECK(late.ranks[1].ticks[gemm] > 0);
  CHECK(late.ranks[0].ticks[slower] == late.ranks[1].ticks[gemm]);
  CHECK(late.ranks[1].ticks[slower] == 0);
  for (const RankTimes& times : late.ranks) {
    CHECK(times.ticks[exchange] == queued.ranks[0].ticks[exchange]);
  }
}

TEST_CASE("every rank's causes sum to the end of the program, tick by tick") {
  const Bench bench(8);
  const Timeline timeline = bench.run(test::ring_layers(8, 6, MaskKind::causal));
  for (const RankTimes& times : timeline.ranks) {
    CHECK(sum_of(times) == timeline.end.ticks());
  }
}

TEST_CASE("skipping turns changes no time, no account, no peak and no byte on any link") {
  for (const std::int64_t ring : {2, 3, 8, 16}) {
    for (const MaskKind mask : {MaskKind::causal, MaskKind::full}) {
      const Bench bench(ring);
      const Program program = test::ring_layers(ring, 24, mask);
      const Timeline skipped = bench.run(program);
      EngineOptions stepping;
      stepping.skip_repetition = false;
      const Timeline stepped = bench.run(program, stepping);
      CHECK(skipped.end == stepped.end);
      CHECK(skipped.events == stepped.events);
      CHECK(skipped.simulated_events < stepped.simulated_events);
      for (std::size_t rank = 0; rank < stepped.ranks.size(); ++rank) {
        CHECK(same(skipped.ranks[rank], stepped.ranks[rank]));
        CHECK(skipped.memory[rank].bytes == stepped.memory[rank].bytes);
      }
      for (std::size_t link = 0; link < stepped.link_bytes.size(); ++link) {
        CHECK_THAT(skipped.link_bytes[link],
                   Catch::Matchers::WithinRel(stepped.link_bytes[link], 1e-9));
      }
    }
  }
}

TEST_CASE("a loop equals the same work written out") {
  const Bench bench(4);
  const Timeline looped = bench.run(test::ring_layers(4, 1, MaskKind::full));
  Program program = test::ring_layers(4, 1, MaskKind::full);
  std::vector<Instruction> unrolled;
  std::vector<Instruction> body;
  bool inside = false;
  for (const Instruction& instruction : program.code) {
    const bool mark = (instruction.op == Op::loop_begin || instruction.op == Op::loop_end) &&
                      instruction.loop == LoopId(1);
    if (!mark) {
      (inside ? body : unrolled).push_back(instruction);
      continue;
    }
    inside = instruction.op == Op::loop_begin;
    for (std::int64_t turn = 0; !inside && turn < program.loops[1].count; ++turn) {
      for (Instruction copy : body) {
        const auto fix = [&](Index& index) {
          if (index.loop == LoopId(1)) {
            index.constant += index.loop_coefficient * turn;
            index.loop.reset();
          }
        };
        for (TensorRef& ref : copy.reads) fix(ref.slot);
        for (TensorRef& ref : copy.writes) fix(ref.slot);
        if (copy.block) fix(*copy.block->key_owner);
        unrolled.push_back(copy);
      }
    }
  }
  program.code = unrolled;
  program.loops.resize(1);
  CHECK(bench.run(program).end == looped.end);
}

TEST_CASE("memory follows allocate and release, and the categories sum to the peak") {
  const Bench bench(1);
  Draft d(1);
  const TensorId kept = d.tensor({1000}, 1, true);
  const TensorId early = d.tensor({5000}, 1, false);
  const TensorId late = d.tensor({7000}, 1, false);
  d.program.tensors[early.index].category = MemoryCategory::workspace;
  d.add(Op::allocate, {}, {d.ref(early)});
  d.add(Op::zero, {}, {d.ref(early)});
  d.add(Op::release, {d.ref(early)}, {});
  d.add(Op::allocate, {}, {d.ref(late)});
  d.add(Op::copy, {d.ref(kept)}, {d.ref(late)});
  d.add(Op::release, {d.ref(late)}, {});
  const MemoryPeak peak = bench.run(d.program).memory[0];
  CHECK(peak.total == 2000 + 14000);
  std::int64_t sum = 0;
  for (const std::int64_t bytes : peak.bytes) {
    sum += bytes;
  }
  CHECK(sum == peak.total);
  CHECK(peak.bytes[static_cast<std::size_t>(MemoryCategory::workspace)] == 0);
}

TEST_CASE("ranks that disagree about their collectives are a bug, and it is named") {
  const Bench bench(2);
  Draft d(2);
  const TensorId a = d.tensor({1024});
  const TensorId b = d.tensor({1024});
  Instruction& hop = d.add(Op::send_receive, {d.ref(a)}, {d.ref(b)});
  hop.stream = Stream::context;
  CHECK_THROWS_AS(bench.run(d.program), BugError);
}

TEST_CASE("the same input gives the same timeline") {
  const Bench bench(8);
  const Program program = test::ring_layers(8, 5, MaskKind::causal);
  const Timeline first = bench.run(program);
  const Timeline second = bench.run(program);
  CHECK(first.end == second.end);
  CHECK(first.link_bytes == second.link_bytes);
}
