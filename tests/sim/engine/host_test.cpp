// The host: it launches in order, runs ahead, and is waited for.
#include <catch2/catch.hpp>

#include "sim/engine/engine.h"
#include "sim/schedule/stack.h"
#include "sim/topology/read_cluster.h"
#include "tests/sim/engine/small_programs.h"

using namespace longhaul;
using longhaul::test::Draft;

namespace {

double run(const Program& program, bool skip = true) {
  Diagnostics diagnostics;
  const Cluster cluster = *find_cluster("dgx-h100", {program.mesh.ranks()}, {}, diagnostics);
  const KernelCosts kernels = find_kernel_costs(cluster.device(), "", diagnostics);
  const TransportCosts transport = find_transport_costs(cluster, diagnostics);
  EngineOptions options;
  options.skip_repetition = skip;
  return simulate(program, cluster, kernels, transport, options).end.seconds().value();
}

// `count` matrix products of `size` one after the other, in a loop.
Program products(std::int64_t size, std::int64_t count, double launch) {
  Draft d(1);
  const TensorId a = d.tensor({size, size});
  const TensorId b = d.tensor({size, size});
  const TensorId c = d.tensor({size, size});
  d.program.host.launch = Seconds::of(launch);
  const LoopId loop = d.loop(count, true);
  d.begin(loop);
  d.add(Op::gemm, {d.ref(a), d.ref(b)}, {d.ref(c)});
  d.end(loop);
  return d.program;
}

}  // namespace

TEST_CASE("kernels shorter than their launch run at the pace of the host") {
  const double launch = 100e-6;
  const double last = run(products(64, 1, 0.0));
  const double whole = run(products(64, 500, launch));
  CHECK_THAT(whole, Catch::Matchers::WithinRel(500 * launch + last, 1e-6));
}

TEST_CASE("kernels longer than their launch hide the host, but for the first launch") {
  const double launch = 5e-6;
  const double ideal = run(products(8192, 50, 0.0));
  const double real = run(products(8192, 50, launch));
  CHECK_THAT(real, Catch::Matchers::WithinRel(ideal + launch, 1e-6));
}

TEST_CASE("where gaps are kept each kernel takes its launch or its own time, whichever is longer") {
  const auto gapped = [](std::int64_t size, double gap) {
    Program program = products(size, 50, 0.0);
    program.gap = Seconds::of(gap);
    return run(program);
  };
  CHECK_THAT(gapped(64, 100e-6), Catch::Matchers::WithinRel(50 * 100e-6, 1e-6));
  CHECK(gapped(8192, 100e-6) == gapped(8192, 0.0));
}

TEST_CASE("rows of an odd length slow a product unless the stack pads them") {
  const auto columns = [](std::int64_t n, bool pads) {
    Draft d(1);
    d.add(Op::gemm, {d.ref(d.tensor({4096, 2048})), d.ref(d.tensor({2048, n}))},
          {d.ref(d.tensor({4096, n}))});
    d.program.pads_rows = pads;
    return run(d.program);
  };
  CHECK(columns(50257, false) > 2.0 * columns(50258, false));
  CHECK(columns(50257, true) < columns(50264, true) * 1.02);
}

TEST_CASE("skipping turns changes nothing when the host sets the pace, the GPU does, or both") {
  for (const double launch : {0.0, 2e-6, 20e-6, 1.3e-3}) {
    CHECK(run(products(4096, 300, launch), true) == run(products(4096, 300, launch), false));
  }
}

