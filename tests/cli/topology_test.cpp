// longhaul topology: show, check and import as users call them.
#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/cli/run_longhaul.h"

using Catch::Matchers::Contains;
using longhaul::test::read_file;
using longhaul::test::run;
using longhaul::test::Said;

namespace {

const std::string machines = "tests/sim/topology/machines/";

/// A path for a file that goes away with the test.
class Scratch {
 public:
  explicit Scratch(const std::string& name)
      : path_((std::filesystem::temp_directory_path() / ("longhaul_cli_" + name)).string()) {}
  ~Scratch() { std::filesystem::remove(path_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE("an import is a cluster file, which imported again stays as it is") {
  const Scratch first("first.yaml");
  const Scratch second("second.yaml");
  const Said said =
      run("topology import " + machines + "four_hoppers.xml --name ours -o " + first.path());
  CHECK(said.exit_code == 0);
  CHECK(run("topology import " + first.path() + " -o " + second.path()).exit_code == 0);
  CHECK_FALSE(read_file(first.path()).empty());
  CHECK(read_file(first.path()) == read_file(second.path()));
  CHECK_THAT(run("topology show " + first.path()).out, Contains("ours: 4 GPUs, NVIDIA H100"));
  CHECK_THAT(run("topology show " + first.path() + " --from 0 --to 3").out,
             Contains("GPU 0 to GPU 3: NV18 (NVLink)"));
}

TEST_CASE("an imported file can be predicted on") {
  const Scratch file("predict.yaml");
  CHECK(run("topology import " + machines + "four_hoppers.xml -o " + file.path()).exit_code == 0);
  CHECK(run("predict llama3-8b " + file.path() +
            " --gpus 4 --seq 32k --method ring --zero 3 --recompute full")
            .exit_code == 0);
}

TEST_CASE("what the file does not say is warned of, on standard error") {
  const Said said = run("topology import " + machines + "tree_only.xml --device a100-sxm-80gb");
  CHECK(said.exit_code == 0);
  CHECK_THAT(said.err, Contains("the file does not show NVLink"));
  CHECK_THAT(said.out, Contains("wiring: none  # guessed"));
}

TEST_CASE("a file of another kind is refused with the command that takes it") {
  const Said log = run("topology import -", "printf '# nThread 1 nGpus 8 minBytes 8\\n' |");
  CHECK(log.exit_code == 2);
  CHECK_THAT(log.err, Contains("longhaul validate - --cluster CLUSTER"));
  const Said graph = run("topology import -", "printf '<graphs version=\"1\"></graphs>\\n' |");
  CHECK(graph.exit_code == 2);
  CHECK_THAT(graph.err, Contains("NCCL_GRAPH_DUMP_FILE"));
  const Said other = run("topology import README.md");
  CHECK(other.exit_code == 2);
  CHECK_THAT(other.err, Contains("no topology that longhaul knows"));
  CHECK(run("topology import no_such_file.xml").exit_code == 2);
}

TEST_CASE("check is content with a sound cluster, says what is odd, and lists every mistake") {
  CHECK(run("topology check dgx-h100 --gpus 32").exit_code == 0);
  const Said odd = run("topology check l40s-pcie");
  CHECK(odd.exit_code == 1);
  CHECK_THAT(odd.out, Contains("shared-nic: up to 2 GPUs share a NIC"));
  const Said wrong = run("topology check dgx-h10 dgx-h100 aws-p6");
  CHECK(wrong.exit_code == 2);
  CHECK_THAT(wrong.err, Contains("no cluster is called 'dgx-h10'") &&
                            Contains("no cluster is called 'aws-p6'"));
  const Said machine = run("topology check " + machines + "bridged_pairs.xml");
  CHECK(machine.exit_code == 1);
  CHECK_THAT(machine.out, Contains("no-peer-access: 4 of 6 pairs"));
}

TEST_CASE("wrong words and flags of topology are answered") {
  CHECK_THAT(run("topology shwo dgx-h100").err, Contains("did you mean 'show'?"));
  CHECK_THAT(run("topology show").err, Contains("topology show takes one cluster"));
  CHECK_THAT(run("topology show dgx-h100 --device h200").err,
             Contains("topology show has no flag '--device'"));
  CHECK_THAT(run("topology show dgx-h100 --from 0").err, Contains("a path needs --from"));
  CHECK_THAT(run("topology show dgx-h100 --from 0 --to 8").err,
             Contains("the cluster has GPUs 0 to 7"));
  CHECK_THAT(run("topology import x.xml --nic-rate 400").err, Contains("--nic-rate wants a rate"));
  CHECK(run("topology show dgx-h100 --gpus 100000 --dot").exit_code == 2);
}

TEST_CASE("show --json holds the facts, not only the words") {
  const std::string out = run("topology show dgx-h100 --gpus 16 --json").out;
  for (const char* key : {"\"links_by_kind\"", "\"matrix_of_node\"", "\"bisection\"",
                          "\"all_links\"", "\"gpus_per_switch\"", "\"path\": \"NV18\""}) {
    CHECK_THAT(out, Contains(key));
  }
  CHECK_THAT(run("topology show dgx-h100 --gpus 16 --from 1 --to 9 --json").out,
             Contains("\"path\": \"NET\""));
}

TEST_CASE("a million GPUs are shown within a small machine's memory") {
  // 2 GiB of address space: what is needed is 1.3 GiB.
  const Said said = run("topology show dgx-h100 --gpus 1000000", "ulimit -v 2097152;");
  CHECK(said.exit_code == 0);
  CHECK_THAT(said.out, Contains("1000000 GPUs"));
}
