// Reader of yardstick's results (calibrate/yardstick/README.md): one JSON object a line.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "calibrate/fit/kernel_rows.h"

namespace longhaul {

/// Which points of a file are taken.
struct YardstickChoice {
  std::string backend;             ///< cublaslt, cudnn, flash, fa3, eager, ...; empty: any
  std::string state = "as_found";  ///< clocks: as_found, or hot (after 15 s of products)
  Bytes l2_cache;                  ///< of the device; zero: nothing is left out for fitting into it
};

/// Points that were left out, by reason: a status that is not ok, another backend or state, a result
/// that was not verified, input sets that together fit the L2 cache.
using LeftOut = std::map<std::string, std::size_t>;

/// gemm.jsonl: forward [m, n, k], dgrad [m, k, n], wgrad [n, k, m]. fp8 points are left out: what is
/// fitted as fp8 includes quantising A, and these products find it quantised. Errors name the line:
/// one that is no JSON object (a last one without its end of line was torn by a kill, and is left out),
/// lacks a field, or has a time that is no number above zero.
std::vector<GemmRow> read_yardstick_gemm(const SourcePtr& source, const YardstickChoice& choice,
                                         LeftOut& left_out, Diagnostics& diagnostics);

/// attention.jsonl, forward and backward, full and causal (aligned at the first query). Where the
/// backend refused grouped heads (`gqa: expanded`) the kernel ran with as many kv heads as heads.
std::vector<AttentionRow> read_yardstick_attention(const SourcePtr& source,
                                                   const YardstickChoice& choice,
                                                   LeftOut& left_out, Diagnostics& diagnostics);

/// memory_bound.jsonl: forward passes of one operator (rms_norm, residual_add, cast_bf16_fp32, ...)
/// or, with an empty name, of all; never of cross-entropies, whose rows have no hidden size.
std::vector<StreamRow> read_yardstick_streams(const SourcePtr& source, const std::string& op,
                                              const YardstickChoice& choice, LeftOut& left_out,
                                              Diagnostics& diagnostics);

/// One line of ceilings.jsonl that has a time: copy_device, read_sum, write_fill, gemm, launch,
/// graph_replay, host_copy.
struct Ceiling {
  std::string what;      ///< the operation and what tells it apart: "host_copy h2d pinned"
  double seconds = 0.0;  ///< of one call
  double bytes = 0.0;    ///< moved; 0: none counted
  double flops = 0.0;
};
std::vector<Ceiling> read_yardstick_ceilings(const SourcePtr& source, LeftOut& left_out,
                                             Diagnostics& diagnostics);

/// The fastest of every kind: "copy_device 4210 GB/s", "gemm randn 742 TFLOP/s", "launch empty_kernel
/// 1.9 us".
std::vector<std::string> best_ceilings(const std::vector<Ceiling>& ceilings);

/// Speed at hot clocks against clocks as found: the median over points that were measured at both,
/// whatever the backend. What profiles call `sustained`.
struct HotShare {
  double share = 0.0;
  std::size_t points = 0;
};
std::optional<HotShare> hot_share(const SourcePtr& source, Diagnostics& diagnostics);

}  // namespace longhaul
