// The reader of yardstick's results. All lines here are made by hand to have round numbers: the format
// is yardstick's, the times are no measurements of anything.
#include "calibrate/fit/read_yardstick.h"

#include <catch2/catch.hpp>

using namespace longhaul;
using Catch::Matchers::WithinRel;

namespace {

SourcePtr file_of(const std::string& text) {
  return std::make_shared<const SourceText>(SourceText{"made_by_hand.jsonl", text});
}

// A line with the fields that every point has around its own.
std::string line(const std::string& fields, const std::string& outcome) {
  return "{\"section\": \"made\", " + fields + ", \"note\": \"made by hand\", " + outcome + "}\n";
}

std::string ok(double us, const std::string& more = "") {
  return "\"status\": \"ok\", \"value_us_median\": " + std::to_string(us) +
         ", \"rotating_sets\": 3, \"bytes\": 1000000000, \"verified\": true" + more;
}

std::string gemm(const std::string& op, const std::string& dtype, const std::string& state) {
  return "\"op\": \"" + op + "\", \"m\": 4096, \"n\": 6144, \"k\": 512, \"dtype\": \"" + dtype +
         "\", \"backend\": \"cublaslt\", \"state\": \"" + state + "\", \"id\": \"" + op + " " + dtype +
         " \\\"" + state + "\\\"\"";
}

std::string attention(const std::string& op, const std::string& mask, int q, int kv) {
  return "\"op\": \"" + op + "\", \"batch\": 2, \"heads\": 32, \"kv_heads\": 8, \"q_len\": " +
         std::to_string(q) + ", \"kv_len\": " + std::to_string(kv) +
         ", \"head_dim\": 128, \"mask\": \"" + mask +
         "\", \"dtype\": \"bf16\", \"backend\": \"cudnn\", \"state\": \"as_found\", \"id\": \"a\"";
}

std::vector<GemmRow> gemm_rows(const std::string& text, LeftOut& left_out, Diagnostics& diagnostics) {
  return read_yardstick_gemm(file_of(text), {"cublaslt", "as_found", Bytes::of(6e7)}, left_out,
                             diagnostics);
}

// The only error that a text makes: code, line.
std::pair<std::string, int> error_of_text(const std::string& text) {
  LeftOut left_out;
  Diagnostics diagnostics;
  gemm_rows(text, left_out, diagnostics);
  REQUIRE(diagnostics.all().size() == 1);
  const Diagnostic& only = diagnostics.all().front();
  return {only.code, only.place.line};
}

}  // namespace

TEST_CASE("products of the three passes become the shapes that the library multiplies") {
  // y[m,n] = x[m,k] w[n,k]^T sums over k; dx[m,k] = dy w over n; dw[n,k] = dy^T x over m.
  LeftOut left_out;
  Diagnostics diagnostics;
  const auto rows = gemm_rows(line(gemm("gemm_forward", "bf16", "as_found"), ok(50.0)) +
                                  line(gemm("gemm_dgrad", "bf16", "as_found"), ok(60.0)) +
                                  line(gemm("gemm_wgrad", "bf16", "as_found"), ok(70.0)),
                              left_out, diagnostics);
  CHECK_FALSE(diagnostics.has_errors());
  CHECK(left_out.empty());
  REQUIRE(rows.size() == 3);
  const auto sizes = [&](std::size_t i) {
    return std::array{rows[i].shape.m, rows[i].shape.n, rows[i].shape.k};
  };
  CHECK(sizes(0) == std::array<std::int64_t, 3>{4096, 6144, 512});
  CHECK(sizes(1) == std::array<std::int64_t, 3>{4096, 512, 6144});
  CHECK(sizes(2) == std::array<std::int64_t, 3>{6144, 512, 4096});
  CHECK_THAT(rows[2].seconds, WithinRel(70e-6, 1e-9));
}

