// The emulated GPU keeps CUDA's rules, and notices kernels that break them.
#include <vector>

#include <catch2/catch.hpp>

#include "kernels/common/simt.h"
#include "kernels/common/team.h"

namespace longhaul::kernels {
namespace {

void reverse_block(const int* from, int* to) {
  __shared__ int values[64];
  values[threadIdx.x] = from[blockIdx.x * blockDim.x + threadIdx.x];
  __syncthreads();
  to[blockIdx.x * blockDim.x + threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

TEST_CASE("no thread passes a barrier before the last has come, in whatever order they run") {
  std::vector<int> from(192);
  for (int i = 0; i < 192; ++i) from[i] = i;
  for (const std::uint64_t order : {0, 1, 2}) {
    emulated::set_order(order);
    std::vector<int> to(192, -1);
    launch(Grid{3, 64}, reverse_block, static_cast<const int*>(from.data()), to.data());
    for (int i = 0; i < 192; ++i) CHECK(to[i] == i / 64 * 64 + 63 - i % 64);
  }
  emulated::set_order(0);
}

void sum_teams(const float* from, float* of_warp, float* of_block, float* largest) {
  const float mine = from[threadIdx.x];
  of_warp[threadIdx.x] = Team<false>::sum(mine);
  of_block[threadIdx.x] = Team<true>::sum(mine);
  largest[threadIdx.x] = Team<true>::max(mine);
}

TEST_CASE("sums and maxima of a warp and of a block are those of their threads") {
  std::vector<float> from(96), of_warp(96), of_block(96), largest(96);
  for (int i = 0; i < 96; ++i) from[i] = static_cast<float>((i * 37) % 96) - 100.0f;
  launch(Grid{1, 96}, sum_teams, static_cast<const float*>(from.data()), of_warp.data(),
         of_block.data(), largest.data());
  float whole = 0;
  for (int warp = 0; warp < 3; ++warp) {
    float sum = 0;
    for (int lane = 0; lane < 32; ++lane) sum += from[32 * warp + lane];
    for (int lane = 0; lane < 32; ++lane) CHECK(of_warp[32 * warp + lane] == sum);
    whole += sum;
  }
  for (int i = 0; i < 96; ++i) {
    CHECK(of_block[i] == whole);
    CHECK(largest[i] == -5.0f);
  }
}

void leave_early(int leaving) {
  if (static_cast<int>(threadIdx.x) == leaving) return;
  __syncthreads();
}

TEST_CASE("a barrier that a thread never reaches is an error, not a hang") {
  CHECK_THROWS_WITH(launch(Grid{1, 32}, leave_early, 5),
                    Catch::Contains("wait for others that have returned"));
  CHECK_NOTHROW(launch(Grid{1, 32}, leave_early, 32));
}

void write_shared(int* first_bytes) {
  auto* shared = reinterpret_cast<unsigned char*>(dynamic_shared());
  if (threadIdx.x == 0) first_bytes[blockIdx.x] = shared[0] + 256 * shared[63];
  shared[2 * threadIdx.x] = 1;
  shared[2 * threadIdx.x + 1] = 1;
}

TEST_CASE("dynamic shared memory comes poisoned to every block") {
  std::vector<int> first_bytes(2);
  launch(Grid{2, 32, 64}, write_shared, first_bytes.data());
  CHECK(first_bytes[0] == 0xffff);
  CHECK(first_bytes[1] == 0xffff);
}

}  // namespace
}  // namespace longhaul::kernels
