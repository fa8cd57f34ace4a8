// The caching allocator: every expectation is worked out by hand from its published constants.
#include <catch2/catch.hpp>

#include "sim/engine/allocator_replay.h"
#include "sim/engine/engine.h"
#include "sim/topology/read_cluster.h"
#include "tests/sim/engine/small_programs.h"

using namespace longhaul;
using longhaul::test::Draft;

namespace {
constexpr std::int64_t mib = 1 << 20;
}  // namespace

TEST_CASE("sizes are rounded to 512 bytes, small blocks share segments of 2 MiB") {
  CachingAllocator allocator({});
  allocator.allocate(1);
  CHECK(allocator.counts().requested == 1);
  CHECK(allocator.counts().allocated == 512);
  CHECK(allocator.counts().reserved == 2 * mib);
  allocator.allocate(mib);  // the largest small size
  CHECK(allocator.counts().reserved == 2 * mib);
  allocator.allocate(mib);  // 512 bytes too many for the rest of the first segment
  CHECK(allocator.counts().reserved == 4 * mib);
}

TEST_CASE("a byte more than 1 MiB comes from a segment of 20 MiB, 10 MiB from one of its own") {
  CachingAllocator allocator({});
  allocator.allocate(mib + 1);
  CHECK(allocator.counts().reserved == 20 * mib);
  allocator.allocate(10 * mib - 512);  // from the rest of the 20 MiB
  CHECK(allocator.counts().reserved == 20 * mib);
  allocator.allocate(10 * mib - 512);  // 9 MiB - 512 are left
  CHECK(allocator.counts().reserved == 40 * mib);
  CachingAllocator own({});
  own.allocate(10 * mib + 1);
  CHECK(own.counts().reserved == 12 * mib);
}

TEST_CASE("the rest of a large block is cut off only if it exceeds 1 MiB") {
  CachingAllocator whole({});
  whole.allocate(11 * mib);  // a segment of 12 MiB
  CHECK(whole.counts().allocated == 12 * mib);
  CHECK(whole.free_blocks().empty());
  CachingAllocator cut({});
  cut.allocate(11 * mib - 512);
  CHECK(cut.counts().allocated == 11 * mib - 512);
  CHECK(cut.free_blocks().size() == 1);
}

TEST_CASE("the best fit is taken and neighbours merge when they are freed") {
  CachingAllocator allocator({});
  const auto a = allocator.allocate(40 * mib);
  const auto b = allocator.allocate(30 * mib);
  allocator.free(a);
  allocator.free(b);
  const auto c = allocator.allocate(28 * mib);  // from b's 30 MiB, not from a's 40
  CHECK(allocator.free_blocks().front().size == 2 * mib);
  CHECK(allocator.free_blocks().back().size == 40 * mib);
  allocator.free(c);
  CHECK(allocator.free_blocks().front().size == 30 * mib);
  CHECK(allocator.counts().reserved == 70 * mib);
  CHECK(allocator.counts().allocated == 0);
  CHECK(allocator.counts().peak_allocated == 70 * mib);
}

TEST_CASE("a fragmented cache cannot serve what fits its sum; expandable segments can") {
  for (const bool expandable : {false, true}) {
    AllocatorOptions options;
    options.expandable_segments = expandable;
    CachingAllocator allocator(options);
    const auto a = allocator.allocate(40 * mib);
    const auto b = allocator.allocate(40 * mib);
    allocator.free(a);
    allocator.free(b);
    allocator.allocate(80 * mib);
    CHECK(allocator.counts().reserved == (expandable ? 80 * mib : 160 * mib));
  }
}

TEST_CASE("an expandable segment grows by pages of 20 MiB behind its last block") {
  AllocatorOptions options;
  options.expandable_segments = true;
  CachingAllocator allocator(options);
  allocator.allocate(30 * mib);
  CHECK(allocator.counts().reserved == 40 * mib);
  allocator.allocate(11 * mib);  // 10 MiB are free at the end: one page more
  CHECK(allocator.counts().reserved == 60 * mib);
  CHECK(allocator.counts().allocated == 41 * mib);
}

TEST_CASE("when the device is full, whole pages of free blocks inside an expandable segment go back") {
  // Blocks of 50, 70 and 30 MiB: pages of 20 MiB from 60 to 120 lie wholly in the second.
  AllocatorOptions options;
  options.expandable_segments = true;
  options.capacity = 180 * mib;
  CachingAllocator allocator(options);
  allocator.allocate(50 * mib);
  const auto inner = allocator.allocate(70 * mib);
  allocator.allocate(30 * mib);
  CHECK(allocator.counts().reserved == 160 * mib);
  allocator.free(inner);
  allocator.allocate(80 * mib);
  CHECK(allocator.counts().retries == 1);
  CHECK(allocator.counts().reserved == 180 * mib);
  CHECK_FALSE(allocator.counts().out_of_memory);
  allocator.allocate(40 * mib);
  CHECK(allocator.counts().out_of_memory);
}

TEST_CASE("when the device is full, cached segments are given back before memory runs out") {
  AllocatorOptions options;
  options.capacity = 100 * mib;
  CachingAllocator allocator(options);
  allocator.free(allocator.allocate(60 * mib));
  const auto held = allocator.allocate(80 * mib);
  CHECK(allocator.counts().retries == 1);
  CHECK(allocator.counts().reserved == 80 * mib);
  CHECK_FALSE(allocator.counts().out_of_memory);
  allocator.allocate(30 * mib);
  CHECK(allocator.counts().out_of_memory);
  CHECK(allocator.counts().peak_reserved > options.capacity);
  allocator.free(held);
}

