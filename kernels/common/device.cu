#include "kernels/common/device.h"

#include <cstdio>
#include <exception>

#include "kernels/common/cuda_error.h"
#include "kernels/common/results.h"

namespace longhaul::kernels {

std::optional<Device> find_device() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    cudaGetLastError();  // an absent driver is an answer, not an error to report later
    return std::nullopt;
  }
  int index = 0;
  check_cuda(cudaGetDevice(&index), "cudaGetDevice");
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  return Device{.name = properties.name,
                .capability = {properties.major, properties.minor},
                .sms = properties.multiProcessorCount,
                .l2_bytes = static_cast<std::size_t>(properties.l2CacheSize),
                .memory_bytes = properties.totalGlobalMem};
}

namespace {

bool run(const Options& options, Capability oldest,
         const std::function<bool(const Device&, const Options&)>& body) {
  const std::optional<Device> device = find_device();
  if (!device) {
    std::puts("waived: no CUDA device");
    return true;
  }
  const Capability has = device->capability;
  if (has < oldest) {
    std::printf("waived: needs compute capability %d.%d, this %s has %d.%d\n", oldest.major,
                oldest.minor, device->name.c_str(), has.major, has.minor);
    return true;
  }
  std::printf("%s, seed %llu\n", device->name.c_str(),
              static_cast<unsigned long long>(options.seed));
  return body(*device, options);
}

int fail(const std::exception& error, int status) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return status;
}

}  // namespace

int run_on_device(int argc, const char* const* argv, Capability oldest,
                  const std::function<bool(const Device&, const Options&)>& body) {
  try {
    return run(read_options(argc, argv), oldest, body) ? 0 : 1;
  } catch (const UsageError& error) {
    return fail(error, 2);
  } catch (const ResultsError& error) {
    return fail(error, 4);
  } catch (const std::exception& error) {
    return fail(error, 3);
  }
}

}  // namespace longhaul::kernels
