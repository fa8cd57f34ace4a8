// Facts about DeepEP's normal kernels (github.com/deepseek-ai/DeepEP, csrc/config.hpp and
// deep_ep/buffer.py): what they can be asked for, and what they hold. docs/models/moe.md.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/units/quantity.h"

namespace longhaul {

/// GPUs of a node where ranks are on several (NUM_MAX_NVL_PEERS), and the most on one.
inline constexpr std::int64_t deepep_node_ranks = 8;
/// SMs that dispatch and combine hold (Buffer.num_sms; Megatron-LM's moe_deepep_num_sms).
inline constexpr int deepep_sms = 20;

/// Numbers of ranks that have a configuration.
std::vector<std::int64_t> deepep_ranks();

/// Device memory of the buffers on each rank for rows of `hidden` values in bf16: towards the node's
/// GPUs and, of more than 8 ranks, towards the network (get_nvl_buffer_size_hint,
/// get_rdma_buffer_size_hint; the larger of dispatch's and combine's). Other numbers of ranks than
/// deepep_ranks() are taken for the next larger one.
Bytes deepep_buffers(std::int64_t hidden, std::int64_t ranks);

}  // namespace longhaul
