// How mistakes are printed: sorted, underlined, counted, safe on a terminal.
#include "sim/input/diagnostic.h"

#include <catch2/catch.hpp>

using namespace longhaul;

namespace {

SourcePtr source(const std::string& name, const std::string& text) {
  return std::make_shared<const SourceText>(SourceText{name, text});
}

std::string print_one(const std::string& text, int line, int column, int length) {
  Diagnostics diagnostics;
  diagnostics.error({source("f.yaml", text), line, column, length}, "code", "wrong");
  return format_diagnostics(diagnostics, false);
}

}  // namespace

TEST_CASE("no diagnostics print nothing") {
  CHECK(format_diagnostics({}, false).empty());
  CHECK_NOTHROW(Diagnostics().throw_if_errors());
}

TEST_CASE("diagnostics come by file, then line, then column, with a count") {
  const SourcePtr a = source("a.yaml", "one\ntwo words\n");
  const SourcePtr b = source("b.yaml", "other\n");
  Diagnostics diagnostics;
  diagnostics.error({a, 2, 5, 5}, "c", "third");
  diagnostics.error({b, 1, 1, 5}, "c", "fourth", "do this");
  diagnostics.warning({a, 2, 1, 3}, "c", "second");
  diagnostics.note({a, 1, 1, 3}, "c", "first");
  CHECK(format_diagnostics(diagnostics, false) ==
        "a.yaml:1:1: note: first\n"
        "    1 | one\n"
        "      | ^~~\n"
        "a.yaml:2:1: warning: second\n"
        "    2 | two words\n"
        "      | ^~~\n"
        "a.yaml:2:5: error: third\n"
        "    2 | two words\n"
        "      |     ^~~~~\n"
        "b.yaml:1:1: error: fourth\n"
        "    1 | other\n"
        "      | ^~~~~\n"
        "      = help: do this\n"
        "2 errors and 1 warning in 2 files\n");
}

TEST_CASE("at most the limit is shown, and the rest is counted") {
  Diagnostics diagnostics;
  for (int i = 0; i < 5; ++i) {
    diagnostics.error({source("f.yaml", ""), 0, 0, 1}, "c", "wrong");
  }
  const std::string two = format_diagnostics(diagnostics, false, 2);
  CHECK(two == "f.yaml: error: wrong\nf.yaml: error: wrong\n... and 3 more\n5 errors in f.yaml\n");
  CHECK(format_diagnostics(diagnostics, false, 5).find("more") == std::string::npos);
}

TEST_CASE("a diagnostic without a place has no position and no caret") {
  Diagnostics diagnostics;
  diagnostics.error({}, "c", "wrong", "right");
  CHECK(format_diagnostics(diagnostics, false) == "error: wrong\n      = help: right\n1 error\n");
}

TEST_CASE("carets line up after tabs and after characters of several bytes") {
  CHECK(print_one("\tkey: 1", 1, 2, 3) ==
        "f.yaml:1:2: error: wrong\n    1 | \tkey: 1\n      | \t^~~\n1 error in f.yaml\n");
  // "µ" is two bytes and one character: the word starts at byte 7, character 6.
  CHECK(print_one("a: µs bad", 1, 8, 3) ==
        "f.yaml:1:8: error: wrong\n    1 | a: µs bad\n      |       ^~~\n1 error in f.yaml\n");
  CHECK(print_one("µµ", 1, 1, 4).find("      | ^~\n") != std::string::npos);
}

TEST_CASE("a caret may stand just behind the end of a line, and lines end in CR LF, too") {
  CHECK(print_one("ab\r\ncd\r\n", 1, 3, 1) ==
        "f.yaml:1:3: error: wrong\n    1 | ab\n      |   ^\n1 error in f.yaml\n");
  // Beyond the last line there is nothing to show, and nothing to crash on.
  CHECK(print_one("ab", 9, 9, 9) ==
        "f.yaml:9:9: error: wrong\n    9 | \n      | ^\n1 error in f.yaml\n");
}

TEST_CASE("of a very long line only the surroundings of the caret are shown") {
  const std::string line = std::string(500, 'a') + "HERE" + std::string(500, 'b');
  CHECK(print_one(line, 1, 501, 4) == "f.yaml:1:501: error: wrong\n    1 | ..." +
                                          std::string(60, 'a') + "HERE" + std::string(36, 'b') +
                                          "...\n      | " + std::string(63, ' ') +
                                          "^~~~\n1 error in f.yaml\n");
}

TEST_CASE("control characters of a file cannot reach the terminal") {
  CHECK(print_one("a\x1b[31m", 1, 1, 1).find('\x1b') == std::string::npos);
  Diagnostics diagnostics;
  diagnostics.error({source("f\x1b.yaml", ""), 0, 0, 1}, "c", "got 'x\ny\x1b'", "\x7f");
  CHECK(format_diagnostics(diagnostics, false) ==
        "f\\x1b.yaml: error: got 'x\\ny\\x1b'\n      = help: \\x7f\n1 error in f\\x1b.yaml\n");
}

TEST_CASE("colours are used only when asked for") {
  Diagnostics diagnostics;
  diagnostics.error({source("f.yaml", "x"), 1, 1, 1}, "c", "wrong");
  CHECK(format_diagnostics(diagnostics, true).find("\x1b[1;31merror: \x1b[0m") !=
        std::string::npos);
  CHECK(format_diagnostics(diagnostics, false).find('\x1b') == std::string::npos);
}

TEST_CASE("a stage throws everything at once if any of it is an error") {
  Diagnostics diagnostics;
  diagnostics.warning({}, "w", "careful");
  CHECK_NOTHROW(diagnostics.throw_if_errors());
  CHECK_FALSE(diagnostics.has_errors());
  diagnostics.error({}, "e", "wrong");
  try {
    diagnostics.throw_if_errors();
    FAIL("an error must be thrown");
  } catch (const InputError& error) {
    CHECK(error.diagnostics().all().size() == 2);
    CHECK(std::string(error.what()).find("1 error and 1 warning") != std::string::npos);
  }
}

TEST_CASE("appending diagnostics counts their errors, even to themselves") {
  Diagnostics a;
  a.error({}, "e", "wrong");
  Diagnostics b;
  b.append(a);
  CHECK(b.has_errors());
  b.append(b);
  CHECK(b.all().size() == 2);
}

TEST_CASE("the closest match is within a third of the word's length") {
  const std::vector<std::string> words{"memory", "bandwidth", "latency", "gpus"};
  CHECK(closest_match("memroy", words) == "memory");  // neighbours swapped: one step
  CHECK(closest_match("bandwith", words) == "bandwidth");
  CHECK(closest_match("Latency", words) == "latency");  // case costs nothing
  CHECK(closest_match("gpu", words) == "gpus");         // one step in three letters
  CHECK(closest_match("memo", words).empty());          // two steps in four letters
  CHECK(closest_match("", words).empty());
  CHECK(closest_match("tp", {"tq"}).empty());  // one step in two letters is too much
  CHECK(closest_match(std::string(1000, 'x'), words).empty());
}

TEST_CASE("of two equally close words the first is suggested") {
  CHECK(closest_match("aaab", {"aaac", "aaad"}) == "aaac");
  CHECK(closest_match("aaad", {"aaac", "aaad"}) == "aaad");
}
