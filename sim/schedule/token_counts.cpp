#include "sim/schedule/token_counts.h"

#include <algorithm>
#include <cmath>

namespace longhaul {

namespace {

double log_choose(std::int64_t n, std::int64_t k) {
  const auto log_factorial = [](std::int64_t i) { return std::lgamma(static_cast<double>(i) + 1.0); };
  return log_factorial(n) - log_factorial(k) - log_factorial(n - k);
}

// Probability that `drawn` of `all` things, drawn without putting back, have `hits` of `marked` ones.
double hypergeometric(std::int64_t all, std::int64_t marked, std::int64_t drawn,
                      std::int64_t hits) {
  if (hits < 0 || hits > marked || drawn - hits < 0 || drawn - hits > all - marked) {
    return 0.0;
  }
  return std::exp(log_choose(marked, hits) + log_choose(all - marked, drawn - hits) -
                  log_choose(all, drawn));
}

// Probability that none of `drawn` of `all` things is one of `marked`: C(all - marked, drawn) over
// C(all, drawn).
double none_of(std::int64_t all, std::int64_t marked, std::int64_t drawn) {
  double none = 1.0;
  for (std::int64_t i = 0; i < drawn; ++i) {
    none *= static_cast<double>(std::max<std::int64_t>(0, all - marked - i)) /
            static_cast<double>(all - i);
  }
  return none;
}

std::int64_t tokens_of_rank(const Scenario& scenario) {
  const Plan& plan = scenario.plan;
  return scenario.workload.micro_batch * scenario.workload.sequence_length /
         plan.context.degree() / (plan.sequence_parallel ? plan.tensor : 1);
}

double load(const Scenario& scenario, std::int64_t local) {
  return scenario.workload.expert_capacity > 0.0
             ? scenario.workload.expert_capacity
             : rank_imbalance(scenario.workload.expert_imbalance, scenario.model.experts.count,
                              local);
}

}  // namespace

// Loads that fluctuate independently: the mean of n of E of them, drawn without putting back,
// deviates sqrt((E - n) / ((E - 1) n)) times as much as one.
double rank_imbalance(double imbalance, std::int64_t experts, std::int64_t local) {
  if (local >= experts) {
    return 1.0;
  }
  const auto all = static_cast<double>(experts);
  const auto n = static_cast<double>(local);
  return 1.0 + (imbalance - 1.0) * std::sqrt((all - n) / ((all - 1.0) * n));
}

std::int64_t expert_rows(const Scenario& scenario) {
  const Experts& experts = scenario.model.experts;
  const double rows = static_cast<double>(tokens_of_rank(scenario) * experts.per_token) *
                      load(scenario, experts.count / scenario.plan.expert) /
                      static_cast<double>(experts.count);
  // What is whole but for rounding stays as it is.
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(rows * (1.0 - 1e-12))));
}

// The unit cuts at most two groups, at its ends; groups between them it holds whole.
double share_of_tokens(const Experts& experts, std::int64_t first, std::int64_t count) {
  const std::int64_t size = experts.count / experts.groups;
  const std::int64_t open = experts.group_limit * size;  // experts that a token may choose from
  std::int64_t whole = 0;
  std::int64_t parts[2] = {0, 0};
  int cut = 0;
  for (std::int64_t group = first / size; group * size < first + count; ++group) {
    const std::int64_t begin = std::max(first, group * size);
    const std::int64_t held = std::min(first + count, (group + 1) * size) - begin;
    if (held == size) {
      ++whole;
    } else {
      parts[cut++] = held;
    }
  }
  double none = 0.0;
  for (std::int64_t hit_parts = 0; hit_parts < (1 << cut); ++hit_parts) {
    const std::int64_t one = hit_parts & 1;
    const std::int64_t other = hit_parts >> 1;
    const std::int64_t taken = one + other;
    // This choice of cut groups among all, then whole groups among the rest.
    const double of_cut = hypergeometric(experts.groups, cut, experts.group_limit, taken) /
                          (cut == 2 && taken == 1 ? 2.0 : 1.0);
    for (std::int64_t hits = 0; of_cut > 0.0 && hits <= whole; ++hits) {
      none += of_cut *
              hypergeometric(experts.groups - cut, whole, experts.group_limit - taken, hits) *
              none_of(open, hits * size + one * parts[0] + other * parts[1], experts.per_token);
    }
  }
  return 1.0 - none;
}

std::int64_t unit_rows(const Scenario& scenario, std::int64_t local) {
  const Experts& experts = scenario.model.experts;
  double share = 0.0;
  for (std::int64_t first = 0; first < experts.count; first += local) {
    share = std::max(share, share_of_tokens(experts, first, local));
  }
  const std::int64_t tokens = tokens_of_rank(scenario);
  const double rows = static_cast<double>(tokens) * share * load(scenario, local);
  // Shares are sums of rounded terms.
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(std::ceil(rows * (1.0 - 1e-9))), 1,
                                  tokens);
}

}  // namespace longhaul
