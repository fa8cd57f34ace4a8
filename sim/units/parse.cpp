#include "sim/units/parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <span>
#include <utility>

namespace longhaul {

namespace {

struct Unit {
  std::string_view name;
  double factor;
};

/// What a kind of quantity accepts, and what it tells users who got it wrong.
struct Kind {
  std::string_view wants;    ///< "a size"
  std::string_view example;  ///< "80 GiB"
  std::span<const Unit> units;
  bool zero_allowed = true;
  double limit = 0.0;  ///< largest value, in base units
};

constexpr double ki = 1024.0;
constexpr double mi = ki * ki;
constexpr double gi = ki * mi;
constexpr double ti = ki * gi;
constexpr std::array byte_units{
    Unit{"B", 1.0},   Unit{"kB", 1e3}, Unit{"MB", 1e6}, Unit{"GB", 1e9}, Unit{"TB", 1e12},
    Unit{"PB", 1e15}, Unit{"KiB", ki}, Unit{"MiB", mi}, Unit{"GiB", gi}, Unit{"TiB", ti}};
constexpr std::array second_units{Unit{"s", 1.0},   Unit{"ms", 1e-3},  Unit{"us", 1e-6},
                                  Unit{"ns", 1e-9}, Unit{"min", 60.0}, Unit{"h", 3600.0}};
constexpr std::array rate_units{
    Unit{"B/s", 1.0},      Unit{"kB/s", 1e3},     Unit{"MB/s", 1e6},     Unit{"GB/s", 1e9},
    Unit{"TB/s", 1e12},    Unit{"PB/s", 1e15},    Unit{"KiB/s", ki},     Unit{"MiB/s", mi},
    Unit{"GiB/s", gi},     Unit{"TiB/s", ti},     Unit{"b/s", 1.0 / 8},  Unit{"kb/s", 1e3 / 8},
    Unit{"Mb/s", 1e6 / 8}, Unit{"Gb/s", 1e9 / 8}, Unit{"Tb/s", 1e12 / 8}};
constexpr std::array flops_units{
    Unit{"FLOP/s", 1.0},   Unit{"MFLOP/s", 1e6},  Unit{"GFLOP/s", 1e9},
    Unit{"TFLOP/s", 1e12}, Unit{"PFLOP/s", 1e15}, Unit{"EFLOP/s", 1e18},
    Unit{"GFLOPS", 1e9},   Unit{"TFLOPS", 1e12},  Unit{"PFLOPS", 1e15}};
constexpr std::array hertz_units{Unit{"Hz", 1.0}, Unit{"kHz", 1e3}, Unit{"MHz", 1e6},
                                 Unit{"GHz", 1e9}};

// Limits lie far above any machine of today and far below where doubles or SimTime give up; a value
// beyond them is a slip of the unit.
constexpr Kind size_kind{"a size", "80 GiB", byte_units, true, 1e18};
constexpr Kind time_kind{"a time", "2 us", second_units, true, 1e9};
constexpr Kind rate_kind{"a rate", "900 GB/s", rate_units, false, 1e18};
constexpr Kind flops_kind{"a rate of computing", "989 TFLOP/s", flops_units, false, 1e21};
constexpr Kind hertz_kind{"a frequency", "1.98 GHz", hertz_units, false, 1e12};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::size_t skip_digits(std::string_view text, std::size_t at) {
  while (at < text.size() && is_digit(text[at])) {
    ++at;
  }
  return at;
}

/// Length of the decimal number that `text` starts with (0: none): sign, digits with an optional
/// fraction, optional exponent. Narrower than from_chars, which also takes "inf" and "nan".
std::size_t number_length(std::string_view text) {
  std::size_t at = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  const std::size_t whole = skip_digits(text, at);
  std::size_t end = whole;
  if (end < text.size() && text[end] == '.') {
    end = skip_digits(text, end + 1);
    if (end == at + 1) {
      return 0;  // a lone dot
    }
  }
  if (end == at) {
    return 0;
  }
  if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    std::size_t exponent = end + 1;
    if (exponent < text.size() && (text[exponent] == '-' || text[exponent] == '+')) {
      ++exponent;
    }
    const std::size_t stop = skip_digits(text, exponent);
    end = stop > exponent ? stop : end;  // "2e" is the number 2 with a wrong unit
  }
  return end;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

/// The value of a text that number_length() accepted as a whole; infinite if too large.
double to_double(std::string_view digits) {
  if (digits.front() == '+') {
    digits.remove_prefix(1);
  }
  double value = 0.0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (result.ec != std::errc{}) {
    // Out of range either way; a tiny number ("1e-999") counts as zero, a huge one as infinite.
    const auto exponent = digits.find_first_of("eE");
    const bool tiny = exponent != digits.npos && digits.substr(exponent + 1, 1) == "-";
    return tiny ? 0.0 : HUGE_VAL;
  }
  return value;
}

std::string joined_names(std::span<const Unit> units) {
  std::string names;
  for (const Unit& unit : units) {
    names += (names.empty() ? "" : ", ") + std::string(unit.name);
  }
  return names;
}

/// The same unit in another spelling: case ignored, "ps" for "/s", a missing "/s" or "B".
std::string_view intended_unit(const Kind& kind, std::string_view written) {
  std::string folded(written);
  if (folded == "µs" || folded == "μs" || folded == "usec") {
    folded = "us";
  }
  if (folded.size() > 2 && folded.ends_with("ps")) {
    folded.replace(folded.size() - 2, 2, "/s");
  }
  const auto matches = [](std::string_view a, std::string_view b, bool ignore_case) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) {
      return x == y || (ignore_case && std::tolower(static_cast<unsigned char>(x)) ==
                                           std::tolower(static_cast<unsigned char>(y)));
    });
  };
  for (const bool ignore_case : {false, true}) {
    for (const std::string& tail : {std::string(), std::string("/s"), std::string("B")}) {
      for (const Unit& unit : kind.units) {
        if (matches(unit.name, folded + tail, ignore_case)) {
          return unit.name;
        }
      }
    }
  }
  return {};
}

