// Collectives as NCCL runs them: algorithm and protocol by its own model, flows over the links, and
// the time they take by what was measured; equations and symbols: docs/models/collectives.md.
#include "sim/cost/collective.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sim/cost/collective_flows.h"
#include "sim/cost/collective_table.h"
#include "sim/cost/link_loads.h"
#include "sim/cost/placement.h"
#include "sim/cost/transport.h"
#include "sim/topology/cluster_spec.h"
#include "sim/units/check.h"

namespace longhaul {

/// The way a collective is run.
struct Course {
  NcclAlgorithm algorithm = NcclAlgorithm::ring;
  NcclProtocol protocol = NcclProtocol::simple;
  TransferKind kind = TransferKind::ring_simple;
  double against_simple = 1.0;  ///< bandwidth of the protocol over Simple's, by NCCL's model
  int channels = 1;             ///< of which each holds an SM
  double moving = 0.0;          ///< seconds that its channels need, whatever the links
  const TokenKernels* tokens = nullptr;  ///< the kernels of experts' tokens, where they run it
  Seconds start;                         ///< theirs
  TuningTopology topology;
};

namespace {

constexpr NcclAlgorithm all_algorithms[] = {NcclAlgorithm::tree, NcclAlgorithm::ring,
                                            NcclAlgorithm::nvls, NcclAlgorithm::nvls_tree};
constexpr NcclProtocol all_protocols[] = {NcclProtocol::ll, NcclProtocol::ll128,
                                          NcclProtocol::simple};

TransferKind transfer_kind(NcclAlgorithm algorithm, NcclProtocol protocol) {
  const int step = static_cast<int>(protocol);
  switch (algorithm) {
    case NcclAlgorithm::nvls: return TransferKind::nvls;
    case NcclAlgorithm::nvls_tree: return TransferKind::nvls_tree;
    case NcclAlgorithm::tree:
      return static_cast<TransferKind>(static_cast<int>(TransferKind::tree_ll) + step);
    default: break;
  }
  return static_cast<TransferKind>(static_cast<int>(TransferKind::ring_ll) + step);
}

const char* name_of(NcclAlgorithm algorithm) {
  switch (algorithm) {
    case NcclAlgorithm::tree: return "tree";
    case NcclAlgorithm::nvls: return "nvls";
    case NcclAlgorithm::nvls_tree: return "nvls_tree";
    default: break;
  }
  return "ring";
}

const char* name_of(NcclProtocol protocol) {
  switch (protocol) {
    case NcclProtocol::ll: return "LL";
    case NcclProtocol::ll128: return "LL128";
    case NcclProtocol::simple: break;
  }
  return "Simple";
}

// Each channel of a graph becomes two (connect.cc); small operations use fewer, until each thread
// of a channel has `threshold` bytes (enqueue.cc).
int channels_used(const Course& course, Bytes bytes, int limit) {
  const bool in_switch = course.kind == TransferKind::nvls;
  const ChannelGraph& graph = in_switch                                 ? course.topology.nvls
                              : course.algorithm == NcclAlgorithm::tree ? course.topology.tree
                                                                        : course.topology.ring;
  // In-switch all-reduce on one node: NCCL prints 16 channels whatever the heads (H100).
  int channels = std::min(limit, in_switch ? 16 : 2 * graph.channels);
  const double ranks = course.topology.ranks;
  const bool ring_ll = course.kind == TransferKind::ring_ll;
  const double threshold = course.protocol == NcclProtocol::simple ? 64.0
                           : ring_ll                               ? 8.0 * ranks
                                                                   : 8.0;
  const double threads = course.protocol == NcclProtocol::ll128 ? 640.0 : 512.0;
  while (channels > 1 && bytes.value() < channels * threads * threshold) {
    --channels;
  }
  return channels;
}

const char* inside_name(Inside inside) {
  switch (inside) {
    case Inside::pcie: return "pcie";
    case Inside::staged: return "staged";
    default: break;
  }
  return nullptr;
}

// The medium within nodes. Copies through host memory are slower where GPUs share a switch's uplink.
const Medium& medium_within(const TransportProfile& profile, const Cluster& cluster,
                            Inside inside) {
  const NodeSpec& node = cluster.spec().node;
  if (inside == Inside::staged && node.pcie.switches > 0 && node.gpus > node.pcie.switches) {
    return profile.medium("staged-switched", "staged");
  }
  const char* name = inside_name(inside);
  return profile.medium(name != nullptr ? name : cluster.device().architecture, "other");
}

struct Duration {
  double waiting = 0.0;  ///< before bytes move
  double whole = 0.0;
  bool assumed = false;
};

double blended(double a, double b, double exponent) {
  if (a <= 0.0 || b <= 0.0) {
    return a + b;
  }
  // Scaled by the greater, so that no power overflows or vanishes.
  const double greater = std::max(a, b);
  const double lesser = std::min(a, b) / greater;
  return greater * std::pow(1.0 + std::pow(lesser, exponent), 1.0 / exponent);
}

}  // namespace

const Medium& TransportProfile::medium(const std::string& wanted, const char* fallback) const {
  const auto by_name = [&](const std::string& sought) {
    return std::find_if(media.begin(), media.end(),
                        [&](const Medium& item) { return item.name == sought; });
  };
  auto found = by_name(wanted);
  found = found == media.end() ? by_name(fallback) : found;
  check(found != media.end(), "a transport profile has the media that serve the rest");
  return *found;
}

TransportCosts::TransportCosts(Cluster cluster, std::shared_ptr<const TransportProfile> profile)
    : cluster_(std::move(cluster)), profile_(std::move(profile)) {}

std::vector<BytesPerSecond> TransportCosts::link_capacities() const {
  std::vector<BytesPerSecond> capacities;
  capacities.reserve(cluster_.links().size());
  for (const Link& link : cluster_.links()) {
    capacities.push_back(link.bandwidth * usable_share(*profile_, link.kind));
  }
  return capacities;
}

// What NCCL would choose: the least expected time among what it has and the pins allow.
Course TransportCosts::choose(const CollectiveRequest& request, const Placement& placement) const {
  const TuningConstants& constants = profile_->tuning;
  const std::string& architecture = cluster_.device().architecture;
  Course best;
  best.topology = tuning_topology(cluster_, placement, constants);
  const auto algorithm_pin = request.algorithm ? request.algorithm : profile_->algorithm;
  const auto protocol_pin = request.protocol ? request.protocol : profile_->protocol;
  // A pin that NCCL cannot follow is ignored, as NCCL does: rings with Simple always exist.
  double least = std::numeric_limits<double>::infinity();
  int best_pins = -1;
  for (const NcclAlgorithm algorithm : all_algorithms) {
    for (const NcclProtocol protocol : all_protocols) {
      const TuningEstimate expected =
          estimate(constants, architecture, best.topology, request.kind, algorithm, protocol);
      // Over uneven nodes only plain rings; all-gather in the switch is never NCCL's choice.
      const bool possible =
          expected.bandwidth > BytesPerSecond() &&
          (placement.even || algorithm == NcclAlgorithm::ring) &&
          (request.kind == CollectiveKind::all_reduce || algorithm == NcclAlgorithm::ring);
      if (!possible) {
        continue;
      }
      const int pins = (algorithm_pin == algorithm ? 2 : 0) + (protocol_pin == protocol ? 1 : 0);
      const double time = expected_time(constants, architecture, best.topology, request.kind,
                                        algorithm, protocol, request.bytes)
                              .value();
      if (pins > best_pins || (pins == best_pins && time < least)) {
        best_pins = pins;
        least = time;
        best.algorithm = algorithm;
        best.protocol = protocol;
        const TuningEstimate simple = estimate(constants, architecture, best.topology, request.kind,
                                               algorithm, NcclProtocol::simple);
        best.against_simple = expected.bandwidth / simple.bandwidth;
      }
    }
  }
  best.kind = transfer_kind(best.algorithm, best.protocol);
  best.channels = channels_used(best, request.bytes, profile_->channel_limit);
  return best;
}

namespace {

// LL and LL128 reach their behaviour's share of what NCCL's model leaves of Simple's bandwidth.
double reached_share(const Medium& medium, const Course& course) {
  const bool ring = course.kind == TransferKind::ring_ll || course.kind == TransferKind::ring_ll128;
  const bool tree = course.kind == TransferKind::tree_ll || course.kind == TransferKind::tree_ll128;
  if (!ring && !tree) {
    return medium.of(course.kind).share;
  }
  const TransferKind simple = ring ? TransferKind::ring_simple : TransferKind::tree_simple;
  return medium.of(course.kind).share * medium.of(simple).share * course.against_simple;
}

Duration duration_of(const TransportProfile& profile, const Cluster& cluster,
                     const Placement& placement, const Course& course, const FlowPattern& traffic,
                     Loads& loads) {
  const Medium& medium = medium_within(profile, cluster, placement.inside);
  const Medium& fabric = profile.medium(
      placement.over_network ? cluster.spec().fabric.technology : "other-fabric", "other-fabric");
  Reach reach{medium.of(course.kind), reached_share(fabric, course),
              reached_share(profile.medium("through-host", "staged"), course)};
  reach.within.share = reached_share(medium, course);
  if (course.tokens != nullptr) {
    reach.within.share = course.tokens->nvlink;
    reach.network = course.tokens->network;
  }
  const Behaviour& within = reach.within;
  const Behaviour& between = fabric.of(course.kind);
  loads = loads_of(profile, cluster, traffic, reach);
  Duration duration;
  double latency = within.base.value() + traffic.steps * within.hop.value();
  double blend = within.blend;
  duration.assumed = placement.inside != Inside::nothing && medium.assumed;
  if (placement.over_network) {
    const bool pairs = course.kind == TransferKind::all_to_all;  // whose peers wait side by side
    latency += between.base.value() + traffic.network_steps * between.hop.value() +
               (pairs ? 1.0 : traffic.network_steps) * wire_latency(cluster, traffic);
    blend = between.blend;
    duration.assumed = duration.assumed || fabric.assumed;
  }
  if (course.tokens != nullptr) {
    latency = course.start.value();
    blend = 1.0;
    duration.assumed = duration.assumed ||
                       cluster.device().architecture != course.tokens->architecture;
  }
  const double moving = std::max({loads.inside, loads.network, course.moving});
  duration.waiting = profile.launch.value() + latency;
  duration.whole = std::max(profile.launch.value() + blended(latency, moving, blend), loads.least);
  return duration;
}

// Rates at which all flows end `whole` after the start, having waited as long as their model says,
// but never so long that a link would have to carry more than it can.
void pace(CollectivePlan& plan, double waiting, double whole, double least) {
  const double latency = std::max(0.0, std::min(waiting, whole - least));
  // The flows need some time even where the waiting is everything.
  const double moving = std::max(whole - latency, 1e-9);
  plan.latency = Seconds::of(whole - moving);
  for (PlannedFlow& flow : plan.flows) {
    flow.rate_cap = BytesPerSecond::of(flow.bytes.value() / moving);
  }
}

// Messages by NVLink: NCCL gives each some channels, an SM each, which move only so much.
struct Lanes {
  int channels = 0;     ///< zero: not by NVLink
  double moving = 0.0;  ///< seconds that all messages of the request take at least
};

Lanes lanes_of(const TransportProfile& profile, const Cluster& cluster,
               const CollectiveRequest& request) {
  Lanes lanes;
  if (request.communicator.empty() ||
      cluster.route(request.gpus[0], request.gpus[1]).path_class != PathClass::nvlink) {
    return lanes;
  }
  const Placement all = place(cluster, request.communicator);
  const Bytes largest = request.largest > Bytes() ? request.largest : request.bytes;
  lanes.channels =
      std::min(profile.channel_limit,
               message_channels(cluster, all, profile.tuning, largest, profile.peer_chunk));
  const Medium& medium = medium_within(profile, cluster, Inside::nvlink);
  if (medium.message_channel > BytesPerSecond()) {
    lanes.moving = (request.bytes / (medium.message_channel * lanes.channels)).value();
  }
  return lanes;
}

// What the SMs of a kernel for tokens need: they read or write a rank's own tokens, send each to every
// rank that takes it, and work off what goes to other nodes.
void work_of_tokens(const TransportProfile& profile, const Placement& placement,
                    const TokenKernel& kernel, Course& course) {
  if (!profile.token_kernels) {
    return;
  }
  course.tokens = &*profile.token_kernels;
  const TokenKernelBehaviour& behaviour =
      kernel.combines ? course.tokens->combine : course.tokens->dispatch;
  const Seconds start = placement.over_network ? behaviour.base_network : behaviour.base;
  course.start = std::max(Seconds(), start - profile.launch);
  const Seconds work = kernel.own / behaviour.own + kernel.sent / behaviour.sent +
                       kernel.network / behaviour.network;
  course.moving = work.value() / std::max(1, kernel.sms);
}

double spread_of(const TransportProfile& profile, const Placement& placement, Bytes bytes) {
  const auto& spread = placement.over_network ? profile.spread_many_nodes : profile.spread_one_node;
  constexpr double mebi = 1048576.0;
  return spread[bytes.value() < mebi ? 0 : bytes.value() < 16.0 * mebi ? 1 : 2];
}

FlowPattern traffic_of(const Cluster& cluster, const CollectiveRequest& request,
                   const Placement& placement, NcclAlgorithm algorithm) {
  switch (request.kind) {
    case CollectiveKind::all_to_all: return pairwise_traffic(cluster, request, placement);
    case CollectiveKind::send: return message_traffic(cluster, request);
    default: break;
  }
  switch (algorithm) {
    case NcclAlgorithm::tree: return tree_traffic(cluster, request, placement);
    case NcclAlgorithm::nvls:
    case NcclAlgorithm::nvls_tree: return in_switch_traffic(cluster, request, placement);
    default: break;
  }
  return ring_traffic(cluster, request, placement);
}

}  // namespace

CollectivePlan TransportCosts::plan(const CollectiveRequest& request) const {
  const Placement placement = place(cluster_, request.gpus);
  CollectivePlan plan;
  Course course;
  const bool pairs = request.kind == CollectiveKind::all_to_all;
  if (pairs || request.kind == CollectiveKind::send) {
    course.kind = pairs ? TransferKind::all_to_all : TransferKind::send;
    plan.algorithm = pairs ? "pairwise" : "p2p";
    plan.sms_held =
        pairs && !placement.over_network
            ? std::min(profile_->channel_limit,
                       peer_channels(cluster_, placement) * (placement.gpus - 1))
        : placement.over_network && !pairs ? profile_->sms_send_many_nodes
        : pairs ? 2 * static_cast<int>(network_members(cluster_, placement.nodes.front()).size())
                : profile_->sms_send_one_node;
    if (request.tokens) {
      plan.algorithm = "tokens";
      plan.sms_held = request.tokens->sms;
      work_of_tokens(*profile_, placement, *request.tokens, course);
    }
    if (!pairs) {
      const Lanes lanes = lanes_of(*profile_, cluster_, request);
      course.moving = lanes.moving;
      plan.sms_held = lanes.channels > 0 ? lanes.channels : plan.sms_held;
    }
  } else {
    course = choose(request, placement);
    plan.algorithm = name_of(course.algorithm);
    plan.sms_held = course.channels;
  }
  plan.protocol = name_of(course.protocol);
  FlowPattern traffic = traffic_of(cluster_, request, placement, course.algorithm);
  Loads loads;
  const Duration duration = duration_of(*profile_, cluster_, placement, course, traffic, loads);
  plan.flows = std::move(traffic.flows);
  plan.relative_spread = course.tokens != nullptr
                             ? course.tokens->spread
                             : spread_of(*profile_, placement, request.bytes);
  plan.extrapolated = duration.assumed;
  double whole = duration.whole;
  const bool pinned = request.algorithm || request.protocol || !request.pieces.empty();
  const CollectiveTable* table =
      pinned ? nullptr : find_table(*profile_, cluster_, placement, request.kind);
  if (table != nullptr) {
    whole = std::max(table_time(*table, request.bytes).value(), loads.least);
    plan.relative_spread = table->spread;
    plan.measured = true;
    plan.extrapolated = request.bytes > table->points.back().bytes;
  }
  pace(plan, duration.waiting, whole, loads.least);
  return plan;
}

CollectivePlan TransportCosts::lower(const CollectiveRequest& request) const {
  check(!request.gpus.empty(), "a collective has members");
  if (request.gpus.size() == 1 || request.bytes.value() <= 0.0) {
    CollectivePlan nothing;
    nothing.algorithm = "none";
    return nothing;
  }
  return plan(request);
}

// All flows wait as long and then end together, so any of them tells.
Seconds TransportCosts::alone(const CollectiveRequest& request) const {
  const CollectivePlan plan = lower(request);
  if (plan.flows.empty()) {
    return plan.latency;
  }
  return plan.latency + plan.flows.front().bytes / plan.flows.front().rate_cap;
}

bool TransportCosts::calibrated() const { return profile_->calibrated; }

const std::vector<std::string>& TransportCosts::origins() const { return profile_->origins; }

const TransportProfile& TransportCosts::profile() const { return *profile_; }

}  // namespace longhaul
