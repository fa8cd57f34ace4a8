// Colours: on a terminal, unless the user says otherwise (no-color.org).
#include <catch2/catch.hpp>

#include "tests/cli/terminal.h"

using longhaul::test::run_on_terminal;

namespace {

const std::string good = "predict examples/ring-attention-only.yaml";
const std::string bad = "predict llama3-8b dgx-h100 --gpsu 8";

bool coloured(const std::string& text) { return text.find("\x1b[") != std::string::npos; }

}  // namespace

TEST_CASE("on a terminal results and complaints are coloured") {
  const std::string result = run_on_terminal(good, "NO_COLOR=");
  REQUIRE(result.find("step time") != std::string::npos);
  CHECK(coloured(result));
  CHECK(coloured(run_on_terminal(bad, "NO_COLOR=")));
}

TEST_CASE("NO_COLOR, a dumb terminal and --json bring no colours") {
  for (const std::string& arguments : {good, bad}) {
    const std::string plain = run_on_terminal(arguments, "NO_COLOR=1");
    CHECK(plain.size() > 50);
    CHECK_FALSE(coloured(plain));
    CHECK_FALSE(coloured(run_on_terminal(arguments, "NO_COLOR= TERM=dumb")));
    CHECK_FALSE(coloured(run_on_terminal(arguments + " --json", "NO_COLOR=")));
  }
}
