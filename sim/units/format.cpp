#include "sim/units/format.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <span>

namespace longhaul {

namespace {

struct Scale {
  double factor;
  const char* unit;
};

/// Decimals that leave three significant digits of 0 < value < 1000 after rounding.
int decimals_for(double value) {
  if (value < 9.995) {
    return 2;
  }
  return value < 99.95 ? 1 : 0;
}

/// Three significant digits in the largest scale that shows at least 1. `scales` go from small to
/// large; what is larger than the last is written with as many digits as it has.
std::string format_scaled(double value, std::span<const Scale> scales) {
  if (!std::isfinite(value)) {
    return std::isnan(value) ? "not a number" : (value < 0 ? "-infinite" : "infinite");
  }
  const double size = std::abs(value);
  if (size == 0.0) {
    return fmt::format("0 {}", scales.front().unit);
  }
  // 0.9995 of the next unit would print as 1000 of this one.
  const Scale* best = &scales.front();
  for (const Scale& scale : scales) {
    if (size / scale.factor >= 0.9995) {
      best = &scale;
    }
  }
  const double shown = size / best->factor;
  const char* sign = value < 0 ? "-" : "";
  return fmt::format("{}{:.{}f} {}", sign, shown, decimals_for(shown), best->unit);
}

constexpr double ki = 1024.0;
constexpr std::array byte_scales{Scale{1.0, "B"}, Scale{ki, "KiB"}, Scale{ki * ki, "MiB"},
                                 Scale{ki * ki * ki, "GiB"}, Scale{ki * ki * ki * ki, "TiB"}};
// Below 1 ns there is nothing to tell apart; ns is also where the list of prefixes starts.
constexpr std::array second_scales{Scale{1e-9, "ns"}, Scale{1e-6, "us"}, Scale{1e-3, "ms"},
                                   Scale{1.0, "s"}};
constexpr std::array rate_scales{Scale{1.0, "B/s"}, Scale{1e3, "kB/s"}, Scale{1e6, "MB/s"},
                                 Scale{1e9, "GB/s"}, Scale{1e12, "TB/s"}};
constexpr std::array flops_scales{Scale{1.0, "FLOP/s"}, Scale{1e9, "GFLOP/s"},
                                  Scale{1e12, "TFLOP/s"}, Scale{1e15, "PFLOP/s"}};

}  // namespace

std::string format_bytes(Bytes bytes) {
  const double value = bytes.value();
  // Below 1 KiB bytes are counted, not measured: "512 B", not "512.0 B"; the same for 1000 to 1023.
  if (std::abs(value) < ki && value == std::floor(value)) {
    return fmt::format("{:.0f} B", value);
  }
  return format_scaled(value, byte_scales);
}

std::string format_seconds(Seconds seconds) {
  if (seconds.value() == 0.0) {
    return "0 s";
  }
  return format_scaled(seconds.value(), second_scales);
}

std::string format_rate(BytesPerSecond rate) { return format_scaled(rate.value(), rate_scales); }

std::string format_flops_rate(FlopsPerSecond rate) {
  return format_scaled(rate.value(), flops_scales);
}

std::string format_tokens(std::int64_t tokens) {
  constexpr std::int64_t k = 1024;
  if (tokens != 0 && tokens % (k * k) == 0) {
    return fmt::format("{}M", tokens / (k * k));
  }
  if (tokens != 0 && tokens % k == 0) {
    return fmt::format("{}k", tokens / k);
  }
  return fmt::format("{}", tokens);
}

std::string format_percent(double fraction) {
  const double percent = fraction * 100.0;
  const double size = std::abs(percent);
  if (!std::isfinite(percent)) {
    return "not a number";
  }
  return fmt::format("{:.{}f} %", percent, size < 99.95 ? 1 : 0);
}

std::string format_number(double number) {
  std::array<char, 32> buffer{};  // the shortest form of a double needs at most 24
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number);
  return {buffer.data(), end.ptr};
}

}  // namespace longhaul