TEST_CASE("a block is freed once") {
  CachingAllocator allocator({});
  const auto a = allocator.allocate(5);
  allocator.free(a);
  CHECK_THROWS(allocator.free(a));
}

TEST_CASE("a block that another stream still uses is not reused, though nobody holds it any more") {
  CachingAllocator allocator({});
  const auto a = allocator.allocate(40 * mib);
  allocator.free_after(a, 10);
  CHECK(allocator.counts().allocated == 0);
  CHECK_THROWS(allocator.free(a));
  const auto b = allocator.allocate(40 * mib);  // not a's block
  CHECK(allocator.counts().reserved == 80 * mib);
  allocator.set_time(9);
  CHECK(allocator.waiting().size() == 1);
  allocator.set_time(10);
  CHECK(allocator.waiting().empty());
  allocator.allocate(40 * mib);  // a's block
  CHECK(allocator.counts().reserved == 80 * mib);
  allocator.free_after(b, 10);  // that was then
  allocator.allocate(40 * mib);
  CHECK(allocator.counts().reserved == 80 * mib);
}

TEST_CASE("on a full device the allocator waits for other streams before it gives up") {
  for (const bool expandable : {false, true}) {
    AllocatorOptions options;
    options.capacity = 100 * mib;
    options.expandable_segments = expandable;
    CachingAllocator allocator(options);
    const auto a = allocator.allocate(60 * mib);
    allocator.free_after(a, 10);
    allocator.allocate(80 * mib);
    CHECK(allocator.counts().retries == 1);
    CHECK(allocator.counts().reserved == 80 * mib);
    CHECK_FALSE(allocator.counts().out_of_memory);
    CHECK(allocator.waiting().empty());
  }
}

namespace {

// Ten times: a tensor is summed over ranks and given back, between matrix products.
AllocatorCounts counts_of_transfers(double launch_us, bool records) {
  Diagnostics diagnostics;
  const Cluster cluster = *find_cluster("dgx-h100", {1}, {}, diagnostics);
  const KernelCosts kernels = find_kernel_costs(cluster.device(), "", diagnostics);
  Draft d(2);
  d.program.host.launch = Seconds::of(launch_us * 1e-6);
  const TensorId x = d.tensor({8192, 8192});
  const TensorId w = d.tensor({8192, 8192});
  const TensorId sum = d.tensor({8192, 8192}, 1, false);
  const LoopId layers = d.loop(10, true);
  d.begin(layers);
  d.add(Op::allocate, {}, {d.ref(sum)});
  d.add(Op::gemm, {d.ref(x), d.ref(w)}, {d.ref(sum)});
  Instruction& reduce = d.add(Op::all_reduce, {d.ref(sum)}, {d.ref(sum)});
  reduce.stream = Stream::context;
  reduce.group = GroupId(0);
  d.add(Op::release, {d.ref(sum)}, {});
  d.end(layers);
  d.program.host.record_streams = records;
  return replay_allocator(d.program, RankId(0), kernels, {});
}

}  // namespace

TEST_CASE("a host that runs ahead finds none of its sums back, one that keeps up finds them all") {
  // 128 MiB each; a product takes about 1.7 ms. The weights are there, too: 256 MiB.
  CHECK(counts_of_transfers(1.0, false).peak_reserved == 3 * 128 * mib);
  CHECK(counts_of_transfers(1.0, true).peak_reserved == 12 * 128 * mib);
  CHECK(counts_of_transfers(1.0, true).peak_allocated == 3 * 128 * mib);
  // A launch that takes longer than the product: the sum before the last is done, at least.
  CHECK(counts_of_transfers(1e4, true).peak_reserved <= 4 * 128 * mib);
}

// A program that overlaps nothing is seen alike by the ledger, which follows the GPU, and by the
// allocator, which follows the host.
TEST_CASE("without overlap the allocator's callers hold what the ledger says, skipped turns too") {
  Diagnostics diagnostics;
  const Cluster cluster = *find_cluster("dgx-h100", {1}, {}, diagnostics);
  const KernelCosts kernels = find_kernel_costs(cluster.device(), "", diagnostics);
  const TransportCosts transport = find_transport_costs(cluster, diagnostics);
  Draft d(1);
  const TensorId weight = d.tensor({1024, 1024});
  const TensorId saved = d.tensor({3000, 1024}, 7, false);
  const TensorId scratch = d.tensor({5000, 1024}, 1, false);
  const LoopId batches = d.loop(50, true);
  const LoopId layers = d.loop(7, true);
  d.begin(batches);
  d.begin(layers);
  d.add(Op::allocate, {}, {d.ref(saved, Index::counter(layers))});
  d.add(Op::allocate, {}, {d.ref(scratch)});
  d.add(Op::zero, {}, {d.ref(scratch)});
  d.add(Op::release, {d.ref(scratch)}, {});
  d.end(layers);
  const LoopId back = d.loop(7, true);
  d.begin(back);
  d.add(Op::release, {d.ref(saved, Index::counter(back, -1, 6))}, {});
  d.end(back);
  d.end(batches);
  const AllocatorCounts counts = replay_allocator(d.program, RankId(0), kernels, {});
  const Timeline timeline = simulate(d.program, cluster, kernels, transport);
  const std::int64_t expected = 2 * 1024 * (1024 + 7 * 3000 + 5000);
  CHECK(counts.peak_requested == expected);
  CHECK(timeline.memory[0].total == expected);
  CHECK(counts.requested == 2 * 1024 * 1024);
  CHECK(counts.peak_reserved >= counts.peak_allocated);
  static_cast<void>(weight);
}
