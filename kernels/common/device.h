#pragma once
// The GPU that checks and benches run on, and what they do where there is none.

#include <compare>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>

#include "kernels/common/options.h"

namespace longhaul::kernels {

/// Compute capability of a GPU: 8.0 is A100's, 9.0 is H100's and H200's.
struct Capability {
  int major = 0;
  int minor = 0;
  auto operator<=>(const Capability&) const = default;
};

/// What the CUDA runtime says of the current device.
struct Device {
  std::string name;
  Capability capability;
  int sms = 0;                   // streaming multiprocessors
  std::size_t l2_bytes = 0;      // last-level cache
  std::size_t memory_bytes = 0;  // global memory
};

/// The current device; nothing where the machine has no usable GPU or no driver.
std::optional<Device> find_device();

/// A main() of a program that needs a GPU: reads the command line, runs `body`, and turns a failure
/// into a message on stderr. Without a GPU, or with one older than `oldest`, it prints
/// `waived: no CUDA device` or `waived: needs compute capability ...`, which ctest counts as
/// skipped, and returns 0.
/// Returns: 0 done or waived; 1 `body` returned false (a check failed); 2 bad usage; 3 CUDA refused
/// a call; 4 results cannot be written.
int run_on_device(int argc, const char* const* argv, Capability oldest,
                  const std::function<bool(const Device&, const Options&)>& body);

}  // namespace longhaul::kernels
