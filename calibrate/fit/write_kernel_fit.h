// Fits of kernels as the text of a file that sim/cost/read_kernel_fit.cpp reads.
#pragma once

#include <string>

#include "calibrate/fit/kernel_fit.h"

namespace longhaul {

/// `from`: which rows of which public data. Four digits; deterministic.
std::string write_gemm_fit(const GemmFit& fit, const std::string& from);
std::string write_memory_fit(const MemoryFit& fit, const std::string& from);
std::string write_attention_fit(const AttentionFit& fit, const std::string& kernel, bool backward,
                                bool masked, const std::string& from);

/// The same without a report: for a curve that was derived from another one, not measured.
std::string write_derived_curve(const AttentionCurve& curve, const std::string& kernel,
                                bool backward, bool masked, const std::string& from);

/// Held-out predictions over measurements against measured time, as a small SVG: for each quarter
/// of a decade the median, the middle half and the 10th and 90th percentile.
std::string draw_residuals(const std::string& title, const FitReport& report);

}  // namespace longhaul
