#include "sim/network/uncongested.h"

#include <algorithm>

namespace longhaul {

Seconds uncongested_time(const FlowSpec& flow, const std::vector<BytesPerSecond>& capacities) {
  double rate = flow.rate_cap.value();
  for (std::size_t i = 0; i < flow.links.size(); ++i) {
    const double weight = flow.weights.empty() ? 1.0 : flow.weights[i];
    rate = std::min(rate, capacities[flow.links[i].index].value() / weight);
  }
  return flow.latency + flow.bytes / BytesPerSecond::of(rate);
}

}  // namespace longhaul
