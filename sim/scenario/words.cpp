#include "sim/scenario/words.h"

#include <cctype>

#include <fmt/format.h>

#include "sim/scenario/rank_order.h"

namespace longhaul {

namespace {

// "ZB-1p", "zb_1p" and "zb1p" are one word.
std::string plain(const std::string& word) {
  std::string letters;
  for (const char c : word) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      letters += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return letters;
}

}  // namespace

std::optional<PipelineSchedule> schedule_of_word(const std::string& word) {
  for (std::size_t i = 0; i < schedule_words.size(); ++i) {
    if (plain(schedule_words[i]) == plain(word)) {
      return static_cast<PipelineSchedule>(i);
    }
  }
  return std::nullopt;
}

std::string mask_text(const MaskSpec& mask) {
  switch (mask.kind) {
    case MaskKind::causal: return "causal";
    case MaskKind::full: return "full";
    case MaskKind::window: break;
  }
  return fmt::format("window {}", mask.window);
}

namespace {

// "32", "32 in rings of 8", "32 in rings of 8, queries travel back".
std::string ring_text(const ContextPlan& context) {
  std::string out = fmt::format("{}", context.ring);
  if (context.has_double_ring()) {
    out += fmt::format(" in rings of {}", context.inner_ring);
  }
  return out;
}

}  // namespace

std::string context_text(const ContextPlan& context) {
  const std::string order = context.ring > 1 ? " " + word_of(order_words, context.order) : "";
  switch (context.method) {
    case ContextMethod::none: return "none";
    case ContextMethod::ulysses:
      return context.is_chunked() && context.chunks > 0
                 ? fmt::format("ulysses {} in {} chunks", context.ulysses, context.chunks)
                 : fmt::format("ulysses {}", context.ulysses);
    case ContextMethod::all_gather: return fmt::format("all-gather {}{}", context.ring, order);
    case ContextMethod::usp:
      return fmt::format("usp u{} x r{}{}, {} inner", context.ulysses, ring_text(context), order,
                         word_of(inner_words, context.inner));
    case ContextMethod::double_ring:
    case ContextMethod::ring: break;
  }
  return fmt::format("{} {}{}",
                     context.method == ContextMethod::double_ring ? "double ring" : "ring",
                     ring_text(context), order);
}

std::string plan_text(const Plan& plan) {
  std::string out;
  if (plan.tensor > 1) {
    out = fmt::format("tp{}{}", plan.tensor, plan.sequence_parallel ? "+sp" : "");
  }
  if (plan.context.method != ContextMethod::none) {
    out += (out.empty() ? "" : " x ") + context_text(plan.context);
  }
  if (plan.pipeline > 1) {
    out += fmt::format("{}pp{}", out.empty() ? "" : " x ", plan.pipeline);
    out += plan.virtual_pipeline > 1 ? fmt::format(" x {}", plan.virtual_pipeline) : "";
    out += splits_backward(plan.schedule) ? " " + word_of(schedule_words, plan.schedule) : "";
    out += plan.stage_layers.empty()
               ? std::string(plan.uneven_stages ? " uneven" : "")
               : fmt::format(" of {} layers", fmt::join(plan.stage_layers, ", "));
  }
  if (out.empty()) {
    out = plan.data == 1 ? "one GPU" : "whole sequences";
  }
  if (plan.data > 1) {
    out += fmt::format(" x dp{}", plan.data);
  }
  if (!plan.rank_order.empty()) {
    out += fmt::format(", ranks {}", rank_order_text(plan));
  }
  if (plan.expert > 1) {
    out += fmt::format(", experts dealt to {}", plan.expert);
    out += plan.expert_tensor > 1 ? fmt::format(" x {}", plan.expert_tensor) : "";
    if (plan.expert_dispatch != ExpertDispatch::alltoall) {
      out += fmt::format(" by {}{}", word_of(expert_dispatch_words, plan.expert_dispatch),
                         plan.fp8_expert_dispatch ? " in fp8" : "");
    }
  }
  return out;
}

}  // namespace longhaul
