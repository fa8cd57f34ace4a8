#include "bench/flows/exchanges.h"

#include <cmath>

#include "bench/flows/jitter.h"

namespace longhaul::bench {

Exchanges::Exchanges(const ExchangeShape& shape, double longest)
    : shape_(shape),
      rail_(shape.gpus, shape.oversubscription),
      piece_(std::floor(shape.bytes / static_cast<double>(shape.degree))),
      gpus_(static_cast<std::size_t>(shape.gpus)),
      simulation_(rail_.capacities(), longest) {}

void Exchanges::run() {
  for (std::uint32_t gpu = 0; gpu < gpus_.size(); ++gpu) {
    begin(gpu);
  }
  simulation_.run(*this);
}

void Exchanges::begin(std::uint32_t gpu) {
  Gpu& state = gpus_[gpu];
  if (state.exchange == shape_.exchanges) {
    return;
  }
  state.computed = false;
  const double factor = shape_.jitter ? jitter_factor(gpu, state.exchange) : 1.0;
  simulation_.compute(simulation_.ticks(shape_.seconds * factor), gpu);
}

// The tag of a flow: its sender, and in the upper half its receiver.
void Exchanges::timer(std::uint32_t gpu) {
  Gpu& state = gpus_[gpu];
  const auto degree = static_cast<std::uint32_t>(shape_.degree);
  state.computed = true;
  state.sends_left = static_cast<std::int32_t>(degree - 1);
  const std::uint32_t first = gpu - gpu % degree;
  std::uint32_t to = gpu;
  for (std::uint32_t distance = 1; distance < degree; ++distance) {
    to = to + 1 == first + degree ? first : to + 1;
    simulation_.send(rail_.route(gpu, to), piece_, gpu | std::uint64_t{to} << 32);
  }
  progress(gpu);
}

void Exchanges::sent(std::uint64_t ends) {
  const auto gpu = static_cast<std::uint32_t>(ends);
  const auto to = static_cast<std::uint32_t>(ends >> 32);
  const std::int32_t exchange = gpus_[gpu].exchange;
  --gpus_[gpu].sends_left;
  ++gpus_[to].received[static_cast<std::size_t>(exchange & 1)];
  progress(gpu);
  progress(to);
}

void Exchanges::progress(std::uint32_t gpu) {
  Gpu& state = gpus_[gpu];
  std::int32_t& received = state.received[static_cast<std::size_t>(state.exchange & 1)];
  if (state.computed && state.sends_left == 0 && received == shape_.degree - 1) {
    received = 0;
    ++state.exchange;
    begin(gpu);
  }
}

RandomFlows::RandomFlows(std::int64_t k, std::int64_t oversubscription, std::int64_t flows,
                         std::uint64_t seed)
    : tree_(k, oversubscription),
      flows_(flows),
      seed_(seed),
      // Mean size 1.585 MB at 30 % of the hosts' bandwidth.
      mean_(static_cast<std::uint64_t>(
          std::floor(1e12 * 1585000.0 / (0.3 * static_cast<double>(tree_.hosts()) * 50e9)))),
      simulation_(tree_.capacities(), 1000.0) {
  simulation_.keep_completion_times();
}

void RandomFlows::run() {
  schedule(0);
  simulation_.run(*this);
}

void RandomFlows::schedule(std::int64_t flow) {
  const auto i = static_cast<std::uint64_t>(flow);
  picoseconds_ += splitmix64(seed_ + 4 * i) % (2 * mean_ + 1);
  simulation_.alarm(simulation_.ticks(static_cast<double>(picoseconds_) * 1e-12),
                    static_cast<std::uint32_t>(flow));
}

void RandomFlows::timer(std::uint32_t flow) {
  const std::uint64_t i = flow;
  const auto hosts = static_cast<std::uint64_t>(tree_.hosts());
  const std::uint64_t from = splitmix64(seed_ + 4 * i + 1) % hosts;
  const std::uint64_t to = (from + 1 + splitmix64(seed_ + 4 * i + 2) % (hosts - 1)) % hosts;
  const std::uint64_t size = splitmix64(seed_ + 4 * i + 3) % 100;
  const double bytes = size < 50 ? 1e4 : size < 80 ? 1e5 : size < 95 ? 1e6 : size < 99 ? 1e7 : 1e8;
  const Path path = tree_.route(static_cast<std::int64_t>(from), static_cast<std::int64_t>(to),
                                splitmix64(i ^ 0xabcdef));
  simulation_.send(path, bytes, flow);
  if (flow + 1 < flows_) {
    schedule(flow + 1);
  }
}

}  // namespace longhaul::bench
