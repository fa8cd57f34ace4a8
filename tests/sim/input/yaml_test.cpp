// Strict YAML: what yaml-cpp lets pass is refused here, and everything has its place.
#include "sim/input/yaml.h"

#include <catch2/catch.hpp>

using namespace longhaul;

namespace {

struct Parsing {
  std::optional<YamlValue> value;
  std::string errors;
};

Parsing parse(const std::string& text) {
  Diagnostics diagnostics;
  Parsing out;
  out.value =
      YamlValue::parse(std::make_shared<const SourceText>(SourceText{"f.yaml", text}), diagnostics);
  out.errors = format_diagnostics(diagnostics, false);
  return out;
}

/// Reads text as a map with `read` and returns what was complained about.
template <class Read>
std::string complaints(const std::string& text, Read read) {
  Diagnostics diagnostics;
  const auto value =
      YamlValue::parse(std::make_shared<const SourceText>(SourceText{"f.yaml", text}), diagnostics);
  REQUIRE(value);
  MapReader reader(*value, "test", diagnostics);
  read(reader);
  std::string out;
  for (const Diagnostic& diagnostic : diagnostics.all()) {
    out += diagnostic.code + ": " + diagnostic.message + "\n";
  }
  return out;
}

}  // namespace

TEST_CASE("values know their kind, their text and their place") {
  const Parsing parsing = parse("a: 1\nb:\n  - x\n  - 'two words'\nc: {d: ~}\n");
  REQUIRE(parsing.value);
  CHECK(parsing.errors.empty());
  const YamlValue root = *parsing.value;
  CHECK(root.is_map());
  CHECK(root.find("a")->scalar() == "1");
  CHECK_FALSE(root.find("a")->is_quoted());
  const std::vector<YamlValue> items = root.find("b")->items();
  REQUIRE(items.size() == 2);
  CHECK(items[1].is_quoted());
  CHECK(items[1].place().line == 4);
  CHECK(items[1].place().column == 5);
  CHECK(items[1].place().length == 11);
  CHECK(root.find("c")->find("d")->is_null());
  CHECK(root.find("c")->key_place().line == 5);
  CHECK_FALSE(root.find("missing"));
  const auto entries = root.entries();
  REQUIRE(entries.size() == 3);
  CHECK(entries[1].first == "b");
}

TEST_CASE("an empty value stands where its key stands, not on the next line") {
  const YamlValue root = *parse("a:\nb: 2\n").value;
  CHECK(root.find("a")->place().line == 1);
  CHECK(root.find("a")->place().column == 1);
}

TEST_CASE("an alias has the value of its anchor and its own place") {
  const Parsing parsing = parse("a: &x {n: 5}\nb: *x\n");
  REQUIRE(parsing.value);
  CHECK(parsing.errors.empty());
  CHECK(parsing.value->find("b")->find("n")->scalar() == "5");
  CHECK(parsing.value->find("b")->place().line == 2);
  CHECK(parsing.value->find("b")->place().column == 4);
  CHECK(parsing.value->find("a")->place().line == 1);
}

TEST_CASE("aliases of aliases cost no more than they are long") {
  // Written out, the last one would have 10^20 items.
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 20; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last;
    for (int k = 1; k < 10; ++k) {
      text += ", " + last;
    }
    text += "]\n";
  }
  CHECK(parse(text).value->find("a19")->items().size() == 10);
}

TEST_CASE("repeated keys are found at any depth, also under another quoting") {
  CHECK(parse("a: {b: [{c: 1, c: 2}]}").errors.find("1:16: error: key 'c' is given twice") !=
        std::string::npos);
  CHECK(parse("a: 1\n'a': 2\n").errors.find("2:1: error: key 'a' is given twice") !=
        std::string::npos);
  CHECK(parse("a: {x: 1}\nb: {x: 1}\n").errors.empty());
}

TEST_CASE("merge keys are refused, a quoted '<<' is a key like others") {
  CHECK(parse("a: &x {n: 5}\nb:\n  <<: *x\n")
            .errors.find("3:3: error: merge keys ('<<') are not supported") != std::string::npos);
  CHECK(parse("'<<': 1\n").errors.empty());
}

TEST_CASE("a quote that is never closed cannot swallow the keys behind it") {
  for (const std::string text : {"a: \"x\nb: 1\n", "a: 'x\nb: 1\n", "a: 'it''s\nb: 1\n",
                                 "a: \"x\\\"\nb: 1\n", "a: &n \"x\nb: 1\n", "'a: 1\nb: 2\n"}) {
    INFO(text);
    CHECK(parse(text).errors.find("this quote is never closed") != std::string::npos);
  }
  for (const std::string text :
       {"a: \"x\"\nb: 1\n", "a: 'it''s'\nb: 1\n", "a: \"x\\\"\"\nb: 1\n", "a: ''\nb: ''''\n",
        "a: &n \"x\"\nb: *n\n", "a: |\n  \"x\nb: it's\n", "a: \"two\n  lines\"\n", "a: it's\n"}) {
    INFO(text);
    CHECK(parse(text).errors.empty());
  }
}

