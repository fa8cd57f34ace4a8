// Wrong topologies and the exact words about them: each topology/NAME.{xml,txt,yaml} is imported or
// read as a cluster, and what is printed must be topology/NAME.EXTENSION.expected. With
// LONGHAUL_UPDATE_EXPECTED set, the expected words are written instead; read them before
// committing.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "sim/input/yaml.h"
#include "sim/topology/import.h"
#include "sim/topology/read_cluster.h"
#include "tests/bad_input/expected_words.h"

using namespace longhaul;
using test::content;
namespace fs = std::filesystem;

namespace {

const fs::path folder = fs::path(LONGHAUL_SOURCE_DIR) / "tests" / "bad_input" / "topology";

/// What a user would see; the folder's name is taken out of it.
std::string answer_to(const fs::path& path, bool& accepted) {
  Diagnostics diagnostics;
  const auto source = read_source(path.string(), diagnostics);
  REQUIRE(source);
  if (path.extension() == ".yaml") {
    const auto map = YamlValue::parse(*source, diagnostics);
    accepted = map && read_cluster(*map, {}, diagnostics).has_value();
  } else {
    accepted =
        import_topology(*source, detect_topology_format(**source), {}, diagnostics).has_value();
  }
  return test::without_folder(format_diagnostics(diagnostics, false), folder);
}

}  // namespace

TEST_CASE("each wrong topology is answered with exactly the expected words, and refused") {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".expected") {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  REQUIRE(files.size() >= 14);
  for (const fs::path& file : files) {
    INFO(file.filename().string());
    bool accepted = true;
    const std::string words = answer_to(file, accepted);
    CHECK_FALSE(accepted);
    const fs::path expected = file.string() + ".expected";
    if (std::getenv("LONGHAUL_UPDATE_EXPECTED") != nullptr) {
      std::ofstream(expected) << words;
    }
    CHECK_FALSE(words.empty());
    CHECK(words == content(expected));
  }
}
