#include "sim/scenario/rank_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "sim/scenario/words.h"

namespace longhaul {

namespace {

// The default is Megatron-LM's (initialize_model_parallel: tp-cp-ep-dp-pp) and that of FSDP2's and
// torchtitan's device mesh, which lists it the other way round (pp, dp_replicate, dp_shard, cp, tp).
const std::vector<PlanAxis> usual_order{PlanAxis::tensor, PlanAxis::context, PlanAxis::data,
                                        PlanAxis::pipeline};
const std::vector<PlanAxis> mesh_axes{PlanAxis::tensor, PlanAxis::ulysses, PlanAxis::ring,
                                      PlanAxis::data, PlanAxis::pipeline};

const std::vector<PlanAxis>& order_of(const Plan& plan) {
  return plan.rank_order.empty() ? usual_order : plan.rank_order;
}

// The place of an axis in an order; its size where it is missing.
std::size_t find(const std::vector<PlanAxis>& order, PlanAxis axis) {
  return static_cast<std::size_t>(std::find(order.begin(), order.end(), axis) - order.begin());
}

bool has(const std::vector<PlanAxis>& order, PlanAxis axis) {
  return find(order, axis) < order.size();
}

}  // namespace

std::int64_t degree_of(const Plan& plan, PlanAxis axis) {
  switch (axis) {
    case PlanAxis::tensor: return plan.tensor;
    case PlanAxis::context: return plan.context.degree();
    case PlanAxis::ulysses: return plan.context.ulysses;
    case PlanAxis::ring: return plan.context.ring;
    case PlanAxis::data: return plan.data;
    case PlanAxis::pipeline: return plan.pipeline;
    case PlanAxis::expert: break;
  }
  return plan.expert;
}

std::vector<PlanAxis> settled_rank_order(const Plan& plan) {
  std::vector<PlanAxis> settled;
  for (const PlanAxis axis : order_of(plan)) {
    const bool ring_first = plan.context.inner == InnerPlacement::ring;
    if (axis == PlanAxis::context) {
      settled.push_back(ring_first ? PlanAxis::ring : PlanAxis::ulysses);
      settled.push_back(ring_first ? PlanAxis::ulysses : PlanAxis::ring);
    } else if (axis != PlanAxis::expert) {
      settled.push_back(axis);
    }
  }
  for (const PlanAxis axis : mesh_axes) {
    if (!has(settled, axis)) {
      settled.push_back(axis);
    }
  }
  return settled;
}

std::int64_t stride_of(const Plan& plan, PlanAxis axis) {
  std::int64_t stride = 1;
  for (const PlanAxis faster : settled_rank_order(plan)) {
    if (faster == axis) {
      break;
    }
    stride *= degree_of(plan, faster);
  }
  return stride;
}

InnerPlacement inner_of(const Plan& plan) {
  const std::vector<PlanAxis> settled = settled_rank_order(plan);
  return find(settled, PlanAxis::ulysses) < find(settled, PlanAxis::ring) ? InnerPlacement::ulysses
                                                                           : InnerPlacement::ring;
}

bool names_context_parts(const Plan& plan) {
  return has(order_of(plan), PlanAxis::ulysses) || has(order_of(plan), PlanAxis::ring);
}

std::string rank_order_text(const Plan& plan) {
  std::string text;
  for (const PlanAxis axis : order_of(plan)) {
    text += (text.empty() ? "" : "-") + word_of(rank_axis_words, axis);
  }
  return text;
}

std::string rank_order_fault(const Plan& plan) {
  const std::vector<PlanAxis>& order = order_of(plan);
  const std::string text = rank_order_text(plan);
  const bool parts = names_context_parts(plan);
  if (parts && has(order, PlanAxis::context)) {
    return fmt::format("rank_order {} has cp and also a part of it", text);
  }
  for (const PlanAxis axis : mesh_axes) {
    const bool in_context = axis == PlanAxis::ulysses || axis == PlanAxis::ring;
    const bool named = has(order, axis) || (in_context && has(order, PlanAxis::context));
    if (!named && degree_of(plan, axis) > 1) {
      return fmt::format("rank_order {} leaves out {}, of degree {}", text,
                         in_context && !parts ? "cp" : word_of(rank_axis_words, axis),
                         degree_of(plan, axis));
    }
  }
  // Experts are dealt through the ranks of tensor, context and data in the order of these.
  const std::size_t expert = find(order, PlanAxis::expert);
  const bool late = expert > find(order, PlanAxis::data);
  const bool early = has(order, PlanAxis::tensor) && expert < find(order, PlanAxis::tensor);
  if (expert < order.size() && plan.expert > 1 && (late || early)) {
    return fmt::format("rank_order {}: ep stands between tp and dp, or is left out", text);
  }
  return "";
}

namespace {

// By group of expert ranks: the nodes of its members in order.
std::vector<std::vector<std::int64_t>> nodes_of_expert_groups(const Plan& plan,
                                                              std::int64_t node_gpus) {
  const std::int64_t gpus = plan.tensor * plan.context.degree() * plan.data * plan.pipeline;
  const std::int64_t stage = gpus / plan.pipeline;
  const std::int64_t cut = plan.expert_tensor;
  std::vector<std::vector<std::int64_t>> nodes(static_cast<std::size_t>(gpus / plan.expert));
  for (auto& group : nodes) {
    group.resize(static_cast<std::size_t>(plan.expert));
  }
  const std::vector<PlanAxis> order = settled_rank_order(plan);
  for (std::int64_t rank = 0; rank < gpus; ++rank) {
    std::int64_t place = 0;  // in the count of the stage's ranks that deals experts
    std::int64_t counted = 1;
    std::int64_t pipeline = 0;
    std::int64_t rest = rank;
    for (const PlanAxis axis : order) {
      const std::int64_t degree = degree_of(plan, axis);
      if (axis == PlanAxis::pipeline) {
        pipeline = rest % degree;
      } else {
        place += rest % degree * counted;
        counted *= degree;
      }
      rest /= degree;
    }
    const std::int64_t member = place / cut % plan.expert;
    const std::int64_t group = place / (cut * plan.expert) * cut + place % cut;
    nodes[static_cast<std::size_t>(pipeline * (stage / plan.expert) + group)]
         [static_cast<std::size_t>(member)] = rank / node_gpus;
  }
  return nodes;
}

// True if a group stands in nodes, `each` neighbours in every one of them.
bool stands_in_nodes(const std::vector<std::int64_t>& nodes, std::size_t each) {
  std::set<std::int64_t> seen;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (i % each == 0 ? !seen.insert(nodes[i]).second : nodes[i] != nodes[i - 1]) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::int64_t expert_ranks_per_node(const Plan& plan, std::int64_t node_gpus) {
  const auto groups = nodes_of_expert_groups(plan, node_gpus);
  const auto each = static_cast<std::size_t>(
      std::count(groups[0].begin(), groups[0].end(), groups[0][0]));
  const bool alike = groups[0].size() % each == 0 &&
                     std::all_of(groups.begin(), groups.end(), [&](const auto& nodes) {
                       return stands_in_nodes(nodes, each);
                     });
  return alike ? static_cast<std::int64_t>(each) : 0;
}

}  // namespace longhaul