TEST_CASE("columns count bytes, as compilers do") {
  const YamlValue root = *parse("{µ: µs, b: x}").value;
  CHECK(root.find("b")->place().column == 14);
  CHECK(root.find("µ")->place().length == 3);
}

TEST_CASE("tags and keys that are no words are refused") {
  CHECK(parse("a: !!int 5").errors.find("YAML tags") != std::string::npos);
  CHECK(parse("a: !mine {b: 1}").errors.find("YAML tags") != std::string::npos);
  CHECK(parse("? [a, b]\n: 1\n").errors.find("a key must be a word") != std::string::npos);
  CHECK(parse("~: 1\n").errors.find("a key must be a word") != std::string::npos);
}

TEST_CASE("nesting is taken up to 64 levels and refused beyond") {
  const auto nested = [](int levels) {
    std::string text;
    for (int i = 0; i < levels - 1; ++i) {
      text += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
    }
    return text + std::string(static_cast<std::size_t>(levels - 1), ' ') + "a: 1\n";
  };
  CHECK(parse(nested(64)).errors.empty());
  CHECK(parse(nested(65)).errors.find("nested more than 64 levels deep") != std::string::npos);
  CHECK(parse(nested(5000)).errors.find("nested more than 64 levels deep") != std::string::npos);
}

TEST_CASE("one document is read, with or without its markers") {
  CHECK(parse("---\na: 1\n").errors.empty());
  CHECK(parse("a: 1\n...\n").errors.empty());
  CHECK(parse("# c\n---\n# d\na: 1\n# e\n").errors.empty());
  CHECK(parse("a: 1\n---\nb: 2\n").errors.find("a second YAML document") != std::string::npos);
  CHECK(parse("a: 1\n---\n").errors.find("a second YAML document") != std::string::npos);
}

TEST_CASE("nothing, comments and null are no document") {
  for (const std::string text : {"", "\n\n", "# only a comment\n", "~", "null", "---\n"}) {
    INFO(text);
    CHECK(parse(text).errors ==
          "f.yaml: error: the file has no content\n"
          "      = help: see `longhaul` without arguments for examples\n"
          "1 error in f.yaml\n");
  }
}

TEST_CASE("a map reader reads what is there and falls back where nothing is") {
  const std::string text =
      "name: x\non: false\nn: 3\nr: 0.5\nseq: 128k\nmem: 80 GiB\nt: 2 us\nbw: '900 GB/s'\n"
      "peak: 989 TFLOP/s\nclock: 1 GHz\nkind: b\nlist: [p, q]\n";
  const std::string wrong = complaints(text, [](MapReader& reader) {
    CHECK(reader.text("name") == "x");
    CHECK_FALSE(reader.boolean("on"));
    CHECK(reader.integer("n", {1, 3}) == 3);
    CHECK(reader.number("r", 0.0, 1.0) == 0.5);
    CHECK(reader.tokens("seq") == 131072);
    CHECK(reader.bytes("mem").value() == 85899345920.0);
    CHECK(reader.seconds("t").value() == 2.0 * 1e-6);
    CHECK(reader.bytes_per_second("bw").value() == 900e9);
    CHECK(reader.flops_per_second("peak").value() == 989.0 * 1e12);
    CHECK(reader.hertz("clock").value() == 1e9);
    CHECK(reader.choice("kind", {"a", "b"}) == 1);
    CHECK(reader.texts("list") == std::vector<std::string>{"p", "q"});
    CHECK(reader.text("name2", "default") == "default");
    CHECK(reader.boolean("on2", true));
    CHECK(reader.integer("n2", {5, 9}, 1) == 1);  // a default may lie outside the range
    CHECK(reader.number("r2", 0.0, 1.0, -1.0) == -1.0);
    CHECK(reader.tokens("seq2", 0) == 0);
    CHECK(reader.bytes("mem2", Bytes::of(7)).value() == 7.0);
    CHECK(reader.choice("kind2", {"a", "b"}, 1) == 1);
    CHECK(reader.texts("list2").empty());
    reader.finish();
  });
  CHECK(wrong.empty());
}

TEST_CASE("demanded keys that are missing are all reported") {
  CHECK(complaints("a: 1",
                   [](MapReader& reader) {
                     reader.text("x");
                     reader.integer("y", {});
                     reader.bytes("z");
                     reader.boolean("b");
                     reader.choice("c", {"p", "q"});
                     CHECK_FALSE(reader.require("r"));
                   }) ==
        "missing-key: test has no 'x'\nmissing-key: test has no 'y'\n"
        "missing-key: test has no 'z'\nmissing-key: test has no 'b'\n"
        "missing-key: test has no 'c'\nmissing-key: test has no 'r'\n");
}

