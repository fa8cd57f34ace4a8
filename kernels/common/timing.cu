#include "kernels/common/timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "kernels/common/cuda_error.h"
#include "kernels/common/quantile.h"

namespace longhaul::kernels {

namespace {

// Holds the stream for about `nanoseconds` of the global timer.
__global__ void spin(unsigned long long nanoseconds) {
  unsigned long long start;
  unsigned long long now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
  do {
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  } while (now - start < nanoseconds);
}

class Event {
 public:
  Event() { check_cuda(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record() { check_cuda(cudaEventRecord(event_), "cudaEventRecord"); }
  double microseconds_since(const Event& earlier) const {
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, earlier.event_, event_), "cudaEventElapsedTime");
    return 1e3 * milliseconds;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

double seconds_now() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

void wait() { check_cuda(cudaDeviceSynchronize(), "the kernel under test"); }

struct Rough {
  double device_s;  // of one call
  double host_s;    // to queue one call
};

Rough warm_up(const std::function<void(int)>& call, int sets) {
  constexpr int calls = 3;
  for (int i = 0; i < calls; ++i) call(i % sets);
  wait();
  Event begin;
  Event end;
  const double start = seconds_now();
  begin.record();
  for (int i = 0; i < calls; ++i) call(i % sets);
  end.record();
  const double host = (seconds_now() - start) / calls;
  wait();
  return {std::max(end.microseconds_since(begin) * 1e-6 / calls, 1e-6), host};
}

}  // namespace

Timing time_calls(const std::function<void(int)>& call, int sets, double target_s) {
  const Rough rough = warm_up(call, sets);
  constexpr double shortest_sample_s = 200e-6;
  constexpr int queue = 160;  // calls: well below the 1024 launches that a stream's queue holds
  constexpr int least = 7;
  const int inner =
      std::clamp(static_cast<int>(std::ceil(shortest_sample_s / rough.device_s)), 1, 10);
  const int wanted = static_cast<int>(target_s / (rough.device_s * inner));
  const int repeats = std::max(least, std::min(wanted, queue / inner));
  std::vector<Event> marks(repeats + 1);
  const double hold_s = std::min(0.06, 1.3 * rough.host_s * inner * repeats + 20e-6);
  spin<<<1, 1>>>(static_cast<unsigned long long>(hold_s * 1e9));
  check_launch("spin");
  marks[0].record();
  for (int r = 0; r < repeats; ++r) {
    for (int i = 0; i < inner; ++i) call((r * inner + i) % sets);
    marks[r + 1].record();
  }
  wait();
  std::vector<double> samples;
  for (int r = 0; r < repeats; ++r) {
    samples.push_back(marks[r + 1].microseconds_since(marks[r]) / inner);
  }
  return {.median_us = quantile(samples, 0.5),
          .p10_us = quantile(samples, 0.1),
          .p90_us = quantile(samples, 0.9),
          .host_us = rough.host_s * 1e6,
          .repeats = repeats,
          .inner = inner,
          .rotating_sets = sets};
}

std::vector<Timing> time_in_turn(const std::vector<std::function<void(int)>>& calls, int sets) {
  constexpr int rounds = 3;
  std::vector<std::vector<Timing>> taken(calls.size());
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < calls.size(); ++i) taken[i].push_back(time_calls(calls[i], sets));
  }
  std::vector<Timing> merged;
  for (std::vector<Timing>& each : taken) {
    std::sort(each.begin(), each.end(),
              [](const Timing& a, const Timing& b) { return a.median_us < b.median_us; });
    Timing timing = each[rounds / 2];
    for (const Timing& other : each) {
      timing.p10_us = std::min(timing.p10_us, other.p10_us);
      timing.p90_us = std::max(timing.p90_us, other.p90_us);
    }
    merged.push_back(timing);
  }
  return merged;
}

int rotating_sets(const Device& device, double bytes) {
  const double wanted =
      std::ceil(3.0 * static_cast<double>(device.l2_bytes) / std::max(bytes, 1.0));
  return static_cast<int>(std::clamp(wanted, 1.0, 16.0));
}

}  // namespace longhaul::kernels
