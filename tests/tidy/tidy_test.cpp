// Every rule of tests/tidy is shown a small tree with one planted fault, and the same tree without.
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "tests/tidy/rules.h"

namespace {

using namespace longhaul::tidy;
namespace fs = std::filesystem;
using Files = std::map<std::string, std::string>;

// A folder that goes away with the test.
class TemporaryTree {
 public:
  explicit TemporaryTree(const Files& files)
      : root_(fs::temp_directory_path() / ("longhaul_tidy_" + std::to_string(getpid()))) {
    fs::remove_all(root_);
    for (const auto& [path, text] : files) {
      fs::create_directories((root_ / path).parent_path());
      std::ofstream(root_ / path, std::ios::binary) << text;
    }
  }
  ~TemporaryTree() { fs::remove_all(root_); }
  TemporaryTree(const TemporaryTree&) = delete;
  TemporaryTree& operator=(const TemporaryTree&) = delete;
  [[nodiscard]] Tree read() const { return read_tree(root_); }

 private:
  fs::path root_;
};

constexpr const char* rooms_text = "units: \ninput: units\ncost: units input\nengine: units cost\n";

// What tidy prints about a tree of these files.
std::string tidy(const Files& files) {
  const TemporaryTree tree(files);
  return print_findings(check_all(tree.read(), parse_rooms(rooms_text)));
}

// A tree in which every rule is kept; tests plant a fault in it.
Files clean() {
  return {
      {"README.md", "# longhaul\n\n## Use\n```sh\n# a comment, not a title\n```\n"},
      {"sim/CMakeLists.txt",
       "sim_room(units SOURCES parse.cpp)\n"
       "sim_room(input SOURCES yaml.cpp\n  USES units)\n"
       "add_library(more cost/kernel.cpp)  # cost/old.cpp\n"},
      {"sim/units/parse.h", "int parse();\n"},
      {"sim/units/parse.cpp", "#include \"sim/units/parse.h\"\nint parse() { return 1; }\n"},
      {"sim/input/yaml.h", "int read_yaml();\n"},
      {"sim/input/yaml.cpp",
       "#include <yaml-cpp/yaml.h>\n"
       "#include \"sim/input/yaml.h\"\n"
       "#include \"sim/units/parse.h\"\n"},
      {"sim/cost/kernel.cpp", "#include \"sim/units/parse.h\"\n#include \"sim/input/yaml.h\"\n"},
  };
}

Files clean_with(const std::string& path, const std::string& text) {
  Files files = clean();
  files[path] = text;
  return files;
}

std::string repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

// Findings on one C++ file alone, by the rule on the length of functions.
std::string function_findings(const std::string& text) {
  const TemporaryTree tree(Files{{"a.cpp", text}});
  return print_findings(check_function_length(tree.read()));
}

// `head` + " {", n - 2 statements, "}": n lines.
std::string function_of_lines(const std::string& head, int lines) {
  return head + " {\n" + repeated("  work();\n", lines - 2) + "}\n";
}

}  // namespace

TEST_CASE("a tree that keeps the rules has no findings") { CHECK(tidy(clean()).empty()); }

// ---- rooms

TEST_CASE("a room that includes a room outside its USES list is reported at the line") {
  const auto found = tidy(clean_with("sim/units/parse.cpp",
                                     "#include \"sim/units/parse.h\"\n"
                                     "#include \"sim/input/yaml.h\"\n"));
  CHECK(found ==
        "sim/units/parse.cpp:2: error: room units includes sim/input/yaml.h, but input is not in "
        "its USES list (sim/CMakeLists.txt)\n");
}

TEST_CASE("USES is not transitive: engine uses cost, cost uses input, engine may not use input") {
  auto files = clean_with("sim/engine/run.cpp", "#include \"sim/input/yaml.h\"\n");
  files["sim/CMakeLists.txt"] += "sim_room(engine SOURCES run.cpp)\n";
  CHECK(tidy(files) ==
        "sim/engine/run.cpp:1: error: room engine includes sim/input/yaml.h, but input is not in "
        "its USES list (sim/CMakeLists.txt)\n");
}

