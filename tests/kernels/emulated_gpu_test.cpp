// The emulated GPU keeps CUDA's rules, and notices kernels that break them.
#include <cmath>
#include <cstring>
#include <vector>

#include <catch2/catch.hpp>

#include "kernels/common/simt.h"
#include "kernels/common/team.h"
#include "kernels/common/warp_mma.h"

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

// Rows of `columns` bf16, chunks exchanged so that a column of chunks has no bank conflicts.
std::byte* chunk_at(std::byte* matrix, int columns, int row, int chunk) {
  return matrix + row * columns * 2 + (chunk ^ (row % 8)) * 16;
}

void fill(std::byte* matrix, int rows, int columns, const std::vector<Bfloat16>& values) {
  for (int row = 0; row < rows; ++row) {
    for (int chunk = 0; chunk < columns / 8; ++chunk) {
      std::memcpy(chunk_at(matrix, columns, row, chunk), &values[row * columns + 8 * chunk], 16);
    }
  }
}

// C = A B of A [16][64], of which 16 columns count, and B [16][64], eight of whose columns count.
void multiply_matrices(const std::vector<Bfloat16>* a, const std::vector<Bfloat16>* b, float* c) {
  std::byte* shared_a = dynamic_shared();
  std::byte* shared_b = shared_a + 16 * 128;
  if (threadIdx.x == 0) {
    fill(shared_a, 16, 64, *a);
    fill(shared_b, 16, 64, *b);
  }
  __syncthreads();
  const int lane = lane_index();
  FragmentA left;
  std::uint32_t right[4];
  load_matrices<false>(chunk_at(shared_a, 64, lane % 16, lane / 16), left.words);
  load_matrices<true>(chunk_at(shared_b, 64, lane % 16, lane / 16), right);
  float sums[4] = {1.0f, 1.0f, 1.0f, 1.0f};
  multiply_add(sums, left, FragmentB{{right[0], right[1]}});
  for (int i = 0; i < 4; ++i) {
    // PTX ISA: c0, c1 of row lane / 4, c2, c3 of the row 8 below; columns 2 (lane % 4) and the
    // next.
    c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
  }
}

TEST_CASE("ldmatrix and mma together are the product of matrices, added to what was there") {
  std::vector<Bfloat16> a, b;
  for (int i = 0; i < 16 * 64; ++i) {
    a.push_back(to_bfloat16(static_cast<float>(i % 13 - 6)));
    b.push_back(to_bfloat16(static_cast<float>(i % 11 - 5)));
  }
  std::vector<float> c(16 * 8, 0.0f);
  launch(Grid{1, 32, 2 * 16 * 128}, multiply_matrices,
         static_cast<const std::vector<Bfloat16>*>(&a),
         static_cast<const std::vector<Bfloat16>*>(&b), c.data());
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      float sum = 1.0f;  // small whole numbers: exact in bf16 and in any order
      for (int k = 0; k < 16; ++k) sum += to_float(a[row * 64 + k]) * to_float(b[k * 64 + column]);
      CHECK(c[row * 8 + column] == sum);
    }
  }
}

void read_rows(int pitch) {
  std::uint32_t words[4];
  load_matrices<false>(dynamic_shared() + lane_index() % 8 * pitch, words);
}

TEST_CASE("rows of a matrix that share banks of shared memory are an error") {
  CHECK_THROWS_WITH(launch(Grid{1, 32, 2048}, read_rows, 128), Catch::Contains("share banks"));
  CHECK_NOTHROW(launch(Grid{1, 32, 2048}, read_rows, 144));
}

template <int pending>
void copy_and_read(const Bfloat16* from, float* read) {
  const int lane = lane_index();
  auto* place = dynamic_shared() + 32 * lane;
  copy_later(place, from, true);
  commit_copies();
  copy_later(place + 16, from, false);
  commit_copies();
  wait_for_copies<pending>();
  read[2 * lane] = load_scalar(reinterpret_cast<const Bfloat16*>(place));
  read[2 * lane + 1] = load_scalar(reinterpret_cast<const Bfloat16*>(place + 16));
}

TEST_CASE("an asynchronous copy is there after the wait for its group, not before") {
  const std::vector<Bfloat16> from(8, to_bfloat16(3.0f));
  std::vector<float> read(64);
  launch(Grid{1, 32, 1024}, copy_and_read<2>, from.data(), read.data());
  CHECK(std::isnan(read[0]));
  CHECK(std::isnan(read[1]));
  launch(Grid{1, 32, 1024}, copy_and_read<1>, from.data(), read.data());
  CHECK(read[0] == 3.0f);
  CHECK(std::isnan(read[1]));
  launch(Grid{1, 32, 1024}, copy_and_read<0>, from.data(), read.data());
  CHECK(read[0] == 3.0f);
  CHECK(read[1] == 0.0f);  // a piece that does not exist is cleared
}

}  // namespace
}  // namespace longhaul::kernels
