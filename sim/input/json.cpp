#include "sim/input/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "sim/input/value_node.h"
#include "sim/units/check.h"
#include "sim/units/format.h"

namespace longhaul {

namespace {

/// Reads the source and tells how far the parser has come, which nlohmann's events do not.
class CountingIterator {
 public:
  using difference_type = std::ptrdiff_t;
  using value_type = char;
  using pointer = const char*;
  using reference = const char&;
  using iterator_category = std::input_iterator_tag;

  CountingIterator(const char* at, std::size_t* consumed) : at_(at), consumed_(consumed) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*consumed_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  std::size_t* consumed_;
};

/// Turns nlohmann's events into our tree. An event fires when its token has been read, so the
/// token starts at the first character after the previous token that is not punctuation.
class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  JsonEvents(const SourcePtr& source, Diagnostics& diagnostics)
      : source_(source), diagnostics_(diagnostics), tree_(diagnostics) {}

  [[nodiscard]] const TreeBuilder& tree() const { return tree_; }
  std::size_t* consumed() { return &consumed_; }

  bool null() override {
    tree_.add_null(next_token(false));
    return true;
  }
  bool boolean(bool) override { return plain(); }
  bool number_integer(number_integer_t) override { return plain(); }
  bool number_unsigned(number_unsigned_t) override { return plain(); }
  bool number_float(number_float_t, const string_t&) override { return plain(); }
  bool string(string_t& value) override {
    const Place place = next_token(true);
    tree_.add_scalar(place, value, true);
    return true;
  }
  bool key(string_t& value) override { return string(value); }
  bool binary(binary_t&) override { return false; }  // not in JSON texts
  bool start_object(std::size_t) override { return open(YamlValue::Node::Kind::map); }
  bool start_array(std::size_t) override { return open(YamlValue::Node::Kind::sequence); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    const std::string what = error.what();  // "[...] parse error at line 1, column 2: WHY"
    const std::size_t colon = what.find(": ");
    const std::string why = colon == what.npos ? what : what.substr(colon + 2);
    diagnostics_.error(place_at(position > 0 ? position - 1 : 0, 1), "json-syntax",
                       "not valid JSON: " + why, "");
    return false;
  }

 private:
  [[nodiscard]] Place place_at(std::size_t offset, std::size_t length) const {
    const std::string& text = source_->text;
    const std::size_t at = std::min(offset, text.size());
    const auto begin = text.begin();
    const auto here = begin + static_cast<std::ptrdiff_t>(at);
    const auto line = 1 + std::count(begin, here, '\n');
    const std::size_t line_start = at == 0 ? 0 : text.rfind('\n', at - 1) + 1;  // npos + 1 is 0
    return {source_, static_cast<int>(line), static_cast<int>(at - line_start + 1),
            static_cast<int>(length)};
  }

  /// The place of the token that was just read.
  Place next_token(bool quoted) {
    const std::size_t start = source_->text.find_first_not_of(" \t\r\n,:{}[]", last_);
    const std::size_t end =
        quoted ? consumed_ : source_->text.find_first_of(" \t\r\n,:{}[]", start);
    last_ = std::min(end, source_->text.size());
    token_ = source_->text.substr(start, last_ - start);
    return place_at(start, last_ - start);
  }

  bool plain() {
    const Place place = next_token(false);
    tree_.add_scalar(place, token_, false);
    return true;
  }

  bool open(YamlValue::Node::Kind kind) {
    last_ = consumed_;
    return tree_.open(place_at(consumed_ - 1, 1), kind);
  }

  bool close() {
    tree_.close();
    return true;
  }

  SourcePtr source_;
  Diagnostics& diagnostics_;
  TreeBuilder tree_;
  std::size_t consumed_ = 0;  ///< characters the parser has taken
  std::size_t last_ = 0;      ///< end of the last token with a place
  std::string token_;
};

}  // namespace

std::optional<YamlValue> YamlValue::parse_json(const SourcePtr& source, Diagnostics& diagnostics) {
  const std::string& text = source->text;
  if (text.find_first_not_of(" \t\r\n") == text.npos) {
    diagnostics.error({source, 0, 0, 1}, "empty-input", "the file has no content", "");
    return std::nullopt;
  }
  JsonEvents events(source, diagnostics);
  const CountingIterator begin(text.data(), events.consumed());
  const CountingIterator end(text.data() + text.size(), events.consumed());
  if (!nlohmann::json::sax_parse(begin, end, &events) || !events.tree().root()) {
    return std::nullopt;
  }
  return YamlValue(events.tree().root());
}

JsonValue JsonValue::object() {
  JsonValue value;
  value.kind_ = Kind::object;
  return value;
}

JsonValue JsonValue::array() {
  JsonValue value;
  value.kind_ = Kind::array;
  return value;
}

JsonValue::JsonValue(bool value) : kind_(Kind::literal), text_(value ? "true" : "false") {}

JsonValue::JsonValue(double value) : kind_(Kind::literal) {
  check(std::isfinite(value), "JSON has no NaN and no infinity: a result must be a number or null");
  text_ = format_number(value);
}

JsonValue::JsonValue(std::string value) : kind_(Kind::string), text_(std::move(value)) {}
JsonValue::JsonValue(const char* value) : kind_(Kind::string), text_(value) {}

JsonValue& JsonValue::set(std::string key, JsonValue value) {
  check(kind_ == Kind::object, "only a JSON object has keys");
  check(find(key) == nullptr, "a JSON object names each key once");
  members_.emplace_back(std::move(key), std::move(value));
  return *this;
}

JsonValue& JsonValue::push(JsonValue value) {
  check(kind_ == Kind::array, "only a JSON array has items");
  members_.emplace_back("", std::move(value));
  return *this;
}

const JsonValue* JsonValue::find(const std::string& key) const {
  const auto found = std::find_if(members_.begin(), members_.end(), [&](const auto& member) {
    return kind_ == Kind::object && member.first == key;
  });
  return found == members_.end() ? nullptr : &found->second;
}

std::string json_quote(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (byte < 0x20 || byte == 0x7f) {
          out += fmt::format("\\u{:04x}", byte);
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

void JsonValue::write(std::string& out, int indent, int depth) const {
  if (kind_ == Kind::literal) {
    out += text_;
    return;
  }
  if (kind_ == Kind::string) {
    out += json_quote(text_);
    return;
  }
  const bool is_object = kind_ == Kind::object;
  const auto new_line = [&](int levels) {
    if (indent > 0) {
      out += '\n' + std::string(static_cast<std::size_t>(indent * levels), ' ');
    }
  };
  out += is_object ? '{' : '[';
  for (std::size_t i = 0; i < members_.size(); ++i) {
    out += i == 0 ? "" : ",";
    new_line(depth + 1);
    if (is_object) {
      out += json_quote(members_[i].first) + (indent > 0 ? ": " : ":");
    }
    members_[i].second.write(out, indent, depth + 1);
  }
  if (!members_.empty()) {
    new_line(depth);
  }
  out += is_object ? '}' : ']';
}

std::string JsonValue::dump() const {
  std::string out;
  write(out, 0, 0);
  return out;
}

std::string JsonValue::dump_pretty(int indent) const {
  std::string out;
  write(out, indent, 0);
  return out;
}

}  // namespace longhaul