TEST_CASE("an include in a comment is none, one after a comment or with spaces is one") {
  CHECK(tidy(clean_with("sim/units/parse.cpp",
                        "#include \"sim/units/parse.h\"\n// #include \"sim/input/yaml.h\"\n"))
            .empty());
  CHECK_FALSE(tidy(clean_with("sim/units/parse.cpp",
                              "#include \"sim/units/parse.h\"\n #  include \"sim/input/yaml.h\"\n"))
                  .empty());
}

TEST_CASE("a folder of sim/ that CMake does not declare is reported") {
  auto files = clean_with("sim/attic/old.cpp", "int old;\n");
  files["sim/CMakeLists.txt"] += "add_library(attic attic/old.cpp)\n";
  CHECK(tidy(files) ==
        "sim/attic/old.cpp:1: error: room attic is not declared in sim/CMakeLists.txt\n");
}

TEST_CASE("rooms of sim/ never include kernels, calibrate or tests") {
  auto files = clean_with("sim/cost/kernel.cpp", "#include \"kernels/tile.h\"\n");
  files["kernels/tile.h"] = "int tile;\n";
  CHECK(tidy(files) ==
        "sim/cost/kernel.cpp:1: error: room cost includes kernels/tile.h: rooms of sim/ include "
        "only rooms of sim/\n");
}

TEST_CASE("calibrate/ uses costs and what is below them, and nothing that simulates") {
  auto files = clean_with("calibrate/fit.cpp",
                          "#include \"sim/units/parse.h\"\n#include \"calibrate/fit.h\"\n");
  files["calibrate/fit.h"] = "int fit;\n";
  files["calibrate/CMakeLists.txt"] = "add_library(fit STATIC fit.cpp)\n";
  CHECK(tidy(files).empty());
  files["sim/engine/run.h"] = "int run;\n";
  files["calibrate/fit.cpp"] += "#include \"sim/engine/run.h\"\n";
  CHECK(tidy(files) ==
        "calibrate/fit.cpp:3: error: calibrate includes sim/engine/run.h: it may use only units, "
        "input, model, topology, cost of sim/\n");
}

TEST_CASE("a quoted include that is not a path from the root is reported") {
  CHECK(tidy(clean_with("sim/units/parse.cpp",
                        "#include \"sim/units/parse.h\"\n#include \"parse.h\"\n")) ==
        "sim/units/parse.cpp:2: error: \"parse.h\" is not a file of the repository: quoted "
        "includes are paths from its root\n");
}

TEST_CASE("a room that uses a room declared after it is reported, so there are no cycles") {
  const auto findings = check_includes({}, parse_rooms("units: input\ninput: units\n"));
  CHECK(print_findings(findings) ==
        "sim/CMakeLists.txt:1: error: room units uses input, which is not declared before it\n");
}

// ---- third-party homes

TEST_CASE("each third-party library is refused outside its home") {
  const auto [header, library, home] = GENERATE(table<std::string, std::string, std::string>({
      {"yaml-cpp/yaml.h", "yaml-cpp", "sim/input/"},
      {"nlohmann/json.hpp", "nlohmann-json", "sim/input/"},
      {"pugixml.hpp", "pugixml", "sim/input/"},
      {"boost/graph/adjacency_list.hpp", "Boost", "sim/topology/"},
      {"Eigen/Dense", "Eigen", "sim/reference/"},
      {"CLI/CLI.hpp", "CLI11", "sim/cli/"},
      {"catch2/catch.hpp", "Catch2", "tests/"},
      {"cuda_runtime.h", "CUDA", "kernels/"},
      {"cudnn.h", "cuDNN", "kernels/vendor/"},
      {"nccl.h", "NCCL", "calibrate/"},
  }));
  CHECK(tidy(clean_with("sim/cost/kernel.cpp", "#include <" + header + ">\n")) ==
        "sim/cost/kernel.cpp:1: error: " + library + " is used only in " + home + " (includes <" +
            header + ">)\n");
}

TEST_CASE("a third-party library is welcome in its home and in its home's tests") {
  const TemporaryTree tree({
      {"sim/reference/dense.cpp", "#include <Eigen/Dense>\n"},
      {"tests/sim/reference/dense_test.cpp", "#include <Eigen/Dense>\n"},
      {"calibrate/fit/fit.cpp", "#include <Eigen/Dense>\n"},
      {"tests/tidy/tidy_test.cpp", "#include <catch2/catch.hpp>\n"},
  });
  CHECK(check_third_party(tree.read()).empty());
}

