// Wrong files and the exact words about them: each NAME.yaml here is read as a small cluster, and
// what is printed must be NAME.expected. Files that cannot be kept in a repository are made here.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "sim/input/yaml.h"
#include "tests/bad_input/expected_words.h"

using namespace longhaul;
using test::content;
namespace fs = std::filesystem;

namespace {

const fs::path folder = fs::path(LONGHAUL_SOURCE_DIR) / "tests" / "bad_input";

/// Uses every kind of key once.
void read_cluster(MapReader& reader) {
  reader.text("name");
  reader.integer("gpus", {1, 1024});
  reader.bytes("memory");
  reader.bytes_per_second("bandwidth", BytesPerSecond{});
  reader.seconds("latency", Seconds{});
  reader.flops_per_second("peak", FlopsPerSecond{});
  reader.hertz("clock", Hertz{});
  reader.number("efficiency", 0.0, 1.0, 1.0);
  reader.boolean("overlap", true);
  reader.choice("kind", {"ring", "ulysses", "usp"}, 0);
  reader.tokens("sequence", 1);
  reader.texts("offload");
  reader.finish();
}

/// What a user would see for a file; the folder's name is taken out of it.
std::string complaints(const fs::path& path) {
  Diagnostics diagnostics;
  if (const auto source = read_source(path.string(), diagnostics)) {
    if (const auto map = YamlValue::parse(*source, diagnostics)) {
      MapReader reader(*map, "cluster", diagnostics);
      read_cluster(reader);
    }
  }
  return test::without_folder(format_diagnostics(diagnostics, false), path.parent_path());
}

/// Complaints about a file with this content, made for the purpose.
std::string complaints_about(const std::string& bytes) {
  const fs::path path = fs::temp_directory_path() / "longhaul_bad_input_test.yaml";
  std::ofstream(path, std::ios::binary) << bytes;
  const std::string out = complaints(path);
  fs::remove(path);
  return out;
}

const std::string binary_complaint =
    "longhaul_bad_input_test.yaml: error: is not a text file (it is not UTF-8, or holds NUL "
    "bytes)\n"
    "      = help: is this the right file? YAML and JSON are UTF-8 text\n"
    "1 error in longhaul_bad_input_test.yaml\n";

const std::string good = "name: x\ngpus: 8\nmemory: 80 GiB\n";

}  // namespace

TEST_CASE("each wrong file of this folder is answered with exactly the expected words") {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".yaml") {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  REQUIRE(files.size() >= 10);
  for (const fs::path& file : files) {
    INFO(file.filename().string());
    const std::string expected = content(fs::path(file).replace_extension(".expected"));
    CHECK_FALSE(expected.empty());
    CHECK(complaints(file) == expected);
  }
}

TEST_CASE("a sound file draws no complaint") { CHECK(complaints_about(good).empty()); }

TEST_CASE("bytes that are no text are refused as binary") {
  CHECK(complaints_about(std::string("name: x\0y", 9)) == binary_complaint);
  CHECK(complaints_about("\x7f"
                         "ELF\x02\x01\x01\x80\xff") == binary_complaint);
  CHECK(complaints_about("name: \xC3") == binary_complaint);      // cut in a character
  CHECK(complaints_about("name: \xA9 x\n") == binary_complaint);  // Latin-1
  CHECK(complaints_about("\xFF\xFEn\0a\0") == binary_complaint);  // UTF-16
}

TEST_CASE("UTF-8 is text, with or without a byte order mark") {
  CHECK(complaints_about("# 8 × H100, µs, 日本\n" + good).empty());
  CHECK(complaints_about("\xEF\xBB\xBF" + good).empty());
}

TEST_CASE("lines may end in CR LF") {
  CHECK(complaints_about("name: x\r\ngpus: 8\r\nmemory: 80 GiB\r\n").empty());
}

TEST_CASE("a directory, a missing file and a file that fails to be read") {
  CHECK(complaints(folder) ==
        "bad_input: error: is a directory, not a file\n"
        "      = help: give the path of a file inside it\n"
        "1 error in bad_input\n");
  CHECK(complaints("/no/such/file.yaml") ==
        "file.yaml: error: cannot be read: No such file or directory\n"
        "      = help: check the path and its permissions\n"
        "1 error in file.yaml\n");
  // Linux opens this one for its owner and fails to read it at 0, also for root, whom no
  // permission stops.
  CHECK(complaints("/proc/self/mem") ==
        "mem: error: cannot be read: Input/output error\n"
        "      = help: check the path and its permissions\n"
        "1 error in mem\n");
}

TEST_CASE("a file without end is given up at 64 MiB") {
  CHECK(complaints("/dev/zero") ==
        "zero: error: is larger than 64 MiB\n"
        "      = help: is this the right file?\n"
        "1 error in zero\n");
}

TEST_CASE("an empty file has no content") {
  CHECK(complaints_about("") ==
        "longhaul_bad_input_test.yaml: error: the file has no content\n"
        "      = help: see `longhaul` without arguments for examples\n"
        "1 error in longhaul_bad_input_test.yaml\n");
}