template <class T>
Parsed<T> failure(std::string error, std::string help) {
  return {T{}, std::move(error), std::move(help)};
}

std::string wants_help(const Kind& kind) {
  return fmt::format("write {} such as \"{}\"", kind.wants, kind.example);
}

/// Why a unit is refused and what to write instead.
template <class T>
Parsed<T> wrong_unit(const Kind& kind, std::string_view number, std::string_view unit) {
  std::string error = fmt::format("has an unknown unit '{}'", unit);
  const bool size = kind.units.data() == byte_units.data();
  const bool bits = size && (unit == "b" || (unit.size() == 2 && unit.ends_with('b')));
  if (bits) {
    return failure<T>(fmt::format("is a size in bytes, got bits '{}'", unit),
                      "write bytes (B): 8 b are 1 B");
  }
  const std::string_view meant = intended_unit(kind, unit);
  if (!meant.empty()) {
    return failure<T>(std::move(error), fmt::format("did you mean '{} {}'?", number, meant));
  }
  return failure<T>(std::move(error),
                    fmt::format("{}; units: {}", wants_help(kind), joined_names(kind.units)));
}

template <class T>
Parsed<T> checked(const Kind& kind, double value, std::string_view text) {
  if (!(value >= 0.0)) {
    return failure<T>(fmt::format("must not be negative, got '{}'", text), wants_help(kind));
  }
  if (!kind.zero_allowed && value == 0.0) {
    return failure<T>(fmt::format("must be above zero, got '{}'", text), wants_help(kind));
  }
  if (!(value <= kind.limit)) {
    return failure<T>(fmt::format("is too large to be {}: '{}'", kind.wants, text),
                      fmt::format("check the unit; {}", wants_help(kind)));
  }
  return {T::of(value), "", ""};
}

