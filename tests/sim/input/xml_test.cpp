// XML with places: what is read, what is refused.
#include <catch2/catch.hpp>

#include "sim/input/xml.h"

namespace longhaul {

namespace {

/// "line:column code" of the first thing recorded, or "" .
std::string first_error(const std::string& text) {
  Diagnostics diagnostics;
  const auto source = std::make_shared<const SourceText>(SourceText{"test.xml", text});
  const auto root = parse_xml(source, diagnostics);
  CHECK(root.has_value() != diagnostics.has_errors());
  if (diagnostics.all().empty()) {
    return "";
  }
  const Diagnostic& error = diagnostics.all().front();
  return std::to_string(error.place.line) + ":" + std::to_string(error.place.column) + " " +
         error.code;
}

}  // namespace

TEST_CASE("elements and attributes carry their places") {
  Diagnostics diagnostics;
  const auto source = std::make_shared<const SourceText>(
      SourceText{"test.xml",
                 "<?xml version=\"1.0\"?>\n<!-- c -->\n<a x=\"1\"\n   yy = \"&lt;2\">\n <b/>t<b "
                 "z='3'/></a>\n"});
  const auto root = parse_xml(source, diagnostics);
  REQUIRE(root);
  CHECK(root->name == "a");
  CHECK(root->place.line == 3);
  CHECK(root->place.column == 2);
  CHECK(root->text("x") == "1");
  CHECK(root->text("yy") == "<2");
  CHECK(root->text("none").empty());
  CHECK(root->place_of("x").column == 4);
  REQUIRE(root->children.size() == 2);
  CHECK(root->children[1].place.line == 5);
  CHECK(root->children[1].place.column == 8);
}

TEST_CASE("what is not one well-formed document is refused where it breaks") {
  CHECK(first_error("<a></a>").empty());
  CHECK(first_error("<a>\n<b></a>\n").ends_with("xml-syntax"));
  CHECK(first_error("<a>\n<b>").ends_with("xml-syntax"));
  CHECK(first_error("").ends_with("xml-syntax"));
  CHECK(first_error("no xml").ends_with("xml-syntax"));
  CHECK(first_error("<a/>\n<b/>") == "2:2 several-roots");
  CHECK(first_error("<a>\n <b x='1' x='2'/>\n</a>") == "2:11 repeated-attribute");
}

TEST_CASE("document types, and with them entities that grow, are refused") {
  CHECK(first_error("<!DOCTYPE a [<!ENTITY b \"c\">]>\n<a>&b;</a>").ends_with("xml-doctype"));
}

TEST_CASE("nesting and numbers of elements have their limits") {
  const auto nested = [](int depth) {
    std::string text;
    for (int i = 0; i < depth; ++i) {
      text += "<a>";
    }
    for (int i = 0; i < depth; ++i) {
      text += "</a>";
    }
    return text;
  };
  CHECK(first_error(nested(xml_depth_limit)).empty());
  CHECK(first_error(nested(xml_depth_limit + 1)).ends_with("xml-size"));
  CHECK(first_error(nested(1000000)).ends_with("xml-size"));
  std::string many = "<a>";
  for (std::size_t i = 1; i < xml_element_limit; ++i) {
    many += "<b/>";
  }
  CHECK(first_error(many + "</a>").empty());
  CHECK(first_error(many + "<b/></a>").ends_with("xml-size"));
}

}  // namespace longhaul
