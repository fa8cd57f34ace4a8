// JSON to write: values put together key by key, printed the same way every time.
// (JSON to read becomes a YamlValue: see YamlValue::parse_json.)
#pragma once

#include <concepts>
#include <string>
#include <utility>
#include <vector>

namespace longhaul {

/// A JSON value under construction. Objects keep the order of insertion; integers are printed
/// exactly, other numbers in the shortest form that reads back as the same double. Strings must be
/// UTF-8. NaN, infinity and a repeated key are bugs of ours (check()).
class JsonValue {
 public:
  JsonValue() = default;  ///< null
  JsonValue(std::nullptr_t) {}
  JsonValue(bool value);
  JsonValue(double value);
  template <std::integral T>
  requires(!std::same_as<T, bool> && !std::same_as<T, char>) JsonValue(T value)
      : kind_(Kind::literal), text_(std::to_string(value)) {}
  JsonValue(std::string value);
  JsonValue(const char* value);
  /// A pointer is not a truth value.
  JsonValue(const void*) = delete;

  static JsonValue object();
  static JsonValue array();

  /// Adds a member to an object; returns the object.
  JsonValue& set(std::string key, JsonValue value);
  /// Adds an item to an array; returns the array.
  JsonValue& push(JsonValue value);
  /// The member of that name, or null.
  [[nodiscard]] const JsonValue* find(const std::string& key) const;

  /// One line, no spaces.
  [[nodiscard]] std::string dump() const;
  /// One member or item per line.
  [[nodiscard]] std::string dump_pretty(int indent = 2) const;

 private:
  enum class Kind { literal, string, array, object };
  void write(std::string& out, int indent, int depth) const;

  Kind kind_ = Kind::literal;
  std::string text_ = "null";  ///< a literal as printed, or a string before quoting
  std::vector<std::pair<std::string, JsonValue>> members_;
};

/// A string in JSON quotes, with what must be escaped escaped.
std::string json_quote(const std::string& text);

}  // namespace longhaul
