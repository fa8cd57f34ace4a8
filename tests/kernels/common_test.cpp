// The pieces that checks and benches of all kernels share.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include <catch2/catch.hpp>

#include "kernels/common/arithmetic.h"
#include "kernels/common/comparison.h"
#include "kernels/common/options.h"
#include "kernels/common/quantile.h"
#include "kernels/common/random_inputs.h"
#include "kernels/common/results.h"

namespace longhaul::kernels {
namespace {

const float nan = std::numeric_limits<float>::quiet_NaN();
const float infinity = std::numeric_limits<float>::infinity();

TEST_CASE("rounding to bfloat16 goes to the nearest, ties to even, and keeps NaN and infinity") {
  CHECK(to_float(to_bfloat16(1.0f)) == 1.0f);
  // Between 1 and 1 + 2^-7 lies the tie 1 + 2^-8: even is 1.
  CHECK(to_float(to_bfloat16(1.0f + 0x1p-8f)) == 1.0f);
  CHECK(to_float(to_bfloat16(1.0f + 0x1.8p-7f)) == 1.0f + 0x1p-6f);
  CHECK(to_float(to_bfloat16(1.0f + 0x1.01p-8f)) == 1.0f + 0x1p-7f);
  CHECK(to_float(to_bfloat16(-infinity)) == -infinity);
  CHECK(std::isnan(to_float(to_bfloat16(nan))));
  // The largest float rounds up, beyond the largest bfloat16.
  CHECK(to_float(to_bfloat16(std::numeric_limits<float>::max())) == infinity);
}

TEST_CASE("random inputs are normal, repeat with their seed and differ without it") {
  const auto values = random_normal(100000, 7, 2.0f);
  CHECK(values == random_normal(100000, 7, 2.0f));
  CHECK(values != random_normal(100000, 8, 2.0f));
  double sum = 0;
  double squares = 0;
  std::size_t within = 0;
  for (const float value : values) {
    sum += value;
    squares += static_cast<double>(value) * value;
    within += std::abs(value) < 2.0f;
  }
  // Mean within five standard errors; variance likewise; 68.3 % within one deviation.
  CHECK(std::abs(sum / 1e5) < 5 * 2 / std::sqrt(1e5));
  CHECK(std::abs(squares / 1e5 - 4) < 5 * 4 * std::sqrt(2 / 1e5));
  CHECK(std::abs(static_cast<double>(within) / 1e5 - 0.6827) < 5 * std::sqrt(0.22 / 1e5));
}

TEST_CASE("a difference sees the worst element, and NaN is wrong") {
  const Difference good = difference(std::vector<float>{1, 2, 3.5}, {1, 2, 3});
  CHECK(good.wrong == 0);
  CHECK(good.largest == 0.5);
  CHECK(good.worst == 2);
  CHECK_THAT(good.relative, Catch::Matchers::WithinRel(0.5 / std::sqrt(14.0), 1e-12));
  CHECK(passes("half off", good, 0.14, 0.5));
  CHECK_FALSE(passes("half off", good, 0.13, 0.5));
  CHECK_FALSE(passes("half off", good, 0.14, 0.4));
  const Difference poisoned = difference(std::vector<float>{1, nan, 3}, {1, 2, 3});
  CHECK(poisoned.wrong == 1);
  CHECK(poisoned.worst == 1);
  CHECK_FALSE(passes("poisoned", poisoned, 1e9, 1e9));
}

TEST_CASE("an infinite reference wants the same infinity") {
  const std::vector<double> reference = {-static_cast<double>(infinity), 1};
  CHECK(difference(std::vector<float>{-infinity, 1}, reference).wrong == 0);
  CHECK(difference(std::vector<float>{infinity, 1}, reference).wrong == 1);
  CHECK(difference(std::vector<float>{0, 1}, reference).wrong == 1);
  CHECK_THROWS(difference(std::vector<float>{}, std::vector<double>{}));
  CHECK_THROWS(difference(std::vector<float>{1}, reference));
}

TEST_CASE("division rounds up at every remainder but none") {
  CHECK(ceil_div(0, 128) == 0);
  CHECK(ceil_div(1, 128) == 1);
  CHECK(ceil_div(128, 128) == 1);
  CHECK(ceil_div(129, 128) == 2);
}

TEST_CASE("quantiles lie between the samples") {
  CHECK(quantile({5}, 0.9) == 5);
  CHECK(quantile({3, 1, 2}, 0.5) == 2);
  CHECK(quantile({1, 2}, 0.5) == 1.5);
  CHECK(quantile({4, 1, 3, 2}, 1.0) == 4);
}

TEST_CASE("the command line is read, and what is wrong with it is said") {
  const char* good[] = {"bench", "--seed", "42", "--out", "results", "--quick"};
  const Options options = read_options(6, good);
  CHECK(options.seed == 42);
  CHECK(options.out == "results");
  CHECK(options.quick);
  CHECK(options.command == "bench --seed 42 --out results --quick");
  const char* words[] = {"bench", "--seed", "4x"};
  CHECK_THROWS_WITH(read_options(3, words), Catch::Contains("'4x'"));
  CHECK_THROWS_WITH(read_options(2, words), Catch::Contains("--seed takes a value"));
  const char* unknown[] = {"bench", "--sneed"};
  CHECK_THROWS_WITH(read_options(2, unknown), Catch::Contains("'--sneed'"));
}

TEST_CASE("fields keep their order and their types in JSON") {
  const Fields fields = {{"op", std::string("copy \"x\"")},
                         {"size", std::int64_t{16}},
                         {"us", 1.5},
                         {"covered", true}};
  CHECK(to_json(fields) == R"({"op":"copy \"x\"","size":16,"us":1.5,"covered":true})");
}

TEST_CASE("results are lines with an id, beside their provenance; a second run is added") {
  const auto folder = std::filesystem::temp_directory_path() / "longhaul_results_test";
  std::filesystem::remove_all(folder);
  Options options;
  options.out = folder.string();
  options.command = "bench_copy";
  for (int run = 0; run < 2; ++run) {
    Results results(options, "copy", {{"gpu", std::string("none")}});
    results.write({{"op", std::string("copy")}}, {{"status", std::string("ok")}});
  }
  std::ifstream file(folder / "copy.jsonl");
  std::string line;
  std::size_t lines = 0;
  while (std::getline(file, line)) {
    ++lines;
    CHECK(line == R"({"section":"copy","op":"copy","id":"{\"op\":\"copy\",\"section\":\"copy\"}",)"
                  R"("status":"ok"})");
  }
  CHECK(lines == 2);
  std::ifstream provenance(folder / "provenance.json");
  const std::string text(std::istreambuf_iterator<char>(provenance), {});
  CHECK(text.find("bench_copy") != text.rfind("bench_copy"));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace longhaul::kernels