TEST_CASE("a range holds on both of its ends") {
  const auto read = [](const std::string& value) {
    return complaints("n: " + value, [](MapReader& reader) { reader.integer("n", {2, 5}); });
  };
  CHECK(read("2").empty());
  CHECK(read("5").empty());
  CHECK(read("1") == "out-of-range: 'n' must be between 2 and 5, got 1\n");
  CHECK(read("6") == "out-of-range: 'n' must be between 2 and 5, got 6\n");
  const auto number = [](const std::string& value) {
    return complaints("x: " + value, [](MapReader& reader) { reader.number("x", 0.0, 1.0); });
  };
  CHECK(number("0").empty());
  CHECK(number("1.0").empty());
  CHECK(number("1.0000001") == "out-of-range: 'x' must be between 0 and 1, got 1.0000001\n");
  CHECK(number("-1e-9") == "out-of-range: 'x' must be between 0 and 1, got -1e-09\n");
}

TEST_CASE("what other YAML readers call integers and booleans is refused") {
  for (const std::string value : {"0x10", "1e3", "08", "1.0", "'8'", "\"8\"", "yes", "1_000"}) {
    INFO(value);
    CHECK_FALSE(
        complaints("n: " + value, [](MapReader& reader) { reader.integer("n", {}); }).empty());
  }
  for (const std::string value : {"yes", "no", "on", "off", "True", "1", "'true'"}) {
    INFO(value);
    CHECK_FALSE(complaints("b: " + value, [](MapReader& reader) { reader.boolean("b"); }).empty());
  }
  for (const std::string value : {".nan", ".NaN", ".inf", "-.inf", "nan", "'0.5'"}) {
    INFO(value);
    CHECK_FALSE(complaints("x: " + value, [](MapReader& reader) {
                  reader.number("x", -1e300, 1e300);
                }).empty());
  }
}

TEST_CASE("a quoted count of tokens is refused only where it is a plain number") {
  const auto read = [](const std::string& value) {
    return complaints("n: " + value, [](MapReader& reader) { reader.tokens("n"); });
  };
  CHECK(read("'128k'").empty());
  CHECK(read("'131072'") == "bad-value: 'n' wants a number, got the text \"131072\"\n");
}

TEST_CASE("a map or a list where a single value belongs, and the reverse") {
  CHECK(complaints("a: {b: 1}\nc: [1]\nd: 5\ne: [[1], 2]\n",
                   [](MapReader& reader) {
                     reader.text("a");
                     reader.integer("c", {});
                     reader.texts("d");
                     CHECK(reader.texts("e") == std::vector<std::string>{"2"});
                   }) ==
        "wrong-type: 'a' wants a single value, not a map\n"
        "wrong-type: 'c' wants a single value, not a list\n"
        "wrong-type: 'd' wants a list, such as [a, b]\n"
        "wrong-type: 'e' wants a list of single values\n");
}

TEST_CASE("a null where a map belongs is reported once, not once per key") {
  CHECK(complaints("a:\n", [](MapReader& outer) {
          MapReader inner(*outer.child("a"), "plan", outer.diagnostics());
          inner.integer("x", {});
          inner.text("y");
          inner.finish();
        }) == "not-a-map: plan must be a map of 'key: value' lines, but is empty\n");
}

TEST_CASE("an unknown key is found with the nearest known one, ignored keys are known") {
  const auto read = [](const std::string& text) {
    Diagnostics diagnostics;
    const auto value = YamlValue::parse(
        std::make_shared<const SourceText>(SourceText{"f.yaml", text}), diagnostics);
    MapReader reader(*value, "gpu", diagnostics);
    reader.bytes("memory", Bytes{});
    reader.ignore("notes");
    reader.finish();
    return format_diagnostics(diagnostics, false);
  };
  CHECK(read("memory: 1 GB\nnotes: {any: thing}\n").empty());
  CHECK(read("memroy: 1 GB\n") ==
        "f.yaml:1:1: error: unknown key 'memroy' in gpu\n"
        "    1 | memroy: 1 GB\n"
        "      | ^~~~~~\n"
        "      = help: did you mean 'memory'?\n"
        "1 error in f.yaml\n");
  CHECK(read("colour: red\n").find("= help: known keys: memory, notes\n") != std::string::npos);
}

TEST_CASE("a place is the value's, or the map's where the key is missing") {
  complaints("a: 1\nb: {c: 2}\n", [](MapReader& reader) {
    CHECK(reader.place("a").column == 4);
    MapReader inner(*reader.child("b"), "b", reader.diagnostics());
    CHECK(inner.place("missing").line == 2);
    CHECK(inner.place("missing").column == 1);
  });
}
