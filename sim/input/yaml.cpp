#include "sim/input/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "sim/input/value_node.h"

namespace longhaul {

namespace {

/// yaml-cpp counts from 0 and marks what has no place with -1.
Place place_of(const SourcePtr& source, const YAML::Mark& mark, std::size_t length) {
  if (mark.line < 0 || mark.column < 0) {
    return {source, 0, 0, 1};
  }
  return {source, mark.line + 1, mark.column + 1, std::max(1, static_cast<int>(length))};
}

/// Offsets of the lines of a text: a place is found without reading the text again.
std::vector<std::size_t> line_starts(const std::string& text) {
  std::vector<std::size_t> starts{0};
  for (std::size_t at = text.find('\n'); at != text.npos; at = text.find('\n', at + 1)) {
    starts.push_back(at + 1);
  }
  return starts;
}

/// True if the quoted scalar that starts at `at` (behind its anchor, if it has one) never ends:
/// yaml-cpp 0.7 takes the end of the file for the closing quote, which would silently swallow
/// every key in between.
bool lacks_closing_quote(const std::string& text, std::size_t at) {
  while (at < text.size() && text[at] == '&') {
    at = text.find_first_of(" \t\r\n", at);
    at = text.find_first_not_of(" \t\r\n", at);  // npos stays npos
  }
  if (at >= text.size() || (text[at] != '"' && text[at] != '\'')) {
    return false;  // a block scalar
  }
  const char quote = text[at];
  for (++at; at < text.size(); ++at) {
    if (quote == '"' && text[at] == '\\') {
      ++at;  // an escaped character is no end
    } else if (text[at] == quote) {
      const bool doubled = quote == '\'' && at + 1 < text.size() && text[at + 1] == quote;
      if (!doubled) {
        return false;
      }
      ++at;  // '' inside '...' stands for one quote
    }
  }
  return true;
}

/// Leaves yaml-cpp's parser after a mistake (already recorded) that makes going on pointless.
struct StopParsing {};

/// Turns yaml-cpp's events into our tree. Events instead of YAML::Node: nodes hide repeated keys
/// and give an alias the place of its anchor.
class YamlEvents : public YAML::EventHandler {
 public:
  YamlEvents(const SourcePtr& source, Diagnostics& diagnostics)
      : source_(source),
        diagnostics_(diagnostics),
        tree_(diagnostics),
        lines_(line_starts(source->text)) {}

  [[nodiscard]] const TreeBuilder& tree() const { return tree_; }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    tree_.add_null(place_of(source_, mark, 1));
    remember(anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const Place place = place_of(source_, mark, 1);
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      // yaml-cpp itself refuses unknown names, so this one is still being defined.
      diagnostics_.error(place, "cyclic-alias", "this alias stands inside what it stands for",
                         "write the value out");
      throw StopParsing{};
    }
    tree_.add_copy(place, *found->second);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    const bool quoted = tag == "!";  // plain scalars carry "?", quoted and block scalars "!"
    const Place place = place_of(source_, mark, value.size() + (quoted ? 2 : 0));
    refuse_tag(place, tag);
    refuse_open_quote(place, quoted);
    tree_.add_scalar(place, value, quoted);
    remember(anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlValue::Node::Kind::sequence);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlValue::Node::Kind::map);
  }
  void OnMapEnd() override { close(); }

 private:
  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
            YamlValue::Node::Kind kind) {
    const Place place = place_of(source_, mark, 1);
    refuse_tag(place, tag);
    if (!tree_.open(place, kind)) {
      throw StopParsing{};
    }
    open_anchors_.push_back(anchor);
  }

  void close() {
    tree_.close();
    remember(open_anchors_.back());
    open_anchors_.pop_back();
  }

  void remember(YAML::anchor_t anchor) {
    if (anchor != 0) {
      anchors_[anchor] = tree_.newest();
    }
  }

  void refuse_tag(const Place& place, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!") {
      diagnostics_.error(place, "yaml-tag", "YAML tags ('!...') are not used here",
                         "remove the tag; types follow from the keys");
    }
  }

  void refuse_open_quote(const Place& place, bool quoted) {
    if (!quoted || place.line <= 0 || static_cast<std::size_t>(place.line) > lines_.size()) {
      return;
    }
    const std::size_t line = lines_[static_cast<std::size_t>(place.line - 1)];
    if (lacks_closing_quote(source_->text, line + static_cast<std::size_t>(place.column - 1))) {
      diagnostics_.error({place.source, place.line, place.column, 1}, "open-quote",
                         "this quote is never closed", "close the quote on the same line");
      throw StopParsing{};
    }
  }

  SourcePtr source_;
  Diagnostics& diagnostics_;
  TreeBuilder tree_;
  std::vector<std::size_t> lines_;
  std::map<YAML::anchor_t, YamlValue::Node::Pointer> anchors_;
  std::vector<YAML::anchor_t> open_anchors_;
};