TEST_CASE("what failed, ran at other clocks, was not verified or stayed in the cache is left out") {
  const std::string bf16 = gemm("gemm_forward", "bf16", "as_found");
  const std::string small = "\"status\": \"ok\", \"value_us_median\": 5, \"rotating_sets\": 8, "
                            "\"bytes\": 1000000, \"verified\": true";
  const std::string wrong = "\"status\": \"ok\", \"value_us_median\": 5, \"rotating_sets\": 3, "
                            "\"bytes\": 1000000000, \"verified\": false";
  LeftOut left_out;
  Diagnostics diagnostics;
  const auto rows = gemm_rows(
      line(bf16, "\"status\": \"out_of_memory\", \"error\": \"CUDA out of memory\"") +
          line(bf16, "\"status\": \"timeout\", \"limit_s\": 75") +
          line(gemm("gemm_forward", "bf16", "hot"), ok(55.0)) + line(bf16, small) +
          line(bf16, wrong) + line(gemm("gemm_forward", "fp8", "as_found"), ok(30.0)) +
          line("\"op\": \"gemm_trace\", \"dtype\": \"bf16\", \"backend\": \"cublaslt\", \"m\": 1",
               ok(60.0)),
      left_out, diagnostics);
  CHECK_FALSE(diagnostics.has_errors());
  CHECK(rows.empty());
  const LeftOut expected = {{"status out_of_memory", 1}, {"status timeout", 1}, {"clocks hot", 1},
                            {"fits the L2 cache", 1},    {"not verified", 1},   {"gemm_trace", 1},
                            {"fp8 without quantising", 1}};
  CHECK(left_out == expected);
}

TEST_CASE("attention keeps its mask, its pass, and the kv heads that the kernel really had") {
  LeftOut left_out;
  Diagnostics diagnostics;
  const auto rows = read_yardstick_attention(
      file_of(line(attention("attention_forward", "causal", 8192, 8192),
                   ok(900.0, ", \"gqa\": \"native\"")) +
              line(attention("attention_backward", "full", 4096, 8192),
                   ok(1500.0, ", \"gqa\": \"expanded\"")) +
              line("\"op\": \"power_trace\", \"load\": \"attention\", \"backend\": \"cudnn\"",
                   ok(900.0))),
      {"cudnn", "as_found", Bytes()}, left_out, diagnostics);
  CHECK_FALSE(diagnostics.has_errors());
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].shape.band.upper == 0);
  CHECK_FALSE(rows[0].shape.backward);
  CHECK(rows[0].shape.kv_heads == 8);
  CHECK_FALSE(rows[0].paged_cache);
  CHECK_FALSE(rows[1].shape.band.upper.has_value());
  CHECK(rows[1].shape.backward);
  CHECK(rows[1].shape.kv_heads == 32);
  CHECK(rows[1].shape.queries == 4096);
  CHECK(rows[1].shape.keys == 8192);
  CHECK(left_out == LeftOut{{"power_trace", 1}});
}

TEST_CASE("of our own kernels' points, those are read that the fit has a form for") {
  LeftOut left_out;
  Diagnostics diagnostics;
  const auto joining = ok(900.0, ", \"joins\": true");
  std::string fp8 = attention("attention_forward", "full", 4096, 4096);
  fp8.replace(fp8.find("bf16"), 4, "e4m3");
  const auto rows = read_yardstick_attention(
      file_of(line(attention("attention_forward", "full", 4096, 4096),
                   ok(500.0, ", \"joins\": false")) +
              line(attention("attention_forward", "full", 4096, 4096), joining) +
              line(attention("attention_forward", "zigzag, earlier rank", 4096, 4096), ok(500.0)) +
              line(fp8, ok(300.0))),
      {"cudnn", "as_found", Bytes()}, left_out, diagnostics);
  CHECK_FALSE(diagnostics.has_errors());
  CHECK(rows.size() == 1);
  CHECK(left_out == LeftOut{{"attention_forward of e4m3", 1},
                            {"joined with a running result", 1},
                            {"mask zigzag, earlier rank", 1}});
}

TEST_CASE("operators bound by memory are streams of their bytes, forward only") {
  const auto fields = [](const std::string& op, const std::string& way) {
    return "\"op\": \"" + op + "\", \"way\": \"" + way +
           "\", \"tokens\": 16384, \"hidden\": 4096, \"dtype\": \"bf16\", \"backend\": \"eager\"";
  };
  const std::string text = line(fields("residual_add", "forward"), ok(400.0)) +
                           line(fields("rms_norm", "forward"), ok(300.0)) +
                           line(fields("rms_norm", "backward"), ok(500.0)) +
                           line("\"op\": \"cross_entropy\", \"way\": \"forward\", \"tokens\": 8192, "
                                "\"vocabulary\": 32000, \"backend\": \"eager\"",
                                ok(700.0));
  Diagnostics diagnostics;
  LeftOut all_left_out;
  const YardstickChoice choice{"eager", "as_found", Bytes()};
  CHECK(read_yardstick_streams(file_of(text), "", choice, all_left_out, diagnostics).size() == 2);
  LeftOut left_out;
  const auto rows = read_yardstick_streams(file_of(text), "rms_norm", choice, left_out, diagnostics);
  CHECK_FALSE(diagnostics.has_errors());
  REQUIRE(rows.size() == 1);
  CHECK(rows[0].width == 4096.0);
  CHECK(rows[0].bytes == 1e9);
  CHECK(left_out == LeftOut{{"residual_add", 1}, {"backward", 1}, {"cross_entropy", 1}});
}

