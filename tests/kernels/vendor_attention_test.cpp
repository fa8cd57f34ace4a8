// cuDNN's attention as far as it can be asked without a GPU. Skipped where there is no cuDNN.
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <catch2/catch.hpp>

#include "kernels/vendor/attention_plan.h"

namespace longhaul::kernels::vendor {

namespace {

using Catch::Matchers::Contains;
using flash::AttentionShape;
using flash::MaskSpec;

// False, and said so that ctest counts the test as skipped, where there is no cuDNN.
bool opened() {
  try {
    cudnn();
    return true;
  } catch (const CudnnMissing& error) {
    std::printf("waived: %s\n", error.what());
    return false;
  }
}

// cuDNN suggests engines only where it finds libcuda.so.1; the toolkit's stub goes by that name.
bool found_driver() {
  static const bool found = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL) != nullptr ||
                            dlopen(LONGHAUL_CUDA_STUB, RTLD_NOW | RTLD_GLOBAL) != nullptr;
  return found;
}

AttentionShape square(const MaskSpec& mask, int head_dim = 128, int kv_heads = 16,
                      int length = 16384) {
  AttentionShape shape;
  shape.head_dim = head_dim;
  shape.heads = 16;
  shape.kv_heads = kv_heads;
  shape.q_len = length;
  shape.kv_len = length;
  shape.scale = 1 / std::sqrt(static_cast<float>(head_dim));
  shape.mask = mask;
  return shape;
}

// Fewer queries than keys.
AttentionShape rectangle(const MaskSpec& mask) {
  AttentionShape shape = square(mask);
  shape.q_len = shape.kv_len / 2;
  return shape;
}

// A GPU by the keys that cuDNN 9.19 writes; figures of an H200 (SXM) from NVIDIA's data sheet and
// cudaGetDeviceProperties. `version`: compute capability, times 100.
std::string h200_but_for(int version) {
  return R"({"cudaDeviceId": 0, "deviceVer": )" + std::to_string(version) +
         R"(, "driverVer": 13000, "maxGridSize": [2147483647, 65535, 65535],
      "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536, "multiProcessorCount": 132,
      "warpSize": 32, "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448,
      "reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536, "maxCtasPerSM": 32,
      "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "pciDeviceId": 9013,
      "isTccDriver": 0, "supportCoopLaunch": 1, "smClockRateKHz": 1980000,
      "memClockRateKHz": 3201000, "l2CacheSize": 62914560, "totalGlobalMem": 150754820096,
      "deviceName": "NVIDIA H200"})";
}

std::size_t engines_for(const AttentionShape& shape, int version) {
  const Descriptor device = described_device(h200_but_for(version));
  return suggested_engines(AttentionGraph(shape, nullptr), &device).size();
}

}  // namespace

TEST_CASE("cuDNN accepts the graph of every mask that it has") {
  if (!opened()) return;
  const auto head_dim = GENERATE(64, 128, 256);
  const auto kv_heads = GENERATE(16, 4, 1);
  const auto accepted = [&](AttentionShape shape) {
    shape.head_dim = head_dim;
    shape.kv_heads = kv_heads;
    CHECK_NOTHROW(AttentionGraph(shape, nullptr));
  };
  for (const MaskSpec& mask : {flash::full_mask(), flash::causal_mask(), flash::diagonal_mask(0),
                               flash::window_mask(4095)}) {
    accepted(square(mask));
    accepted(rectangle(mask));
  }
}

TEST_CASE("cuDNN has an engine on an H200 for every call that the bench compares") {
  if (!opened()) return;
  REQUIRE(found_driver());
  for (const int head_dim : {64, 128, 256}) {
    for (const int length : {512, 16384, 32768}) {
      INFO("head dimension " << head_dim << ", length " << length);
      CHECK(engines_for(square(flash::full_mask(), head_dim, 16, length), 900) > 0);
      CHECK(engines_for(square(flash::causal_mask(), head_dim, 16, length), 900) > 0);
      CHECK(engines_for(square(flash::causal_mask(), head_dim, 4, length), 900) > 0);
    }
  }
  CHECK(engines_for(square(flash::window_mask(4095), 128, 4), 900) > 0);
  CHECK(engines_for(rectangle(flash::causal_mask()), 900) > 0);
}

TEST_CASE("cuDNN has no engine for bf16 attention on a GPU of compute capability 7.0") {
  if (!opened()) return;
  REQUIRE(found_driver());
  CHECK(engines_for(square(flash::causal_mask()), 700) == 0);
}

TEST_CASE("numbers that a graph takes by value have ids of their own and the bits of the call") {
  if (!opened()) return;
  const AttentionGraph graph(rectangle(flash::causal_mask()), nullptr);
  std::set<std::int64_t> ids;
  std::vector<std::uint32_t> bits;
  for (const Scalar& scalar : graph.scalars()) {
    ids.insert(scalar.id);
    bits.push_back(scalar.bits);
  }
  const float scale = 1 / std::sqrt(128.0f);
  const float least = std::numeric_limits<float>::lowest();
  CHECK(ids.size() == 4);
  CHECK(*ids.begin() > id_of(lse_place));
  CHECK(bits == std::vector<std::uint32_t>{std::bit_cast<std::uint32_t>(scale), 16384, 8192,
                                           std::bit_cast<std::uint32_t>(least)});
}

TEST_CASE("a call gives cuDNN an id and an address for each tensor in memory and each number") {
  if (!opened()) return;
  std::vector<Bfloat16> memory(4);  // addresses alone matter: nothing is carried out
  float lse = 0;
  char workspace = 0;
  const std::vector<Scalar> scalars = {{6, 1}, {9, 2}};
  const Arguments arguments = arguments_of(
      {.q = &memory[0], .k = &memory[1], .v = &memory[2], .o = &memory[3], .lse = &lse}, scalars);
  const std::vector<const void*> addresses(arguments.addresses.begin(), arguments.addresses.end());
  CHECK(arguments.ids == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 9});
  CHECK(addresses == std::vector<const void*>{&memory[0], &memory[1], &memory[2], &memory[3], &lse,
                                              &scalars[0].bits, &scalars[1].bits});
  CHECK_NOTHROW(packed_arguments(arguments, &workspace));
}

TEST_CASE("what cuDNN refuses says what was being done, the status and cuDNN's reason") {
  if (!opened()) return;
  CHECK_THROWS_WITH(described_device("{}"), Contains("finalising the properties of a GPU") &&
                                                Contains("CUDNN_STATUS_BAD_PARAM") &&
                                                Contains("maxGridSize"));
}

}  // namespace longhaul::kernels::vendor
