// Quantities as users write them: "80 GiB", "900 GB/s", "400 Gb/s", "2 us", "128k".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sim/units/quantity.h"

namespace longhaul {

/// Result of parsing: a value, or why not (`error`) and what to write instead (`help`). `error`
/// completes a sentence that starts with the name of the thing: "memory" + " needs a unit".
template <class T>
struct Parsed {
  T value{};
  std::string error;  ///< empty: success
  std::string help;
  [[nodiscard]] bool ok() const { return error.empty(); }
};

// Sizes and times must not be negative; rates and frequencies must be above zero; all must lie
// below a limit far above any machine, since what exceeds it is a slip of the unit.

/// B, kB, MB, GB, TB, PB (powers of 1000); KiB, MiB, GiB, TiB (powers of 1024); bits are refused.
Parsed<Bytes> parse_bytes(std::string_view text);
/// s, ms, us, ns, min, h.
Parsed<Seconds> parse_seconds(std::string_view text);
/// Bytes or bits per second: GB/s, GiB/s, Gb/s, Gbps is refused with a suggestion.
Parsed<BytesPerSecond> parse_bytes_per_second(std::string_view text);
/// FLOP/s, GFLOP/s, TFLOP/s, PFLOP/s; "TFLOPS" is accepted as a spelling of TFLOP/s.
Parsed<FlopsPerSecond> parse_flops_per_second(std::string_view text);
/// Hz, kHz, MHz, GHz.
Parsed<Hertz> parse_hertz(std::string_view text);
/// 131072, 128k, 1M: k = 1024, M = 1024 k. Between 1 and 2^40.
Parsed<std::int64_t> parse_tokens(std::string_view text);
/// A plain finite decimal number; NaN, infinity, hexadecimal and trailing text are refused.
Parsed<double> parse_number(std::string_view text);
/// A plain decimal integer; "0x10", "1e3" and "08" are refused.
Parsed<std::int64_t> parse_integer(std::string_view text);

}  // namespace longhaul
