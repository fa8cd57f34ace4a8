// Embedded files are the files of the repository, and SHA-256 is the standard's.
#include "sim/input/presets.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

using namespace longhaul;

TEST_CASE("an embedded file is the file of the repository, byte for byte") {
  const std::vector<std::string> paths = embedded_files("models");
  REQUIRE(paths.size() > 10);
  for (const std::string& path : paths) {
    INFO(path);
    std::ifstream file(std::string(LONGHAUL_SOURCE_DIR "/") + path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    const auto embedded = embedded_file(path);
    REQUIRE(embedded);
    CHECK((*embedded)->text == text.str());
    CHECK((*embedded)->name == "built-in: " + path);
  }
}

TEST_CASE("embedded files are listed by folder, sorted") {
  const std::vector<std::string> paths = embedded_files("models");
  CHECK(std::is_sorted(paths.begin(), paths.end()));
  CHECK(std::count(paths.begin(), paths.end(), "models/llama3-8b.yaml") == 1);
  CHECK(std::count(paths.begin(), paths.end(), "models/hf/llama3-8b.json") == 1);
  // A folder is matched by its whole name.
  CHECK(embedded_files("model").empty());
  CHECK(embedded_files("no-such-folder").empty());
}

TEST_CASE("what is not embedded is not found, and README files are not") {
  CHECK_FALSE(embedded_file("models/no-such-model.yaml"));
  CHECK_FALSE(embedded_file("models/README.md"));
}

TEST_CASE("SHA-256 gives the digests of the standard's examples") {
  // FIPS 180-2, appendix B: one block, two blocks, a million times "a"; and the empty text.
  CHECK(sha256_hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256_hex(std::string(1000000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  CHECK(sha256_hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST_CASE("SHA-256 pads right on both sides of a block's end") {
  // From coreutils' sha256sum of 55, 56, 63 and 64 times "x".
  CHECK(sha256_hex(std::string(55, 'x')) ==
        "d5e285683cd4efc02d021a5c62014694958901005d6f71e89e0989fac77e4072");
  CHECK(sha256_hex(std::string(56, 'x')) ==
        "04c26261370ee7541549d16dee320c723e3fd14671e66a099afe0a377c16888e");
  CHECK(sha256_hex(std::string(63, 'x')) ==
        "75220b47218278e656f2013bb8f0c455a25eaf01e86c64924e9d48d89776d6f2");
  CHECK(sha256_hex(std::string(64, 'x')) ==
        "7ce100971f64e7001e8fe5a51973ecdfe1ced42befe7ee8d5fd6219506b5393c");
}
