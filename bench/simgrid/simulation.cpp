#include "bench/simgrid/simulation.h"

#include <algorithm>

#include <simgrid/kernel/resource/NetworkModelIntf.hpp>

namespace longhaul::bench {

namespace sg = simgrid::s4u;

namespace {

// Pairs of these hosts stand for routes.
constexpr std::size_t host_count = 1500;

std::unique_ptr<sg::Engine> make_engine() {
  int argc = 8;
  static char arguments[][64] = {"flows_simgrid",
                                 "--cfg=network/model:CM02",
                                 "--cfg=network/TCP-gamma:0",
                                 "--cfg=network/crosstraffic:0",
                                 "--cfg=surf/precision:1e-12",
                                 "--cfg=maxmin/precision:1e-9",
                                 "--cfg=cpu/model:Cas01",
                                 "--log=root.thres:critical"};
  static char* words[9];
  for (int i = 0; i < argc; ++i) {
    words[i] = arguments[i];
  }
  return std::make_unique<sg::Engine>(&argc, words);
}

}  // namespace

Simulation::Simulation(const std::vector<double>& capacities, double)
    : engine_(make_engine()), zone_(sg::create_full_zone("cluster")) {
  for (std::size_t i = 0; i < host_count; ++i) {
    hosts_.push_back(zone_->create_host("h" + std::to_string(i), 1.0));
    hosts_.back()->set_core_count(64);
  }
  for (std::size_t i = 0; i < capacities.size(); ++i) {
    links_.push_back(zone_->create_link("l" + std::to_string(i), capacities[i]));
    links_.back()->set_latency(0.0)->seal();
  }
  zone_->get_network_model()->set_lat_factor_cb(
      [this](double, const sg::Host* from, const sg::Host* to, const std::vector<sg::Link*>&,
             const std::unordered_set<sg::NetZone*>&) {
        return latencies_.at({from, to});
      });
  zone_->seal();
  // One signal for all kinds of activity.
  sg::Activity::on_completion_cb([this](const sg::Activity& activity) {
    over(activity);
    waited(activity);
  });
}

// The next unused pair of hosts for every route that is new.
Simulation::Ends Simulation::ends_of(const Path& path) {
  std::vector<std::uint32_t> key;
  for (const LinkId link : path.view()) {
    key.push_back(link.index);
  }
  const auto found = routes_.find(key);
  if (found != routes_.end()) {
    return found->second;
  }
  const std::size_t index = routes_.size();
  const std::size_t from = index / (host_count - 1);
  const std::size_t other = index % (host_count - 1);
  const Ends ends{hosts_.at(from), hosts_[other < from ? other : other + 1]};
  std::vector<sg::LinkInRoute> links;
  for (const LinkId link : path.view()) {
    links.emplace_back(links_[link.index]);
  }
  // Every route has a latency of one second: half on its first link, half on its last.
  for (const LinkId link : {path.links[0], path.links[path.count - 1]}) {
    if (links_[link.index]->get_latency() == 0.0) {
      links_[link.index]->set_latency(0.5);
    }
  }
  zone_->add_route(ends.from->get_netpoint(), ends.to->get_netpoint(), nullptr, nullptr, links,
                   false);
  latencies_[{ends.from, ends.to}] = path.latency;
  routes_[key] = ends;
  return ends;
}

// A computation. Hosts have a core for each of theirs. (SimGrid's own timers run before the network
// is brought up to date, and a flow started by one would be credited the time before it.)
void Simulation::set_timer(std::int64_t when, std::uint32_t who) {
  const double span = seconds(static_cast<double>(when)) - sg::Engine::get_clock();
  const sg::ExecPtr exec = sg::Exec::init();
  exec->set_host(hosts_[who % host_count])->set_flops_amount(span);
  execs_[exec.get()] = {exec, who};
  exec->vetoable_start();
}

// SimGrid still uses an activity after its call-backs.
void Simulation::bury(simgrid::s4u::ActivityPtr activity) {
  if (buried_.size() < 64) {
    buried_.push_back(std::move(activity));
  } else {
    buried_[next_grave_++ % 64] = std::move(activity);
  }
}

void Simulation::waited(const sg::Activity& activity) {
  const auto found = execs_.find(&activity);
  if (found != execs_.end()) {
    const std::uint32_t who = found->second.second;
    bury(found->second.first);
    execs_.erase(found);
    totals_.end = std::max(totals_.end, now());
    timer_(who);
  }
}

void Simulation::send(const Path& path, double bytes, std::uint64_t tag,
                      std::span<const std::uint32_t> weights) {
  if (!weights.empty()) {
    throw std::runtime_error("SimGrid knows no folded flows");
  }
  const Ends ends = ends_of(path);
  const sg::CommPtr comm = sg::Comm::sendto_init(ends.from, ends.to);
  comm->set_payload_size(static_cast<std::uint64_t>(bytes));
  flows_[comm.get()] = {comm, now(), tag};
  comm->vetoable_start();
  ++totals_.flows;
}

void Simulation::over(const sg::Activity& activity) {
  const auto found = flows_.find(&activity);
  if (found == flows_.end()) {
    return;
  }
  const Sent sent = std::move(found->second);
  flows_.erase(found);
  bury(sent.comm);
  const std::int64_t when = now();
  totals_.end = std::max(totals_.end, when);
  totals_.sum_fct += when - sent.when;
  totals_.sum_end += when;
  totals_.max_fct = std::max(totals_.max_fct, when - sent.when);
  if (keep_) {
    fct_.push_back(when - sent.when);
  }
  sent_(sent.tag);
}

}  // namespace longhaul::bench
