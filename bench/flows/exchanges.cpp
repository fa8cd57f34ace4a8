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

// The tag of a flow: sender's group and place of both ends in it would not fit, so the receiver's
// distance rides on the sender: gpu * degree + distance.
void Exchanges::timer(std::uint32_t gpu) {
  Gpu& state = gpus_[gpu];
  const auto degree = static_cast<std::uint32_t>(shape_.degree);
  state.computed = true;
  state.sends_left = static_cast<std::int32_t>(degree - 1);
  const std::uint32_t first = gpu - gpu % degree;
  for (std::uint32_t distance = 1; distance < degree; ++distance) {
    const std::uint32_t to = first + (gpu - first + distance) % degree;
    simulation_.send(rail_.route(gpu, to), piece_, gpu * degree + distance);
  }
  progress(gpu);
}

void Exchanges::sent(std::uint32_t pair) {
  const auto degree = static_cast<std::uint32_t>(shape_.degree);
  const std::uint32_t gpu = pair / degree;
  const std::uint32_t first = gpu - gpu % degree;
  const std::uint32_t to = first + (gpu - first + pair % degree) % degree;
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