TEST_CASE("the tests of another room are not a home") {
  const TemporaryTree tree(Files{{"tests/sim/cost/a_test.cpp", "#include <Eigen/Dense>\n"}});
  CHECK(check_third_party(tree.read()).size() == 1);
}

// ---- length of functions

TEST_CASE("a function may have 70 lines and not 71") {
  CHECK(function_findings(function_of_lines("int f(int a)", 70)).empty());
  CHECK(function_findings("\n" + function_of_lines("int f(int a)", 71)) ==
        "a.cpp:2: error: function of 71 lines; split it at 70\n");
}

TEST_CASE("the header counts, from its first line") {
  CHECK(function_findings("int\n" + function_of_lines("f(int a)", 69)).empty());
  CHECK(function_findings("int\n" + function_of_lines("f(int a)", 70)) ==
        "a.cpp:1: error: function of 71 lines; split it at 70\n");
}

TEST_CASE("long functions are found in every form") {
  const std::string head =
      GENERATE("namespace a { namespace b { void f()", "struct S { public: S(int x)",
               "template <class T, class U = int> auto f(T t) -> decltype(t)",
               "S& S::operator=(const S& s) noexcept", "TEST_CASE(\"a name: {(\", \"[tag]\")",
               "auto lambda = [](int a)", "S::S(int a) : a_{a}, b_{1}", "S::S(int a) : a_(a)",
               "inline constexpr int f(int a = 1)", "const char* brace = \"{\"; int f()",
               "int million = 1'000'000; int f()", "const char* raw = R\"x({)\" )x\"; int f()",
               "#define OPEN {\nint f()", "/* { */ int f() const // {\n");
  CAPTURE(head);
  CHECK(function_findings(function_of_lines(head, 69)).empty());
  CHECK_FALSE(function_findings(function_of_lines(head, 72)).empty());
}

TEST_CASE("classes, namespaces and tables may be long") {
  const std::string head =
      GENERATE("struct S", "namespace a", "enum class E : int", "class S final : B<int(int)>",
               "template <class T> struct S", "constexpr int table[] =");
  CAPTURE(head);
  CHECK(function_findings(head + " {\n" + repeated("  int f();\n", 100) + "};\n").empty());
}

TEST_CASE("many short functions in a long class are fine, one long one is found") {
  const auto in_class = [](int lines) {
    return "class C {\n" + repeated("  int f() { return 1; }\n", 100) + " private:\n" +
           function_of_lines("  void g()", lines) + "};\n";
  };
  CHECK(function_findings(in_class(70)).empty());
  CHECK(function_findings(in_class(71)) ==
        "a.cpp:103: error: function of 71 lines; split it at 70\n");
}

// ---- dead files

TEST_CASE("a source that no CMakeLists.txt names is reported, also if a comment names it") {
  CHECK(tidy(clean_with("sim/cost/old.cpp", "int old;\n")) ==
        "sim/cost/old.cpp:1: error: no CMakeLists.txt names this file\n");
}

TEST_CASE("a source named in another room's list is still reported") {
  CHECK(tidy(clean_with("sim/cost/parse.cpp", "int twin;\n")) ==
        "sim/cost/parse.cpp:1: error: no CMakeLists.txt names this file\n");
}

TEST_CASE("a header that only includes itself, or that nobody includes, is reported") {
  const std::string text = GENERATE("int a;\n", "#include \"sim/cost/lonely.h\"\n");
  CHECK(tidy(clean_with("sim/cost/lonely.h", text)) ==
        "sim/cost/lonely.h:1: error: no file includes this header\n");
}

// ---- texts

TEST_CASE("notes of unfinished work are reported in every kind of text") {
  const std::string word = GENERATE(
      "TO"
      "DO",
      "FIX"
      "ME",
      "XX"
      "X",
      "HA"
      "CK");
  const std::string path = GENERATE("scripts/a.sh", "models/a.yaml", "cmake/a.cmake", ".ci/run");
  CHECK(tidy(clean_with(path, "one\ntwo # " + word + ": later\n")) ==
        path + ":2: error: " + word + ": finish it, or write the limit down in the docs\n");
}

TEST_CASE("a longer word that holds a banned one is fine") {
  CHECK(tidy(clean_with("scripts/a.sh", std::string("HA"
                                                    "CKNEY and MAS"
                                                    "TO"
                                                    "DON\n")))
            .empty());
}

