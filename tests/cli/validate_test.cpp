// longhaul validate on sweeps: logs of nccl-tests and longhaul-sweep/1, as users call it.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "tests/cli/run_longhaul.h"

using Catch::Matchers::Contains;
using longhaul::test::run;
using longhaul::test::Said;

namespace {

/// A file that goes away with the test.
class Scratch {
 public:
  Scratch(const std::string& name, const std::string& text)
      : path_((std::filesystem::temp_directory_path() / ("longhaul_cli_" + name)).string()) {
    std::ofstream(path_, std::ios::binary) << text;
  }
  ~Scratch() { std::filesystem::remove(path_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// An all-gather of two ranks on each of two hosts: 3/4 of algbw is busbw.
const std::string log_text =
    "mpirun -np 4 ./build/all_gather_perf -b 16M -e 64M -f 2\n"
    "# Using devices\n"
    "#  Rank  0 Group  0 Pid 1 on alpha device  0 [0x18] NVIDIA H100 80GB HBM3\n"
    "#  Rank  1 Group  0 Pid 2 on alpha device  1 [0x2a] NVIDIA H100 80GB HBM3\n"
    "#  Rank  2 Group  0 Pid 3 on beta device  0 [0x18] NVIDIA H100 80GB HBM3\n"
    "#  Rank  3 Group  0 Pid 4 on beta device  1 [0x2a] NVIDIA H100 80GB HBM3\n"
    "#  size  count  type  redop  root  time  algbw  busbw #wrong  time  algbw  busbw #wrong\n"
    "  16777216 1048576 float none -1  200.0 83.89 62.91 0  200.0 83.89 62.91 0\n"
    "  33554432 2097152 float none -1  400.0 83.89 62.91 0  400.0 83.89 62.91 0\n"
    "  67108864 4194304 float none -1  800.0 83.89 62.91 0  800.0 83.89 62.91 0\n";

}  // namespace

TEST_CASE("a log over two nodes is skipped with the remedy, and scored once a cluster is given") {
  const Scratch log("all_gather.log", log_text);
  const Said alone = run("validate " + log.path());
  CHECK(alone.exit_code == 0);
  CHECK_THAT(alone.out, Contains("nothing says what joins its nodes: give --cluster"));
  const Said given = run("validate --cluster dgx-h100 --json --half " + log.path());
  CHECK(given.exit_code == 0);
  CHECK_THAT(given.out, Contains("\"collective\": \"all_gather\""));
  CHECK_THAT(given.out, Contains("\"scope\": \"several nodes\""));
  CHECK_THAT(given.out, Contains("\"measured\": 2e-04"));
  CHECK_THAT(given.out, Contains("\"sweep_half_summary\""));
}

TEST_CASE("errors beyond the tolerance are an answer of no; an unknown cluster is bad input") {
  const Scratch log("tolerance.log", log_text);
  CHECK(run("validate --cluster dgx-h100 --tolerance 1 " + log.path()).exit_code == 1);
  CHECK(run("validate --cluster dgx-h100 --tolerance 900 " + log.path()).exit_code == 0);
  const Said unknown = run("validate --cluster dgx-h10 " + log.path());
  CHECK(unknown.exit_code == 2);
  CHECK_THAT(unknown.err, Contains("no cluster is called 'dgx-h10'"));
}

TEST_CASE("an invented log is named as such, and nothing is scored") {
  std::string text = log_text;
  for (std::size_t at = text.find("83.89"); at != std::string::npos; at = text.find("83.89")) {
    text.replace(at, 5, "93.89");
  }
  const Scratch log("invented.log", text);
  const Said said = run("validate --cluster dgx-h100 " + log.path());
  CHECK_THAT(said.out, Contains("busbw / algbw is 0.670, but all_gather on 4 ranks has 0.750"));
  CHECK_THAT(said.out, Contains("none could be predicted"));
}
