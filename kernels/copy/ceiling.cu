#include "kernels/copy/ceiling.h"

#include "kernels/common/device_buffer.h"
#include "kernels/common/timing.h"
#include "kernels/copy/launch.h"

namespace longhaul::kernels {

double copy_rate(const Device& device) {
  constexpr std::size_t bytes = std::size_t{512} << 20;
  DeviceBuffer<unsigned char> from(bytes);
  DeviceBuffer<unsigned char> to(bytes);
  const int sets = rotating_sets(device, 2.0 * static_cast<double>(bytes));
  const Timing timing = time_calls([&](int) { copy(bytes, from.data(), to.data()); }, sets);
  return 2.0 * static_cast<double>(bytes) / timing.median_us * 1e6;
}

}  // namespace longhaul::kernels
