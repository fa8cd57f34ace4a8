// Did a number move? Every example gives exactly the JSON that is kept here. Update with
// scripts/update_golden.sh and say in CHANGELOG.md why a prediction changed.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/cli/run_longhaul.h"

TEST_CASE("every example predicts exactly what its golden file says") {
  const std::filesystem::path root(LONGHAUL_SOURCE_DIR);
  std::size_t examples = 0;
  for (const auto& entry : std::filesystem::directory_iterator(root / "examples")) {
    if (entry.path().extension() != ".yaml") {
      continue;
    }
    ++examples;
    const std::string name = entry.path().stem().string();
    const auto said = longhaul::test::run("predict examples/" + name + ".yaml --json");
    INFO(name);
    CHECK((said.exit_code == 0 || said.exit_code == 1));
    CHECK(said.out ==
          longhaul::test::read_file((root / "tests" / "golden" / (name + ".json")).string()));
  }
  CHECK(examples >= 4);
}
