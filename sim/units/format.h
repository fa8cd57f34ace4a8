// Quantities for people: three significant digits, a fitting prefix, no locale.
#pragma once

#include <cstdint>
#include <string>

#include "sim/units/quantity.h"

namespace longhaul {

std::string format_bytes(Bytes bytes);               ///< "71.8 GiB" (binary prefixes: memory)
std::string format_seconds(Seconds seconds);         ///< "1.24 s", "680 ms", "12.5 us"
std::string format_rate(BytesPerSecond rate);        ///< "450 GB/s" (decimal prefixes: links)
std::string format_flops_rate(FlopsPerSecond rate);  ///< "989 TFLOP/s"
std::string format_tokens(std::int64_t tokens);      ///< "128k", "1M", "100000"
std::string format_percent(double fraction);         ///< "45.2 %"
/// Shortest text that reads back as the same double ("0.1"), independent of locale.
std::string format_number(double number);

}  // namespace longhaul
