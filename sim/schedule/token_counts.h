// How many tokens go where on their way to experts: expected counts of a router that takes all
// experts alike. docs/models/moe.md.
#pragma once

#include <cstdint>

#include "sim/scenario/scenario.h"

namespace longhaul {

/// Tokens of the most loaded rank over the mean, if those of the most loaded of `experts` experts
/// are `imbalance` times the mean and `local` of them, whichever, are on a rank.
double rank_imbalance(double imbalance, std::int64_t experts, std::int64_t local);

/// Rows that one rank sends to each expert: tokens x experts per token / experts, times the
/// imbalance or the capacity factor, rounded up. Every rank is taken to be the most loaded one.
std::int64_t expert_rows(const Scenario& scenario);

/// Share of the tokens that pass at least one of `count` neighbouring experts, from `first` on: any
/// k of the experts of `group_limit` groups, any of the groups, being equally likely.
double share_of_tokens(const Experts& experts, std::int64_t first, std::int64_t count);

/// Tokens of one rank that pass an expert of a unit (a rank, a node) with `local` experts: of the unit
/// with most, times its imbalance, rounded up; at most all tokens.
std::int64_t unit_rows(const Scenario& scenario, std::int64_t local);

}  // namespace longhaul