TEST_CASE("a segment that the allocator takes from the driver costs its host time, a cached one none") {
  // Ten tensors of 24 MiB, each a segment of its own: 10 x 1 ms, the kernels between (some 20 us)
  // run meanwhile, but the last. Given back each time, the first one's segment serves all ten. Of
  // 5 MiB, four share a segment of 20 MiB: three segments. A host that keeps its cache takes none.
  const auto steps = [](std::int64_t mebibytes, bool keep, double segment) {
    Draft d(1);
    const TensorId saved = d.tensor({mebibytes << 10, 512}, 10, false);
    d.program.host.segment = Seconds::of(segment);
    const LoopId loop = d.loop(10, true);
    const TensorRef slot = d.ref(saved, keep ? Index::counter(loop) : Index::of(0));
    d.begin(loop);
    d.add(Op::allocate, {}, {slot});
    d.add(Op::zero, {}, {slot});
    if (!keep) {
      d.add(Op::release, {slot}, {});
    }
    d.end(loop);
    return run(d.program);
  };
  const auto near = [](double milliseconds) {
    return Catch::Matchers::WithinAbs(milliseconds * 1e-3, 0.3e-3);
  };
  CHECK_THAT(steps(24, true, 1e-3), near(10.0));
  CHECK_THAT(steps(24, false, 1e-3), near(1.0));
  CHECK_THAT(steps(5, true, 1e-3), near(3.0));
  CHECK_THAT(steps(24, true, 0.0), near(0.0));
}

TEST_CASE("a grouped product takes longer by what each of its members adds") {
  const auto grouped = [](double each) {
    Draft d(1);
    const TensorId a = d.tensor({32, 512, 1024});
    const TensorId b = d.tensor({32, 1024, 2048});
    const TensorId c = d.tensor({32, 512, 2048});
    d.program.grouped_product = Seconds::of(each);
    d.add(Op::grouped_gemm, {d.ref(a), d.ref(b)}, {d.ref(c)});
    return run(d.program);
  };
  CHECK_THAT(grouped(9e-6) - grouped(0.0), Catch::Matchers::WithinRel(32 * 9e-6, 1e-6));
}

TEST_CASE("copies around an attention kernel take the time of moving its operands so many times more") {
  // 8,192 tokens, 64 query and 8 key heads of 128: q, o, k, v are 302 MB, backward twice that with
  // their gradients. 4.4 times 302 MB at 3.35 TB/s are 0.40 ms, of a stream's share somewhat more.
  const auto attention = [](Op op, double traffic) {
    Draft d(1);
    d.program.attention = {8192, 1, SequenceOrder::contiguous, {MaskKind::full, 0}};
    const TensorId q = d.tensor({1, 8192, 64, 128});
    const TensorId k = d.tensor({1, 8192, 8, 128});
    const TensorId rows = d.tensor({1, 64, 8192});
    const bool forward = op == Op::attend;
    Instruction& call =
        forward ? d.add(op, {d.ref(q), d.ref(k), d.ref(k)}, {d.ref(q), d.ref(rows)})
                : d.add(op, {d.ref(q), d.ref(k), d.ref(k), d.ref(q), d.ref(rows), d.ref(rows)},
                        {d.ref(q), d.ref(k), d.ref(k)});
    call.block = AttentionBlock{Index::of(0), Index::of(0)};
    call.traffic = traffic;
    return run(d.program);
  };
  const double more = attention(Op::attend, 5.4) - attention(Op::attend, 1.0);
  CHECK(more > 4.4 * 302e6 / 3.35e12);
  CHECK(more < 1.25 * 4.4 * 302e6 / 3.35e12);
  const double back = attention(Op::attend_backward, 5.4) - attention(Op::attend_backward, 1.0);
  CHECK_THAT(back, Catch::Matchers::WithinRel(2.0 * more, 0.02));
}

TEST_CASE("a host that waits for the GPU adds its own time to the step") {
  Program program = products(8192, 5, 0.0);
  const double before = run(program);
  Instruction wait;
  wait.op = Op::host;
  wait.waits = true;
  wait.host_time = Seconds::of(3e-3);
  program.code.push_back(wait);
  CHECK_THAT(run(program), Catch::Matchers::WithinRel(before + 3e-3, 1e-9));
}

TEST_CASE("the expected largest of normal numbers is that of the tables") {
  // H. L. Harter 1961, expected values of normal order statistics: n = 2, 10, 100.
  CHECK(expected_largest(1) == 0.0);
  CHECK_THAT(expected_largest(2), Catch::Matchers::WithinAbs(0.56419, 0.03));
  CHECK_THAT(expected_largest(10), Catch::Matchers::WithinAbs(1.53875, 0.02));
  CHECK_THAT(expected_largest(100), Catch::Matchers::WithinAbs(2.50759, 0.02));
}
