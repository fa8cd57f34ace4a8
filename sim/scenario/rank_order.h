// How a plan's axes are laid over the GPUs: which ranks are neighbours.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/scenario/scenario.h"

namespace longhaul {

/// Ranks along an axis (a part of the plan's degrees).
std::int64_t degree_of(const Plan& plan, PlanAxis axis);

/// The order of all five axes of the mesh, fastest first: tensor, ulysses, ring, data, pipeline in
/// the plan's order. Axes of degree 1 that it leaves out stand at its end.
std::vector<PlanAxis> settled_rank_order(const Plan& plan);

/// GPUs from one rank to the next along an axis: the product of the faster axes.
std::int64_t stride_of(const Plan& plan, PlanAxis axis);

/// Which of ulysses and ring the order makes the faster one.
InnerPlacement inner_of(const Plan& plan);

/// The order names ulysses or ring by themselves, so that `inner` decides nothing.
bool names_context_parts(const Plan& plan);

/// "tp-cp-dp-pp".
std::string rank_order_text(const Plan& plan);

/// What is wrong with the plan's order, in words; empty: nothing.
std::string rank_order_fault(const Plan& plan);

/// Neighbouring ranks of every expert group that share a node of `node_gpus` GPUs, rank r on GPU r:
/// divides plan.expert. 0: the groups lie on their nodes in other ways.
std::int64_t expert_ranks_per_node(const Plan& plan, std::int64_t node_gpus);

}  // namespace longhaul
