// How a sequence is dealt to the ranks of a ring, and which keys a query may see.
#pragma once

#include <cstdint>

namespace longhaul {

/// contiguous: rank r holds the r-th of R equal pieces. zigzag: the sequence is cut into 2R
/// chunks and rank r holds chunks r and 2R-1-r (causal balance). striped: rank r holds tokens
/// r, r+R, r+2R, ... (Striped Attention, arXiv 2311.09431).
enum class SequenceOrder { contiguous, zigzag, striped };

enum class MaskKind { causal, full, window };

/// A mask on global positions: query p sees key t iff (full) always; (causal) t <= p;
/// (window) p - window < t <= p.
struct MaskSpec {
  MaskKind kind = MaskKind::causal;
  std::int64_t window = 0;
  bool operator==(const MaskSpec&) const = default;
};

}  // namespace longhaul
