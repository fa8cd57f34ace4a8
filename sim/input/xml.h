// XML as a tree of plain values, each with its place. The only header through which other rooms see
// XML.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"

namespace longhaul {

struct XmlAttribute {
  std::string name;
  std::string value;
  Place place;  ///< of its name
};

/// An element with its attributes and child elements in document order. Text, comments and
/// processing instructions are left out.
struct XmlElement {
  std::string name;
  Place place;  ///< of its name
  std::vector<XmlAttribute> attributes;
  std::vector<XmlElement> children;

  [[nodiscard]] const XmlAttribute* find(const std::string& attribute) const;
  /// The value of an attribute, or "".
  [[nodiscard]] std::string text(const std::string& attribute) const;
  /// Where an attribute stands, or the element if it has none of that name.
  [[nodiscard]] Place place_of(const std::string& attribute) const;
};

/// Elements beyond these are refused: no topology comes near.
inline constexpr std::size_t xml_element_limit = 200'000;
inline constexpr int xml_depth_limit = 64;

/// Reads one document and returns its root. Records syntax errors, repeated attributes, more than
/// one root, document types (and with them entity definitions, which are never expanded), too many
/// or too deeply nested elements; returns nothing then. Well-formed entities of XML itself (&amp;)
/// are replaced.
std::optional<XmlElement> parse_xml(const SourcePtr& source, Diagnostics& diagnostics);

}  // namespace longhaul
