// The words of a scenario file for each choice, in the order of their enumerators: read by
// read_scenario, printed by reports. One list per enumeration, so that both agree.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/scenario/scenario.h"

namespace longhaul {

inline const std::vector<std::string> phase_words{"train", "forward", "prefill", "decode",
                                                  "attention"};
inline const std::vector<std::string> pass_words{"forward", "backward", "forward_backward"};
inline const std::vector<std::string> method_words{"none", "ring",       "ulysses",
                                                   "usp",  "all_gather", "double_ring"};
inline const std::vector<std::string> order_words{"contiguous", "zigzag", "striped"};
inline const std::vector<std::string> inner_words{"ulysses", "ring"};
inline const std::vector<std::string> variant_words{"pass_kv", "q_side_backward", "helpers",
                                                    "pass_q", "materialised", "chunked_offload"};
/// As Megatron-LM's --rank-order spells them, and the two that its cp is here.
inline const std::vector<std::string> rank_axis_words{"tp", "cp", "ulysses", "ring",
                                                      "dp", "pp", "ep"};
inline const std::vector<std::string> schedule_words{"1f1b",  "interleaved", "zb_h1", "zb_h2",
                                                     "zb_1p", "zb_2p",       "zb_v"};
inline const std::vector<std::string> recompute_words{"none", "selective", "full"};
inline const std::vector<std::string> recompute_detail_words{
    "standard", "attention_core", "keep_attention_output", "keep_attention_output_part",
    "keep_linear_outputs", "op_sac"};
/// As Megatron-LM's --moe-token-dispatcher-type, and DeepEP for its `flex`.
inline const std::vector<std::string> expert_dispatch_words{"alltoall", "allgather", "deepep"};
inline const std::vector<std::string> expert_dispatch_type_words{"bf16", "fp8"};
inline const std::vector<std::string> states_words{"mixed", "compute", "fp32"};
inline const std::vector<std::string> offload_words{"optimizer", "activations", "parameters"};
inline const std::vector<std::string> data_type_words{"bf16", "fp16", "fp32", "fp8"};
/// Stack profiles that schedules know.
/// Attention kernel families; `auto` is the best the device has.
inline const std::vector<std::string> attention_kernel_words{"auto",  "fa1",   "fa2", "fa3",
                                                             "fa4",   "cudnn", "unfused"};

/// The word for a value of one of the lists above.
template <class Choice>
const std::string& word_of(const std::vector<std::string>& words, Choice choice) {
  return words.at(static_cast<std::size_t>(choice));
}

/// The schedule that a word means, in capitals or not, with -, _ or neither ("ZB-H1"); nothing if none.
std::optional<PipelineSchedule> schedule_of_word(const std::string& word);

/// "causal", "full", "window 4096".
std::string mask_text(const MaskSpec& mask);

/// The sequence split in words: "ring 32 zigzag", "usp u8 x r4 zigzag, ring inner", "none".
std::string context_text(const ContextPlan& context);

/// The whole plan in words, what is 1 or off left out: "tp8+sp x ring 4 zigzag, zero 3".
std::string plan_text(const Plan& plan);

}  // namespace longhaul
