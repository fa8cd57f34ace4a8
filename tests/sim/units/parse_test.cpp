// What users write, read exactly; what they get wrong, named with the remedy.
#include "sim/units/parse.h"

#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

using namespace longhaul;

namespace {

/// "ERROR | HELP" of a failed parse; empty if it succeeded.
template <class T>
std::string complaint(const Parsed<T>& parsed) {
  return parsed.ok() ? "" : parsed.error + " | " + parsed.help;
}

}  // namespace

TEST_CASE("sizes: powers of 1000 with kB to PB, powers of 1024 with KiB to TiB") {
  const std::vector<std::pair<std::string, double>> sizes{{"512 B", 512.0},
                                                          {"1 kB", 1e3},
                                                          {"3 MB", 3e6},
                                                          {"80 GB", 80e9},
                                                          {"2 TB", 2e12},
                                                          {"1 PB", 1e15},
                                                          {"1 KiB", 1024.0},
                                                          {"1 MiB", 1048576.0},
                                                          {"80 GiB", 85899345920.0},
                                                          {"80GiB", 85899345920.0},
                                                          {"1 TiB", 1099511627776.0},
                                                          {"1.5 GiB", 1610612736.0},
                                                          {"  4 KiB ", 4096.0},
                                                          {"1e3 B", 1000.0},
                                                          {".5 KiB", 512.0},
                                                          {"+2 B", 2.0},
                                                          {"0 B", 0.0}};
  for (const auto& [text, value] : sizes) {
    INFO(text);
    const Parsed<Bytes> parsed = parse_bytes(text);
    CHECK(complaint(parsed).empty());
    CHECK(parsed.value.value() == value);
  }
}

TEST_CASE("rates: bytes and bits are eight apart") {
  CHECK(parse_bytes_per_second("900 GB/s").value.value() == 900e9);
  CHECK(parse_bytes_per_second("400 Gb/s").value.value() == 50e9);
  CHECK(parse_bytes_per_second("8 b/s").value.value() == 1.0);
  CHECK(parse_bytes_per_second("1 GiB/s").value.value() == 1073741824.0);
}

TEST_CASE("times, frequencies and rates of computing are read in all their units") {
  CHECK(parse_seconds("2 us").value.value() == 2.0 * 1e-6);
  CHECK(parse_seconds("1.42 s").value.value() == 1.42);
  CHECK(parse_seconds("500 ns").value.value() == 500.0 * 1e-9);
  CHECK(parse_seconds("5 ms").value.value() == 5.0 * 1e-3);
  CHECK(parse_seconds("2 min").value.value() == 120.0);
  CHECK(parse_seconds("1 h").value.value() == 3600.0);
  CHECK(parse_seconds("0 s").ok());
  CHECK(parse_hertz("1.98 GHz").value.value() == 1.98 * 1e9);
  CHECK(parse_flops_per_second("989 TFLOP/s").value.value() == 989.0 * 1e12);
  CHECK(parse_flops_per_second("989 TFLOPS").value.value() == 989.0 * 1e12);
  CHECK(parse_flops_per_second("1.979 PFLOP/s").value.value() == 1.979 * 1e15);
}

TEST_CASE("a missing unit is an error that shows how to write one") {
  CHECK(complaint(parse_bytes("80")) ==
        "needs a unit, got '80' | write a size such as \"80 GiB\"; "
        "units: B, kB, MB, GB, TB, PB, KiB, MiB, GiB, TiB");
}

TEST_CASE("a unit in another spelling is refused with the right one") {
  CHECK(complaint(parse_bytes("80 gib")) == "has an unknown unit 'gib' | did you mean '80 GiB'?");
  CHECK(complaint(parse_bytes("80 KB")) == "has an unknown unit 'KB' | did you mean '80 kB'?");
  CHECK(complaint(parse_bytes("80 G")) == "has an unknown unit 'G' | did you mean '80 GB'?");
  CHECK(complaint(parse_bytes_per_second("400 Gbps")) ==
        "has an unknown unit 'Gbps' | did you mean '400 Gb/s'?");
  CHECK(complaint(parse_bytes_per_second("900 GBps")) ==
        "has an unknown unit 'GBps' | did you mean '900 GB/s'?");
  CHECK(complaint(parse_bytes_per_second("900 GB")) ==
        "has an unknown unit 'GB' | did you mean '900 GB/s'?");
  CHECK(complaint(parse_seconds("2 µs")) == "has an unknown unit 'µs' | did you mean '2 us'?");
}

