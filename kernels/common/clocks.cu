#include "kernels/common/clocks.h"

#include <dlfcn.h>

#include "kernels/common/cuda_error.h"
#include "kernels/common/device.h"

namespace longhaul::kernels {

namespace {

// NVML's C interface, by the numbers of its documented enumerations. The library comes with the
// driver, so it is opened at run time: programs start, and say why they wait, without a driver.
constexpr int nvml_clock_sm = 1;
constexpr int nvml_clock_memory = 2;
constexpr int nvml_temperature_gpu = 0;

class Nvml {
 public:
  Nvml() {
    library_ = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (library_ == nullptr) return;
    const auto start = find<int()>("nvmlInit_v2");
    const auto handle = find<int(unsigned, void**)>("nvmlDeviceGetHandleByIndex_v2");
    if (start == nullptr || handle == nullptr || start() != 0) return;
    if (handle(0, &device_) != 0) device_ = nullptr;
  }
  ~Nvml() {
    if (library_ != nullptr) dlclose(library_);
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  // Asks `name` for one number of the device; `selector` is the argument between, if it takes one.
  template <class T, class... Selector>
  void ask(Fields& fields, const char* field, const char* name, double scale,
           Selector... selector) const {
    if (device_ == nullptr) return;
    const auto get = find<int(void*, Selector..., T*)>(name);
    T value = 0;
    if (get == nullptr || get(device_, selector..., &value) != 0) return;
    fields.emplace_back(field, static_cast<double>(value) * scale);
  }

  template <class Function>
  Function* find(const char* name) const {
    return library_ == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(library_, name));
  }

 private:
  void* library_ = nullptr;
  void* device_ = nullptr;
};

const Nvml& nvml() {
  static const Nvml instance;
  return instance;
}

void add_driver(Fields& fields) {
  const auto get = nvml().find<int(char*, unsigned)>("nvmlSystemGetDriverVersion");
  char text[81] = "";
  if (get != nullptr && get(text, 80) == 0) fields.emplace_back("driver", std::string(text));
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

Fields read_clocks() {
  Fields fields;
  const Nvml& from = nvml();
  from.ask<unsigned>(fields, "sm_clock_mhz", "nvmlDeviceGetClockInfo", 1.0, nvml_clock_sm);
  from.ask<unsigned>(fields, "memory_clock_mhz", "nvmlDeviceGetClockInfo", 1.0, nvml_clock_memory);
  from.ask<unsigned>(fields, "power_w", "nvmlDeviceGetPowerUsage", 1e-3);
  from.ask<unsigned>(fields, "temperature", "nvmlDeviceGetTemperature", 1.0, nvml_temperature_gpu);
  from.ask<unsigned long long>(fields, "throttle", "nvmlDeviceGetCurrentClocksThrottleReasons", 1.0);
  return fields;
}

Fields read_provenance() {
  const std::optional<Device> device = find_device();
  if (!device) throw CudaError(cudaErrorNoDevice, "provenance");
  int runtime = 0;
  int driver = 0;
  check_cuda(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  check_cuda(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  Fields fields = {{"gpu", device->name},
                   {"sms", static_cast<std::int64_t>(device->sms)},
                   {"l2_bytes", static_cast<std::int64_t>(device->l2_bytes)},
                   {"memory_bytes", static_cast<std::int64_t>(device->memory_bytes)},
                   {"cuda", version_text(runtime)},
                   {"driver_cuda", version_text(driver)},
                   {"compiler", std::string("nvcc ") + std::to_string(__CUDACC_VER_MAJOR__) + "." +
                                    std::to_string(__CUDACC_VER_MINOR__)}};
  add_driver(fields);
  const Nvml& from = nvml();
  from.ask<unsigned>(fields, "max_sm_clock_mhz", "nvmlDeviceGetMaxClockInfo", 1.0, nvml_clock_sm);
  from.ask<unsigned>(fields, "power_limit_w", "nvmlDeviceGetPowerManagementLimit", 1e-3);
  for (auto& field : read_clocks()) fields.push_back(std::move(field));
  return fields;
}

}  // namespace longhaul::kernels
