// Measured kernels, as the fits take them, and the reader of files that hold them.
#pragma once

#include <string>
#include <vector>

#include "sim/cost/kernel.h"
#include "sim/input/yaml.h"

namespace longhaul {

struct GemmRow {
  GemmShape shape;
  double seconds = 0.0;
};

struct AttentionRow {
  AttentionShape shape;
  bool paged_cache = false;  ///< the time includes writing K and V to a cache
  bool vllm = false;         ///< called by vLLM (column source), whose habits are known
  double seconds = 0.0;
};

struct StreamRow {
  double bytes = 0.0;
  double width = 0.0;  ///< elements of a row: shapes of one width are one family
  double seconds = 0.0;
};

/// Which rows of a file are taken. `kind` is the cell in dtype (gemm) or kernel (attention), or
/// empty for any; `source` the cell in source, or empty for any.
struct RowChoice {
  std::string kind;
  std::string source;
  bool slow_outliers = false;  ///< also rows flagged slow_outlier (a larger m took less time)
};

/// Rows of gemm.csv: columns dtype, m, n, k, latency_us, source, flag. Rows with a flag are left
/// out, here and below, but for what the choice allows.
std::vector<GemmRow> read_gemm_rows(const SourcePtr& source, const RowChoice& choice,
                                    KernelType type, Diagnostics& diagnostics);

/// Rows of attention_context.csv (causal, with a paged cache; column window_tokens) or
/// attention_full.csv (no mask, no cache; no such column): batch, sequence_tokens, query_heads,
/// kv_heads, head_dim, latency_us, source, kernel, flag. A column `pass` that says backward makes
/// rows of backward kernels; a column `causal` (yes, no) says the mask of rows without a cache.
std::vector<AttentionRow> read_attention_rows(const SourcePtr& source, const RowChoice& choice,
                                              Diagnostics& diagnostics);

/// Rows of memory_bound.csv: k, min_traffic_bytes, latency_us, source, flag. `from`: the cell in
/// source, or empty for any.
std::vector<StreamRow> read_memory_rows(const SourcePtr& source, const std::string& from,
                                        Diagnostics& diagnostics);

}  // namespace longhaul
