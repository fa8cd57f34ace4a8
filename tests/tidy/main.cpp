// tidy ROOT ROOMS: checks the source tree at ROOT against the rules of the house; ROOMS is the
// rooms.txt of a build folder. Prints findings as compilers do. Exit 0: none; 1: some; 2: usage.
#include <exception>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include "tests/tidy/rules.h"

namespace {

int tidy(const char* root, const char* rooms_path) {
  using namespace longhaul::tidy;
  std::ifstream stream(rooms_path);
  const std::string rooms_text(std::istreambuf_iterator<char>(stream), {});
  const Rooms rooms = parse_rooms(rooms_text);
  if (rooms.names.empty()) {
    fmt::print(stderr, "tidy: no rooms in {}\n", rooms_path);
    return 2;
  }
  const Tree tree = read_tree(root);
  const std::vector<Finding> findings = check_all(tree, rooms);
  fmt::print("{}tidy: {} files, {} rooms, {} findings\n", print_findings(findings), tree.size(),
             rooms.names.size(), findings.size());
  return findings.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: tidy ROOT ROOMS\n");
    return 2;
  }
  try {
    return tidy(argv[1], argv[2]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "tidy: {}\n", error.what());
    return 2;
  }
}
