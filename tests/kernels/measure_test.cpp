// scripts/measure_kernels.sh, with programs that stand for checks and benches.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <catch2/catch.hpp>

namespace longhaul::kernels {
namespace {

namespace fs = std::filesystem;

// A build folder and a folder for results, gone afterwards.
class Machine {
 public:
  Machine() : root_(fs::temp_directory_path() / "longhaul_measure_test") {
    fs::remove_all(root_);
    fs::create_directories(root_ / "build/kernels");
  }
  ~Machine() { fs::remove_all(root_); }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  void add_program(const std::string& name, const std::string& body) const {
    const fs::path path = root_ / "build/kernels" / name;
    std::ofstream(path) << "#!/bin/sh\n" << body << '\n';
    fs::permissions(path, fs::perms::owner_all);
  }
  // A kernel whose check passes and whose bench writes one line.
  void add_kernel(const std::string& name) const {
    add_program("check_" + name, "echo ok");
    add_program("bench_" + name,
                "echo '{\"section\":\"" + name + "\"}' >\"$2/" + name + ".jsonl\"; "
                "echo run >>\"$2/provenance.json\"");
  }
  int measure() const {
    const std::string command = std::string(LONGHAUL_SOURCE_DIR) + "/scripts/measure_kernels.sh " +
                                (root_ / "build").string() + " " + (root_ / "out").string() +
                                " >/dev/null 2>&1";
    return WEXITSTATUS(std::system(command.c_str()));
  }
  std::string result(const std::string& file) const {
    std::ifstream stream(root_ / "out" / file);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

 private:
  fs::path root_;
};

TEST_CASE("every kernel is checked and measured, into one file with its provenance") {
  const Machine machine;
  machine.add_kernel("copy");
  machine.add_kernel("rope");
  CHECK(machine.measure() == 0);
  CHECK(machine.result("kernels.jsonl") == "{\"section\":\"copy\"}\n{\"section\":\"rope\"}\n");
  CHECK(machine.result("provenance.json") == "run\nrun\n");
}

TEST_CASE("a kernel whose check fails is not measured; the others are, and the answer is no") {
  const Machine machine;
  machine.add_kernel("copy");
  machine.add_kernel("rope");
  machine.add_program("check_copy", "echo FAILED; exit 1");
  CHECK(machine.measure() == 1);
  CHECK(machine.result("kernels.jsonl") == "{\"section\":\"rope\"}\n");
  CHECK(machine.result("checks.txt").find("FAILED") != std::string::npos);
}

TEST_CASE("after an interruption what was finished is kept, and what was not is measured again") {
  const Machine machine;
  machine.add_kernel("copy");
  machine.add_kernel("rope");
  machine.add_program("bench_rope", "echo half >\"$2/rope.jsonl\"; exit 130");
  CHECK(machine.measure() == 130);
  CHECK(machine.result("kernels.jsonl") == "{\"section\":\"copy\"}\n");
  machine.add_kernel("rope");
  machine.add_program("bench_copy", "exit 1");  // would fail if it ran again
  CHECK(machine.measure() == 0);
  CHECK(machine.result("kernels.jsonl") == "{\"section\":\"copy\"}\n{\"section\":\"rope\"}\n");
}

TEST_CASE("without a GPU nothing is measured, and the exit code says what is missing") {
  const Machine machine;
  machine.add_kernel("copy");
  machine.add_program("check_copy", "echo 'waived: no CUDA device'");
  CHECK(machine.measure() == 3);
  CHECK(machine.result("kernels.jsonl").empty());
}

}  // namespace
}  // namespace longhaul::kernels
