// Wrong scenarios and the exact words about them: each scenario/NAME.yaml is read and checked, and
// what is printed must be scenario/NAME.expected. With LONGHAUL_UPDATE_EXPECTED set, the expected
// words are written instead; read them before committing.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "sim/scenario/read_scenario.h"
#include "tests/bad_input/expected_words.h"

using namespace longhaul;
using test::content;
namespace fs = std::filesystem;

namespace {

const fs::path folder = fs::path(LONGHAUL_SOURCE_DIR) / "tests" / "bad_input" / "scenario";

struct Answer {
  std::string words;
  bool accepted = false;
};

Answer answer_to(const fs::path& path) {
  Diagnostics diagnostics;
  Answer answer;
  if (const auto source = read_source(path.string(), diagnostics)) {
    if (const auto map = YamlValue::parse(*source, diagnostics)) {
      const ScenarioDraft draft = read_scenario(*map, diagnostics);
      answer.accepted = check_scenario(draft, diagnostics).has_value();
    }
  }
  answer.accepted &= !diagnostics.has_errors();
  answer.words = test::without_folder(format_diagnostics(diagnostics, false), folder);
  return answer;
}

}  // namespace

TEST_CASE("each wrong scenario is refused with exactly the expected words") {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".yaml") {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  REQUIRE(files.size() >= 20);
  for (const fs::path& file : files) {
    INFO(file.filename().string());
    const Answer answer = answer_to(file);
    CHECK_FALSE(answer.accepted);
    const fs::path expected = fs::path(file).replace_extension(".expected");
    if (std::getenv("LONGHAUL_UPDATE_EXPECTED") != nullptr) {
      std::ofstream(expected, std::ios::binary) << answer.words;
    }
    CHECK_FALSE(content(expected).empty());
    CHECK(answer.words == content(expected));
  }
}