/// True if line `number` of the text is indented with a tab.
bool indented_with_tab(const std::string& text, int number) {
  std::istringstream lines(text);
  std::string line;
  for (int i = 0; i < number && std::getline(lines, line); ++i) {
  }
  const std::size_t first = line.find_first_not_of(" \t");
  return line.substr(0, first).find('\t') != std::string::npos;
}

void record_syntax_error(const SourcePtr& source, const YAML::Exception& error,
                         Diagnostics& diagnostics) {
  const Place place = place_of(source, error.mark, 1);
  if (place.line > 0 && indented_with_tab(source->text, place.line)) {
    diagnostics.error(place, "yaml-syntax", "a tab in the indentation",
                      "YAML is indented with spaces only");
    return;
  }
  diagnostics.error(
      place, "yaml-syntax", "not valid YAML: " + error.msg,
      "check the indentation, the brackets and the quotes of this line and the one above");
}

/// Where the second document starts, for the message; the handler of a document nobody reads.
class SurplusEvents : public YamlEvents {
 public:
  using YamlEvents::YamlEvents;
  void OnDocumentStart(const YAML::Mark& mark) override { start = mark; }
  YAML::Mark start;
};

void refuse_second_document(YAML::Parser& parser, const SourcePtr& source,
                            Diagnostics& diagnostics) {
  Diagnostics ignored;
  SurplusEvents surplus(source, ignored);
  bool found = true;
  try {
    found = parser.HandleNextDocument(surplus);
  } catch (const StopParsing&) {
  }
  if (found) {
    diagnostics.error(place_of(source, surplus.start, 1), "several-documents",
                      "a second YAML document starts here; only one is read",
                      "remove the '---' line or split the file");
  }
}

}  // namespace

std::optional<YamlValue> YamlValue::parse(const SourcePtr& source, Diagnostics& diagnostics) {
  std::istringstream stream(source->text);
  YamlEvents events(source, diagnostics);
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(events) || !events.tree().root() ||
        events.tree().root()->kind == Node::Kind::null) {
      diagnostics.error({source, 0, 0, 1}, "empty-input", "the file has no content",
                        "see `longhaul` without arguments for examples");
      return std::nullopt;
    }
    refuse_second_document(parser, source, diagnostics);
  } catch (const YAML::Exception& error) {
    record_syntax_error(source, error, diagnostics);
    return std::nullopt;
  } catch (const StopParsing&) {
    return std::nullopt;
  }
  return YamlValue(events.tree().root());
}

YamlValue::YamlValue(std::shared_ptr<const Node> node) : node_(std::move(node)) {}

bool YamlValue::is_map() const { return node_->kind == Node::Kind::map; }
bool YamlValue::is_sequence() const { return node_->kind == Node::Kind::sequence; }
bool YamlValue::is_scalar() const { return node_->kind == Node::Kind::scalar; }
bool YamlValue::is_null() const { return node_->kind == Node::Kind::null; }
std::string YamlValue::scalar() const { return node_->text; }
bool YamlValue::is_quoted() const { return node_->quoted; }
Place YamlValue::place() const { return node_->place; }
Place YamlValue::key_place() const { return node_->key_place.value_or(node_->place); }

std::vector<YamlValue> YamlValue::items() const {
  std::vector<YamlValue> out;
  for (const Node::Pointer& item : node_->items) {
    out.push_back(YamlValue(item));
  }
  return out;
}

std::vector<std::pair<std::string, YamlValue>> YamlValue::entries() const {
  std::vector<std::pair<std::string, YamlValue>> out;
  for (const auto& [key, value] : node_->entries) {
    out.emplace_back(key, YamlValue(value));
  }
  return out;
}

std::optional<YamlValue> YamlValue::find(const std::string& key) const {
  for (const auto& [name, value] : node_->entries) {
    if (name == key) {
      return YamlValue(value);
    }
  }
  return std::nullopt;
}

}  // namespace longhaul
