// Offload: copies between a GPU and its host's memory, and what the host's processor does there.
// Equations: docs/models/offload.md.
#include <algorithm>
#include <limits>

#include "sim/cost/link_loads.h"
#include "sim/cost/transport.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

// A copy follows the GPU's route. The processor's reads and writes share the pins of the memory:
// all its bytes cross the memory's link in both directions, so that either fills it.
std::vector<LinkId> links_of(const Cluster& cluster, HostWork work, GpuId gpu) {
  const Route& out = cluster.host_route(gpu, true);
  const Route& in = cluster.host_route(gpu, false);
  switch (work) {
    case HostWork::to_host: return out.links;
    case HostWork::from_host: return in.links;
    case HostWork::in_memory: break;
  }
  return {out.links.back(), in.links.front()};
}

}  // namespace

CollectivePlan TransportCosts::host_work(const HostRequest& request, GpuId gpu,
                                         Bytes bytes) const {
  const HostBehaviour& host = profile_->host;
  const bool copies = request.work != HostWork::in_memory;
  CollectivePlan plan;
  plan.algorithm = copies ? "copy" : "processor";
  plan.relative_spread = copies ? host.copy_spread : host.work_spread;
  if (bytes.value() <= 0.0) {
    return plan;
  }
  PlannedFlow flow;
  flow.links = links_of(cluster_, request.work, gpu);
  flow.bytes = bytes;
  double cap = std::numeric_limits<double>::infinity();
  bool coherent = false;
  for (const LinkId id : flow.links) {
    const Link& link = cluster_.links()[id.index];
    coherent = coherent || link.kind == LinkKind::c2c;
    cap = std::min(cap, link.bandwidth.value() * usable_share(*profile_, link.kind));
  }
  check(cap > 0.0 && cap < std::numeric_limits<double>::infinity(),
        "a host's memory is reached over links with a bandwidth");
  if (!copies && request.threads > 0.0) {
    cap = std::min(cap, request.threads * host.thread_rate.value());
  }
  // A driver copies pageable memory through pinned buffers, with one thread. Over C2C a GPU reads the
  // host's pages itself.
  if (copies && request.pageable && !coherent) {
    cap = std::min(cap, host.pageable_rate.value());
    plan.relative_spread = host.pageable_spread;
  }
  flow.rate_cap = BytesPerSecond::of(cap);
  if (copies) {
    plan.latency = host.latency + cluster_.host_route(gpu, true).latency;
  }
  plan.flows.push_back(std::move(flow));
  return plan;
}

}  // namespace longhaul
