// A lenient look into the maps of a runs file. Private to sim/validation.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/input/yaml.h"
#include "sim/units/parse.h"

namespace longhaul {

// A lenient look into a map of a run: absent keys give the fallback. Runs come from many hands and
// carry keys that only people read; what is misspelt in a scored key is still an error.
class Look {
 public:
  Look(std::optional<YamlValue> map, Diagnostics& diagnostics)
      : map_(std::move(map)), diagnostics_(diagnostics) {}

  [[nodiscard]] std::optional<YamlValue> find(const std::string& key) const {
    return map_ && map_->is_map() ? map_->find(key) : std::nullopt;
  }
  [[nodiscard]] std::string text(const std::string& key, const std::string& fallback = "") const {
    const auto value = find(key);
    return value && value->is_scalar() ? value->scalar() : fallback;
  }
  /// The items of a list of words; a word alone is a list of one.
  [[nodiscard]] std::vector<std::string> texts(const std::string& key) const {
    std::vector<std::string> found;
    const auto value = find(key);
    if (value && value->is_scalar()) {
      found.push_back(value->scalar());
    } else if (value && value->is_sequence()) {
      for (const YamlValue& item : value->items()) {
        found.push_back(item.is_scalar() ? item.scalar() : "");
      }
    }
    return found;
  }
  [[nodiscard]] Diagnostics& diagnostics() const { return diagnostics_; }
  [[nodiscard]] bool flag(const std::string& key) const { return text(key) == "true"; }
  std::int64_t tokens(const std::string& key, std::int64_t fallback) const {
    const auto value = find(key);
    if (!value || !value->is_scalar()) {
      return fallback;
    }
    return checked(*value, parse_tokens(value->scalar()), fallback);
  }
  std::int64_t integer(const std::string& key, std::int64_t fallback) const {
    const auto value = find(key);
    if (!value || !value->is_scalar()) {
      return fallback;
    }
    return checked(*value, parse_integer(value->scalar()), fallback);
  }
  template <class T>
  T checked(const YamlValue& value, const Parsed<T>& parsed, T fallback) const {
    if (!parsed.ok()) {
      diagnostics_.error(value.place(), "bad-value", parsed.error, parsed.help);
      return fallback;
    }
    return parsed.value;
  }

 private:
  std::optional<YamlValue> map_;
  Diagnostics& diagnostics_;
};

/// The value of a word; nothing if the word is none of them.
template <class T>
std::optional<T> word(const std::string& text,
                      std::initializer_list<std::pair<const char*, T>> words) {
  for (const auto& [name, value] : words) {
    if (text == name) {
      return value;
    }
  }
  return std::nullopt;
}

}  // namespace longhaul