TEST_CASE("a path of one machine is reported, a relative one is not") {
  const std::string folder = GENERATE(
      "ho"
      "me",
      "ro"
      "ot",
      "wo"
      "rk",
      "Us"
      "ers",
      "tm"
      "p");
  CHECK(tidy(clean_with("scripts/a.sh", "cd /" + folder + "/me\n")) ==
        "scripts/a.sh:1: error: /" + folder + "/... is a path of one machine only\n");
  CHECK(tidy(clean_with("scripts/a.sh", "cd a/" + folder + "/me ../" + folder + "/me\n")).empty());
}

TEST_CASE("a Markdown document has one title") {
  CHECK(tidy(clean_with("docs/a.md", "text\n## Part\n")) ==
        "docs/a.md:1: error: a document without a title (\"# ...\")\n");
  CHECK(tidy(clean_with("docs/a.md", "# A\n\n# B\n")) ==
        "docs/a.md:3: error: a second title: use \"## ...\"\n");
}

TEST_CASE("two decisions do not have one number") {
  auto files = clean();
  files["docs/decisions/0001-a.md"] = "# A\n";
  files["docs/decisions/0002-b.md"] = "# B\n";
  CHECK(tidy(files).empty());
  files["docs/decisions/0001-c.md"] = "# C\n";
  CHECK(tidy(files) ==
        "docs/decisions/0001-c.md:1: error: decision 0001 is docs/decisions/0001-a.md already: "
        "take the next\n");
}

// ---- the page on architecture

TEST_CASE("the table of rooms says what CMake says, in any order of the rooms used") {
  const std::string table =
      "# A\n| room | uses | what |\n|---|---|---|\n| units |  | a |\n| input | units | b |\n"
      "| cost | input units | c |\n| engine | units cost | d |\n";
  CHECK(tidy(clean_with("docs/architecture.md", table)).empty());
}

TEST_CASE("a room missing, changed or invented in the table is reported") {
  const std::string table =
      "# A\n| room | uses | what |\n|---|---|---|\n| units | input | a |\n| input | units | b |\n"
      "| cellar | units | c |\n| engine | units cost | d |\n\n| term | meaning |\n";
  CHECK(tidy(clean_with("docs/architecture.md", table)) ==
        "docs/architecture.md:4: error: room units uses (), not (input): sim/CMakeLists.txt\n"
        "docs/architecture.md:6: error: there is no room cellar\n"
        "docs/architecture.md:1: error: the table of rooms lacks cost\n");
}

// ---- types

TEST_CASE("two headers that define a type of one name are reported, declarations are not") {
  const auto with = [](const std::string& first, const std::string& second) {
    auto files = clean_with("sim/units/a.h", "namespace x {\n" + first + "\n}\n");
    files["sim/units/b.h"] = "namespace x {\n" + second + "\n}\n";
    files["sim/units/parse.cpp"] = "#include \"sim/units/a.h\"\n#include \"sim/units/b.h\"\n";
    return tidy(files);
  };
  CHECK(with("struct A {};", "struct A\n    : Base {\n};") ==
        "sim/units/b.h:2: error: a type A is defined in sim/units/a.h as well: two types of one name "
        "in one program\n");
  CHECK(with("enum class A { one };", "class A {};") != "");
  CHECK(with("struct A;", "struct A {};").empty());
  CHECK(with("struct A { struct B; };", "struct A::B {};").empty());
  CHECK(with("struct A {};", "}\nnamespace y {\nstruct A {};").empty());
}

// ---- the tree

TEST_CASE("build folders, .git and node_modules are not read") {
  const std::string folder = GENERATE("build/", ".git/", "sim/page/node_modules/");
  CHECK(tidy(clean_with(folder + "a.cpp", "#include \"nothing.h\"\n")).empty());
}

TEST_CASE("findings of all rules come out of one run") {
  auto files = clean();
  files["sim/units/parse.cpp"] =
      "#include <Eigen/Dense>\n#include \"sim/input/yaml.h\"\n" + function_of_lines("int f()", 80);
  files["README.md"] = "no title\n";
  const TemporaryTree tree(files);
  CHECK(check_all(tree.read(), parse_rooms(rooms_text)).size() == 4);
}
