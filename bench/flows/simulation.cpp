#include "bench/flows/simulation.h"

#include <algorithm>

namespace longhaul::bench {

namespace {

int scale_for(double longest) {
  int scale = 8;
  while (std::ldexp(longest, scale) > std::ldexp(1.0, 18)) {
    --scale;
  }
  return scale;
}

std::vector<BytesPerSecond> scaled(const std::vector<double>& capacities, int scale) {
  std::vector<BytesPerSecond> all;
  all.reserve(capacities.size());
  for (const double capacity : capacities) {
    all.push_back(BytesPerSecond::of(std::ldexp(capacity, -scale)));
  }
  return all;
}

}  // namespace

Simulation::Simulation(const std::vector<double>& capacities, double longest)
    : scale_(scale_for(longest)),
      time_scale_(std::ldexp(1.0, scale_)),
      ticks_per_second_(std::ldexp(1.0, SimTime::tick_exponent + scale_)),
      network_(scaled(capacities, scale_)) {}

void Simulation::send(const Path& path, double bytes, std::uint64_t tag,
                      std::span<const std::uint32_t> weights) {
  FlowSpec spec{path.view(), Bytes::of(bytes), Seconds::of(path.latency * time_scale_)};
  spec.weights = weights;
  const FlowId flow = network_.start(spec, SimTime::of_ticks(now_));
  if (flow.index >= sent_.size()) {
    sent_.resize(std::max<std::size_t>(2 * sent_.size(), flow.index + 1));
  }
  sent_[flow.index] = {now_, tag, true};
  ++totals_.flows;
}

void Simulation::note(Sent& sent) {
  sent.moving = false;
  const std::int64_t fct = now_ - sent.when;
  totals_.sum_fct += fct;
  totals_.sum_end += now_;
  totals_.max_fct = std::max(totals_.max_fct, fct);
  if (keep_) {
    fct_.push_back(fct);
  }
}

void Simulation::append_state(std::vector<std::uint64_t>& state) const {
  std::vector<std::pair<std::uint32_t, std::int64_t>> pending;
  timers_.for_each(
      [&](std::int64_t when, std::uint32_t who) { pending.emplace_back(who, when - now_); });
  std::sort(pending.begin(), pending.end());
  for (const auto& [who, span] : pending) {
    state.push_back(who);
    state.push_back(static_cast<std::uint64_t>(span));
  }
  std::vector<std::pair<std::uint64_t, std::uint32_t>> flows;  // by tag: ids depend on history
  for (std::uint32_t i = 0; i < sent_.size(); ++i) {
    if (sent_[i].moving) {
      flows.emplace_back(sent_[i].tag, i);
    }
  }
  std::sort(flows.begin(), flows.end());
  for (const auto& [tag, index] : flows) {
    state.push_back(tag);
    state.push_back(static_cast<std::uint64_t>(now_ - sent_[index].when));
    network_.append_state(FlowId(index), SimTime::of_ticks(now_), state);
  }
}

void Simulation::skip(std::int64_t span, std::int64_t periods, const Totals& earlier) {
  const std::int64_t flows = totals_.flows - earlier.flows;
  // A flow of the period just seen ends `span` later in each further one.
  const Wide shifts = static_cast<Wide>(periods) * (periods + 1) / 2;
  const Wide ends = totals_.sum_end - earlier.sum_end;
  totals_.sum_end += periods * ends + shifts * span * flows;
  totals_.sum_fct += periods * (totals_.sum_fct - earlier.sum_fct);
  totals_.flows += periods * flows;
  totals_.computes += periods * (totals_.computes - earlier.computes);
  totals_.timers += periods * (totals_.timers - earlier.timers);
  const std::int64_t shift = periods * span;
  now_ += shift;
  totals_.end = now_;
  timers_.shift(shift);
  for (Sent& sent : sent_) {
    sent.when += shift;
  }
  const std::vector<double> unused(network_.bytes_by_link().begin(),
                                   network_.bytes_by_link().end());
  network_.skip(SimTime::of_ticks(shift), 0, unused);
}

}  // namespace longhaul::bench
