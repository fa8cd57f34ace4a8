// Three significant digits and a fitting prefix, on both sides of every change of prefix.
#include "sim/units/format.h"

#include <catch2/catch.hpp>
#include <limits>

#include "sim/units/parse.h"

using namespace longhaul;

TEST_CASE("sizes are printed with binary prefixes") {
  CHECK(format_bytes(Bytes::of(0)) == "0 B");
  CHECK(format_bytes(Bytes::of(512)) == "512 B");
  CHECK(format_bytes(Bytes::of(1023)) == "1023 B");
  CHECK(format_bytes(Bytes::of(1024)) == "1.00 KiB");
  CHECK(format_bytes(Bytes::of(85899345920.0)) == "80.0 GiB");
  CHECK(format_bytes(Bytes::of(71.84 * 1073741824.0)) == "71.8 GiB");
  CHECK(format_bytes(Bytes::of(-2048)) == "-2.00 KiB");
}

TEST_CASE("times are printed with a fitting prefix") {
  CHECK(format_seconds(Seconds::of(0)) == "0 s");
  CHECK(format_seconds(Seconds::of(1.24)) == "1.24 s");
  CHECK(format_seconds(Seconds::of(0.68)) == "680 ms");
  CHECK(format_seconds(Seconds::of(12.5e-6)) == "12.5 us");
  CHECK(format_seconds(Seconds::of(41.0)) == "41.0 s");
  CHECK(format_seconds(Seconds::of(12345.0)) == "12345 s");
}

TEST_CASE("what rounds up to 1000 takes the next prefix") {
  CHECK(format_seconds(Seconds::of(0.9994)) == "999 ms");
  CHECK(format_seconds(Seconds::of(0.9996)) == "1.00 s");
  CHECK(format_seconds(Seconds::of(9.994)) == "9.99 s");
  CHECK(format_seconds(Seconds::of(9.996)) == "10.0 s");
  CHECK(format_seconds(Seconds::of(99.94)) == "99.9 s");
  CHECK(format_seconds(Seconds::of(99.96)) == "100 s");
}

TEST_CASE("rates have decimal prefixes") {
  CHECK(format_rate(BytesPerSecond::of(450e9)) == "450 GB/s");
  CHECK(format_rate(BytesPerSecond::of(3.35e12)) == "3.35 TB/s");
  CHECK(format_flops_rate(FlopsPerSecond::of(989e12)) == "989 TFLOP/s");
  CHECK(format_flops_rate(FlopsPerSecond::of(1.979e15)) == "1.98 PFLOP/s");
}

TEST_CASE("tokens are printed in the field's k and M only where that is exact") {
  CHECK(format_tokens(131072) == "128k");
  CHECK(format_tokens(1048576) == "1M");
  CHECK(format_tokens(1572864) == "1536k");
  CHECK(format_tokens(100000) == "100000");
  CHECK(format_tokens(0) == "0");
}

TEST_CASE("every count of tokens reads back as itself") {
  for (const std::int64_t count : {1, 1000, 1024, 4097, 131072, 1048576, 3145728, 999999999}) {
    CHECK(parse_tokens(format_tokens(count)).value == count);
  }
}

TEST_CASE("shares are percentages with one decimal below 100") {
  CHECK(format_percent(0.4521) == "45.2 %");
  CHECK(format_percent(0.0) == "0.0 %");
  CHECK(format_percent(0.9994) == "99.9 %");
  CHECK(format_percent(0.9996) == "100 %");
  CHECK(format_percent(-0.035) == "-3.5 %");
}

TEST_CASE("what is no number is said, not printed as one") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(format_seconds(Seconds::of(nan)) == "not a number");
  CHECK(format_rate(BytesPerSecond::of(infinity)) == "infinite");
  CHECK(format_percent(nan) == "not a number");
}

TEST_CASE("numbers are printed in the shortest form that reads back the same") {
  CHECK(format_number(0.1) == "0.1");
  CHECK(format_number(1.0) == "1");
  CHECK(format_number(-2.5e-9) == "-2.5e-09");
  for (const double value : {1.0 / 3.0, 6.02214076e23, 1e-300, 123456789.123456789}) {
    CHECK(parse_number(format_number(value)).value == value);
  }
}