TEST_CASE("a unit of another dimension is refused with the units that fit") {
  CHECK(complaint(parse_seconds("2 GB")) ==
        "has an unknown unit 'GB' | write a time such as \"2 us\"; units: s, ms, us, ns, min, h");
  CHECK(complaint(parse_bytes("80 b")).find("is a size in bytes, got bits 'b'") == 0);
  CHECK(complaint(parse_bytes("80 Gb")) ==
        "is a size in bytes, got bits 'Gb' | write bytes (B): 8 b are 1 B");
}

TEST_CASE("no number, NaN and infinity are no quantities") {
  for (const std::string text : {"", "fast", ".nan GB", "nan GB", "inf GB", "- GB", ". GB", "GB"}) {
    INFO(text);
    CHECK(complaint(parse_bytes(text)) ==
          "wants a size, got '" + text + "' | write a size such as \"80 GiB\"");
  }
}

TEST_CASE("sizes and times may be zero but not negative, rates must be above zero") {
  CHECK(complaint(parse_bytes("-1 GB")) ==
        "must not be negative, got '-1 GB' | write a size such as \"80 GiB\"");
  CHECK(parse_bytes("-0 GB").ok());
  CHECK(complaint(parse_bytes_per_second("0 GB/s")) ==
        "must be above zero, got '0 GB/s' | write a rate such as \"900 GB/s\"");
  CHECK_FALSE(parse_hertz("0 Hz").ok());
  CHECK_FALSE(parse_seconds("-2 us").ok());
}

TEST_CASE("huge values are slips of the unit: refused just above the limit, taken at it") {
  CHECK(parse_bytes("1000 PB").ok());
  CHECK(complaint(parse_bytes("1001 PB")) ==
        "is too large to be a size: '1001 PB' | check the unit; write a size such as \"80 GiB\"");
  CHECK_FALSE(parse_bytes("1e999 B").ok());
  CHECK(parse_bytes("1e-999 B").value.value() == 0.0);
  CHECK_FALSE(parse_seconds("1e10 s").ok());
}

TEST_CASE("tokens: plain counts, k = 1024, M = 1024 k") {
  CHECK(parse_tokens("131072").value == 131072);
  CHECK(parse_tokens("128k").value == 131072);
  CHECK(parse_tokens("128 k").ok() == false);
  CHECK(parse_tokens("1M").value == 1048576);
  CHECK(parse_tokens("1.5M").value == 1572864);
  CHECK(parse_tokens("0.5k").value == 512);
  CHECK(parse_tokens("1").value == 1);
  CHECK(parse_tokens("1048576M").value == std::int64_t{1} << 40);
}

TEST_CASE("tokens outside 1 to 2^40, fractions and other words are refused") {
  const std::string help = " | write 131072, 128k (k = 1024) or 1M (M = 1024k)";
  CHECK(complaint(parse_tokens("0")) == "must be between 1 and 2^40 tokens, got '0'" + help);
  CHECK(complaint(parse_tokens("1048577M")) ==
        "must be between 1 and 2^40 tokens, got '1048577M'" + help);
  CHECK(complaint(parse_tokens("-4k")) == "must be between 1 and 2^40 tokens, got '-4k'" + help);
  CHECK(complaint(parse_tokens("0.0001k")) ==
        "must be between 1 and 2^40 tokens, got '0.0001k'" + help);
  CHECK(complaint(parse_tokens("1.0001k")) ==
        "wants a whole count of tokens, got '1.0001k'" + help);
  CHECK(complaint(parse_tokens("1e3")) == "wants a whole count of tokens, got '1e3'" + help);
  CHECK(complaint(parse_tokens("128K tokens")) ==
        "wants a count of tokens, got '128K tokens'" + help);
  CHECK_FALSE(parse_tokens("nan").ok());
  CHECK_FALSE(parse_tokens("").ok());
  CHECK_FALSE(parse_tokens("1G").ok());
}

TEST_CASE("integers are decimal digits and nothing else") {
  CHECK(parse_integer("0").value == 0);
  CHECK(parse_integer("-12").value == -12);
  CHECK(parse_integer("9223372036854775807").value == INT64_MAX);
  for (const std::string text : {"9223372036854775808", "0x10", "1e3", "08", "-07", "1.0", "", "-",
                                 "+5", " 5", "5 ", "1_000", "0o17", "five"}) {
    INFO(text);
    CHECK_FALSE(parse_integer(text).ok());
  }
}

TEST_CASE("numbers are plain, finite and decimal") {
  CHECK(parse_number("0.85").value == 0.85);
  CHECK(parse_number("1e-3").value == 1e-3);
  CHECK(parse_number("-2.5E+2").value == -250.0);
  for (const std::string text :
       {"", "nan", ".nan", "inf", ".inf", "0x1p3", "1e999", "1,5", "2 us", "1e", "--1", "."}) {
    INFO(text);
    CHECK_FALSE(parse_number(text).ok());
  }
}