template <class T>
Parsed<T> parse_quantity(const Kind& kind, std::string_view written) {
  const std::string_view text = trim(written);
  const std::size_t length = number_length(text);
  if (length == 0) {
    return failure<T>(fmt::format("wants {}, got '{}'", kind.wants, text), wants_help(kind));
  }
  const std::string_view number = text.substr(0, length);
  const std::string_view unit = trim(text.substr(length));
  if (unit.empty()) {
    return failure<T>(fmt::format("needs a unit, got '{}'", text),
                      fmt::format("{}; units: {}", wants_help(kind), joined_names(kind.units)));
  }
  for (const Unit& known : kind.units) {
    if (known.name == unit) {
      return checked<T>(kind, to_double(number) * known.factor, text);
    }
  }
  return wrong_unit<T>(kind, number, unit);
}

}  // namespace

Parsed<Bytes> parse_bytes(std::string_view text) { return parse_quantity<Bytes>(size_kind, text); }

Parsed<Seconds> parse_seconds(std::string_view text) {
  return parse_quantity<Seconds>(time_kind, text);
}

Parsed<BytesPerSecond> parse_bytes_per_second(std::string_view text) {
  return parse_quantity<BytesPerSecond>(rate_kind, text);
}

Parsed<FlopsPerSecond> parse_flops_per_second(std::string_view text) {
  return parse_quantity<FlopsPerSecond>(flops_kind, text);
}

Parsed<Hertz> parse_hertz(std::string_view text) { return parse_quantity<Hertz>(hertz_kind, text); }

Parsed<std::int64_t> parse_integer(std::string_view text) {
  const auto refuse = [&](std::string_view why, std::string help) {
    return failure<std::int64_t>(fmt::format("{}, got '{}'", why, text), std::move(help));
  };
  const std::size_t sign = !text.empty() && text[0] == '-' ? 1 : 0;
  const std::size_t end = skip_digits(text, sign);
  if (end == sign || end != text.size()) {
    return refuse("wants a whole number", "write decimal digits only, such as 4096");
  }
  if (end > sign + 1 && text[sign] == '0') {
    return refuse("wants a whole number without leading zeros",
                  "write decimal digits only, such as 4096");
  }
  std::int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc{}) {
    return refuse("is too large for a whole number", "the largest is 9223372036854775807");
  }
  return {value, "", ""};
}

Parsed<double> parse_number(std::string_view text) {
  if (number_length(text) != text.size() || text.empty()) {
    return failure<double>(fmt::format("wants a plain number, got '{}'", text),
                           "write a decimal number such as 0.85");
  }
  const double value = to_double(text);
  if (!std::isfinite(value)) {
    return failure<double>(fmt::format("is too large for a number: '{}'", text),
                           "the largest is about 1.8e308");
  }
  return {value, "", ""};
}

Parsed<std::int64_t> parse_tokens(std::string_view written) {
  constexpr std::int64_t most = std::int64_t{1} << 40;
  const std::string_view text = trim(written);
  const auto refuse = [&](std::string_view why) {
    return failure<std::int64_t>(fmt::format("{}, got '{}'", why, text),
                                 "write 131072, 128k (k = 1024) or 1M (M = 1024k)");
  };
  const bool mega = text.ends_with('M');
  const bool kilo = text.ends_with('k') || text.ends_with('K');
  const Parsed<double> count = parse_number(text.substr(0, text.size() - (mega || kilo ? 1 : 0)));
  if (!count.ok()) {
    return refuse("wants a count of tokens");
  }
  if (!mega && !kilo && !parse_integer(text).ok()) {
    return refuse("wants a whole count of tokens");
  }
  const double tokens = count.value * (mega ? mi : kilo ? ki : 1.0);
  if (!(tokens >= 1.0 && tokens <= static_cast<double>(most))) {
    return refuse("must be between 1 and 2^40 tokens");
  }
  if (tokens != std::floor(tokens)) {
    return refuse("wants a whole count of tokens");
  }
  return {static_cast<std::int64_t>(tokens), "", ""};
}

}  // namespace longhaul
