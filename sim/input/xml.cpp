#include "sim/input/xml.h"

#include <fmt/format.h>

#include <algorithm>
#include <pugixml.hpp>

namespace longhaul {

const XmlAttribute* XmlElement::find(const std::string& attribute) const {
  const auto found =
      std::find_if(attributes.begin(), attributes.end(),
                   [&](const XmlAttribute& candidate) { return candidate.name == attribute; });
  return found == attributes.end() ? nullptr : &*found;
}

std::string XmlElement::text(const std::string& attribute) const {
  const XmlAttribute* found = find(attribute);
  return found == nullptr ? "" : found->value;
}

Place XmlElement::place_of(const std::string& attribute) const {
  const XmlAttribute* found = find(attribute);
  return found == nullptr ? place : found->place;
}

namespace {

/// Leaves the conversion after a mistake (already recorded) that makes going on pointless.
struct StopConverting {};

class Converter {
 public:
  Converter(const SourcePtr& source, Diagnostics& diagnostics)
      : source_(source), diagnostics_(diagnostics) {
    for (std::size_t at = source->text.find('\n'); at != source->text.npos;
         at = source->text.find('\n', at + 1)) {
      lines_.push_back(at + 1);
    }
  }

  [[nodiscard]] Place place_at(std::ptrdiff_t offset, std::size_t length) const {
    const auto at = static_cast<std::size_t>(std::max<std::ptrdiff_t>(offset, 0));
    const auto next = std::upper_bound(lines_.begin(), lines_.end(), at);
    const std::size_t line = next == lines_.begin() ? 0 : *(next - 1);
    return {source_, static_cast<int>(next - lines_.begin()) + 1, static_cast<int>(at - line) + 1,
            std::max(1, static_cast<int>(length))};
  }

  XmlElement convert(const pugi::xml_node& node, int depth) {
    const std::ptrdiff_t offset = node.offset_debug();
    XmlElement element;
    element.name = node.name();
    element.place = place_at(offset, element.name.size());
    if (depth > xml_depth_limit || ++count_ > xml_element_limit) {
      diagnostics_.error(element.place, "xml-size",
                         depth > xml_depth_limit
                             ? fmt::format("elements are nested more than {} deep", xml_depth_limit)
                             : fmt::format("more than {} elements", xml_element_limit),
                         "is this the right file?");
      throw StopConverting{};
    }
    for (const pugi::xml_attribute& attribute : node.attributes()) {
      add_attribute(element, attribute,
                    static_cast<std::size_t>(std::max<std::ptrdiff_t>(offset, 0)));
    }
    for (const pugi::xml_node& child : node.children()) {
      if (child.type() == pugi::node_element) {
        element.children.push_back(convert(child, depth + 1));
      }
    }
    return element;
  }

 private:
  void add_attribute(XmlElement& element, const pugi::xml_attribute& attribute,
                     std::size_t offset) {
    XmlAttribute added{attribute.name(), attribute.value(), element.place};
    // pugixml knows no places of attributes. Names are looked for from the end of the last one, so
    // that a value that contains the name of a later attribute is taken for it at worst.
    const std::string& text = source_->text;
    const std::size_t from = std::max(offset, searched_);
    const std::size_t found = text.find(added.name + "=", from);
    const std::size_t end = text.find('>', from);
    if (found != text.npos && found < end) {
      added.place = place_at(static_cast<std::ptrdiff_t>(found), added.name.size());
      searched_ = found + added.name.size();
    }
    if (element.find(added.name) != nullptr) {
      diagnostics_.error(added.place, "repeated-attribute",
                         fmt::format("'{}' is given twice", added.name), "remove one of them");
    }
    element.attributes.push_back(std::move(added));
  }

  SourcePtr source_;
  Diagnostics& diagnostics_;
  std::vector<std::size_t> lines_;  ///< offsets of all lines but the first
  std::size_t searched_ = 0;
  std::size_t count_ = 0;
};

/// The only element of a document that may have others beside it: comments and declarations.
std::optional<pugi::xml_node> find_root(const pugi::xml_document& document,
                                        const Converter& converter, Diagnostics& diagnostics) {
  std::optional<pugi::xml_node> root;
  for (const pugi::xml_node& node : document.children()) {
    if (node.type() == pugi::node_doctype) {
      diagnostics.error(converter.place_at(node.offset_debug(), 1), "xml-doctype",
                        "a document type is not accepted here",
                        "remove '<!DOCTYPE ...>': entities are not expanded");
      return std::nullopt;
    }
    if (node.type() == pugi::node_element && root) {
      diagnostics.error(converter.place_at(node.offset_debug(), 1), "several-roots",
                        fmt::format("a second root element, '{}'", node.name()),
                        "keep one of them: a file describes one machine");
      return std::nullopt;
    }
    if (node.type() == pugi::node_element) {
      root = node;
    }
  }
  return root;
}

}  // namespace

std::optional<XmlElement> parse_xml(const SourcePtr& source, Diagnostics& diagnostics) {
  Converter converter(source, diagnostics);
  pugi::xml_document document;
  const pugi::xml_parse_result result =
      document.load_buffer(source->text.data(), source->text.size(),
                           pugi::parse_default | pugi::parse_doctype, pugi::encoding_utf8);
  if (!result) {
    diagnostics.error(converter.place_at(result.offset, 1), "xml-syntax",
                      fmt::format("not valid XML: {}", result.description()),
                      "is the file complete? every element must be closed");
    return std::nullopt;
  }
  const std::optional<pugi::xml_node> root = find_root(document, converter, diagnostics);
  if (!root) {
    return std::nullopt;
  }
  Diagnostics own;
  std::optional<XmlElement> element;
  try {
    Converter whole(source, own);
    element = whole.convert(*root, 1);
  } catch (const StopConverting&) {
    element.reset();
  }
  diagnostics.append(own);
  return own.has_errors() ? std::nullopt : std::move(element);
}

}  // namespace longhaul