TEST_CASE("the best of every ceiling is told in its own unit") {
  const std::string outcome = "\"status\": \"ok\", \"value_us_median\": ";
  const std::string text =
      line("\"op\": \"copy_device\", \"size_bytes\": 1", outcome + "1000, \"bytes\": 2e9") +
      line("\"op\": \"copy_device\", \"size_bytes\": 2", outcome + "500, \"bytes\": 2e9") +
      line("\"op\": \"gemm\", \"data\": \"randn\"", outcome + "1000, \"flops\": 7e11, \"bytes\": 1") +
      line("\"op\": \"launch\", \"kernel\": \"empty_kernel\"", outcome + "1.9") +
      line("\"op\": \"host_copy\", \"way\": \"h2d\", \"memory\": \"pinned\"",
           "\"status\": \"unsupported\", \"error\": \"no GPU\"");
  LeftOut left_out;
  Diagnostics diagnostics;
  const auto lines = best_ceilings(read_yardstick_ceilings(file_of(text), left_out, diagnostics));
  CHECK_FALSE(diagnostics.has_errors());
  CHECK(lines == std::vector<std::string>{"copy_device 4000 GB/s", "gemm randn 700.0 TFLOP/s",
                                          "launch empty_kernel 1.90 us"});
  CHECK(left_out == LeftOut{{"status unsupported", 1}});
}

TEST_CASE("hot clocks keep the share that points measured at both clocks show") {
  // 50 us as found and 55 hot, 60 and 66: 0.909 of the speed. The third has no partner.
  Diagnostics diagnostics;
  const auto share = hot_share(file_of(line(gemm("gemm_forward", "bf16", "as_found"), ok(50.0)) +
                                       line(gemm("gemm_forward", "bf16", "hot"), ok(55.0)) +
                                       line(gemm("gemm_dgrad", "bf16", "hot"), ok(66.0)) +
                                       line(gemm("gemm_dgrad", "bf16", "as_found"), ok(60.0)) +
                                       line(gemm("gemm_wgrad", "bf16", "hot"), ok(70.0))),
                               diagnostics);
  REQUIRE(share);
  CHECK(share->points == 2);
  CHECK_THAT(share->share, WithinRel(50.0 / 55.0, 1e-6));
  CHECK_FALSE(hot_share(file_of(line(gemm("gemm_wgrad", "bf16", "hot"), ok(70.0))), diagnostics));
}

TEST_CASE("mistakes in a file of results name their line; a torn last line is left out") {
  const std::string good = line(gemm("gemm_forward", "bf16", "as_found"), ok(50.0));
  CHECK(error_of_text(good + "no JSON\n" + good).second == 2);
  CHECK(error_of_text(good + good + "[1, 2]\n") == std::pair<std::string, int>{"not-an-object", 3});
  CHECK(error_of_text(good + "\n" + line("\"op\": \"gemm_forward\"", "\"note2\": 1")).second == 3);
  CHECK(error_of_text(line(gemm("gemm_forward", "bf16", "as_found"),
                           "\"status\": \"ok\", \"value_us_median\": \"fast\""))
            .second == 1);
  CHECK(error_of_text(line(gemm("gemm_forward", "bf16", "as_found"),
                           "\"status\": \"ok\", \"value_us_median\": 0"))
            .second == 1);
  LeftOut left_out;
  Diagnostics diagnostics;
  CHECK(gemm_rows(good + good.substr(0, 60), left_out, diagnostics).size() == 1);
  CHECK_FALSE(diagnostics.has_errors());
  CHECK(left_out == LeftOut{{"torn line", 1}});
}
