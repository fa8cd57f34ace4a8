// JSON written the same way every time, and read with places.
#include "sim/input/json.h"

#include <catch2/catch.hpp>
#include <limits>

#include "sim/input/yaml.h"
#include "sim/units/check.h"

using namespace longhaul;

namespace {

SourcePtr source(const std::string& text) {
  return std::make_shared<const SourceText>(SourceText{"a.json", text});
}

std::string errors_of(const std::string& text) {
  Diagnostics diagnostics;
  YamlValue::parse_json(source(text), diagnostics);
  return format_diagnostics(diagnostics, false);
}

}  // namespace

TEST_CASE("objects keep the order of insertion and values their kind") {
  JsonValue value = JsonValue::object();
  value.set("z", 1).set("a", 0.1).set("yes", true).set("none", nullptr).set("text", "x");
  value.set("list", JsonValue::array().push(1).push("two").push(JsonValue::object()));
  CHECK(value.dump() == R"({"z":1,"a":0.1,"yes":true,"none":null,"text":"x","list":[1,"two",{}]})");
}

TEST_CASE("pretty printing puts every member on its own line and leaves empty ones closed") {
  JsonValue value = JsonValue::object();
  value.set("a", JsonValue::array().push(1).push(2)).set("b", JsonValue::array());
  CHECK(value.dump_pretty() == "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": []\n}");
}

TEST_CASE("integers are exact and other numbers read back the same") {
  CHECK(JsonValue(std::int64_t{9007199254740993}).dump() == "9007199254740993");
  CHECK(JsonValue(std::uint64_t{18446744073709551615u}).dump() == "18446744073709551615");
  CHECK(JsonValue(1.0 / 3.0).dump() == "0.3333333333333333");
  CHECK(JsonValue(1e300).dump() == "1e+300");
  CHECK(JsonValue(-5).dump() == "-5");
}

TEST_CASE("strings are escaped, UTF-8 is left as it is") {
  CHECK(json_quote("a\"b\\c\n\t\r") == R"("a\"b\\c\n\t\r")");
  CHECK(json_quote(std::string("\x01\x7f", 2)) == R"("\u0001\u007f")");
  CHECK(json_quote("µs") == "\"µs\"");
}

TEST_CASE("what we write, we read back") {
  JsonValue value = JsonValue::object();
  value.set("quote \" key", "line\nbreak \x02 µ").set("n", -0.25);
  Diagnostics diagnostics;
  for (const std::string& text : {value.dump(), value.dump_pretty()}) {
    const auto read = YamlValue::parse_json(source(text), diagnostics);
    REQUIRE(read);
    CHECK(read->find("quote \" key")->scalar() == "line\nbreak \x02 µ");
    CHECK(read->find("n")->scalar() == "-0.25");
  }
}

TEST_CASE("NaN, infinity, repeated keys and members of non-objects are bugs of ours") {
  CHECK_THROWS_AS(JsonValue(std::numeric_limits<double>::quiet_NaN()), BugError);
  CHECK_THROWS_AS(JsonValue(std::numeric_limits<double>::infinity()), BugError);
  JsonValue object = JsonValue::object();
  object.set("a", 1);
  CHECK_THROWS_AS(object.set("a", 2), BugError);
  CHECK_THROWS_AS(object.push(1), BugError);
  CHECK_THROWS_AS(JsonValue::array().set("a", 1), BugError);
}

TEST_CASE("values that were read know their places, also between strings full of punctuation") {
  Diagnostics diagnostics;
  const auto value = YamlValue::parse_json(
      source("{\"a,:{}[]\": \"x,\\\"y\",\n  \"b\" : [ 12, -3.5e2 ,true,null, {\"c\":false}]}"),
      diagnostics);
  REQUIRE(value);
  const YamlValue text = *value->find("a,:{}[]");
  CHECK(text.scalar() == "x,\"y");
  CHECK(text.is_quoted());
  CHECK(text.place().column == 13);
  const std::vector<YamlValue> items = value->find("b")->items();
  REQUIRE(items.size() == 5);
  CHECK(value->find("b")->key_place().line == 2);
  CHECK(value->find("b")->key_place().column == 3);
  CHECK(items[0].scalar() == "12");
  CHECK(items[0].place().column == 11);
  CHECK(items[1].scalar() == "-3.5e2");
  CHECK(items[1].place().column == 15);
  CHECK(items[1].place().length == 6);
  CHECK(items[2].place().column == 23);
  CHECK(items[3].is_null());
  CHECK(items[4].find("c")->place().column == 39);
  CHECK_FALSE(items[4].find("c")->is_quoted());
}

TEST_CASE("syntax errors of JSON are shown where they are") {
  CHECK(errors_of("{\"a\": 1,\n \"b\" 2}").find("a.json:2:6: error: not valid JSON: ") == 0);
  CHECK(errors_of("{\"a\": 1} x").find("a.json:1:10: error: not valid JSON: ") == 0);
  CHECK(errors_of("{\"a\": 1").find("a.json:1:8: error: not valid JSON: ") == 0);
  CHECK(errors_of("{\"a\": nan}").find("a.json:1:") == 0);
}

TEST_CASE("JSON repeated keys, empty input and deep nesting are refused like YAML's") {
  CHECK(errors_of("{\"a\": 1, \"a\": 2}").find("1:10: error: key 'a' is given twice") !=
        std::string::npos);
  CHECK(errors_of(" \n").find("a.json: error: the file has no content") == 0);
  CHECK(errors_of(std::string(64, '[') + std::string(64, ']')).empty());
  CHECK(errors_of(std::string(65, '[') + std::string(65, ']'))
            .find("1:65: error: nested more than 64 levels deep") != std::string::npos);
}
