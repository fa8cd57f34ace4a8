#include <fmt/format.h>

#include <algorithm>

#include "sim/input/yaml.h"
#include "sim/units/format.h"

namespace longhaul {

namespace {

/// All words: "a, b or c" (`last` = " or ").
std::string joined(const std::vector<std::string>& words, const char* last) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const char* between = i == 0 ? "" : i + 1 == words.size() ? last : ", ";
    out += between + words[i];
  }
  return out;
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string nearest = closest_match(word, candidates);
  return nearest.empty() ? "" : fmt::format("did you mean '{}'?", nearest);
}

const char* kind_of(const YamlValue& value) {
  return value.is_map() ? "a map" : value.is_sequence() ? "a list" : "a single value";
}

}  // namespace

MapReader::MapReader(const YamlValue& map, std::string what, Diagnostics& diagnostics)
    : map_(map), what_(std::move(what)), diagnostics_(diagnostics) {
  if (!map_.is_map()) {
    diagnostics_.error(
        map_.place(), "not-a-map",
        fmt::format("{} must be a map of 'key: value' lines{}", what_,
                    map_.is_null() ? ", but is empty" : fmt::format(", not {}", kind_of(map_))));
  }
}

bool MapReader::has(const std::string& key) const { return map_.find(key).has_value(); }

Place MapReader::place(const std::string& key) const {
  const std::optional<YamlValue> value = map_.find(key);
  return value ? value->place() : map_.key_place();
}

void MapReader::know(const std::string& key) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
    known_.push_back(key);
  }
}

std::optional<YamlValue> MapReader::child(const std::string& key) {
  know(key);
  return map_.find(key);
}

std::optional<YamlValue> MapReader::require(const std::string& key) {
  const std::optional<YamlValue> value = child(key);
  // What is no map at all has been reported once, by the constructor.
  if (!value && map_.is_map()) {
    diagnostics_.error(map_.key_place(), "missing-key", fmt::format("{} has no '{}'", what_, key),
                       fmt::format("add '{}: ...'", key));
  }
  return value;
}

std::optional<YamlValue> MapReader::scalar(const std::string& key, bool demanded) {
  const std::optional<YamlValue> value = demanded ? require(key) : child(key);
  if (!value || value->is_scalar()) {
    return value;
  }
  if (value->is_null()) {
    diagnostics_.error(value->key_place(), "no-value", fmt::format("'{}' has no value", key),
                       demanded ? "write a value after the colon"
                                : "write a value after the colon, or remove the key");
  } else {
    diagnostics_.error(value->place(), "wrong-type",
                       fmt::format("'{}' wants a single value, not {}", key, kind_of(*value)));
  }
  return std::nullopt;
}

template <class T>
T MapReader::parsed(const std::string& key, Parsed<T> (*parse)(std::string_view),
                    std::optional<T> fallback) {
  const T harmless = fallback.value_or(T{});
  const std::optional<YamlValue> value = scalar(key, !fallback);
  if (!value) {
    return harmless;
  }
  const Parsed<T> result = parse(value->scalar());
  if (!result.ok()) {
    diagnostics_.error(value->place(), "bad-value", fmt::format("'{}' {}", key, result.error),
                       result.help);
    return harmless;
  }
  // "80 GiB" may be quoted, "8" may not: a quoted number is a text to every other reader of YAML.
  if (value->is_quoted() && parse_number(value->scalar()).ok()) {
    diagnostics_.error(
        value->place(), "bad-value",
        fmt::format("'{}' wants a number, got the text \"{}\"", key, value->scalar()),
        "remove the quotes");
    return harmless;
  }
  return result.value;
}

std::string MapReader::text(const std::string& key) {
  const std::optional<YamlValue> value = scalar(key, true);
  return value ? value->scalar() : "";
}

std::string MapReader::text(const std::string& key, const std::string& fallback) {
  const std::optional<YamlValue> value = scalar(key, false);
  return value ? value->scalar() : fallback;
}

bool MapReader::read_boolean(const std::string& key, std::optional<bool> fallback) {
  const bool harmless = fallback.value_or(false);
  const std::optional<YamlValue> value = scalar(key, !fallback);
  if (!value) {
    return harmless;
  }
  const std::string word = value->scalar();
  if (!value->is_quoted() && (word == "true" || word == "false")) {
    return word == "true";
  }
  diagnostics_.error(
      value->place(), "bad-value", fmt::format("'{}' wants true or false, got '{}'", key, word),
      value->is_quoted() ? "write true or false without quotes" : "write true or false");
  return harmless;
}

bool MapReader::boolean(const std::string& key) { return read_boolean(key, std::nullopt); }
bool MapReader::boolean(const std::string& key, bool fallback) {
  return read_boolean(key, fallback);
}

std::int64_t MapReader::read_integer(const std::string& key, IntegerRange range,
                                     std::optional<std::int64_t> fallback) {
  const std::size_t errors_before = diagnostics_.all().size();
  const std::int64_t harmless = fallback.value_or(range.low);
  const std::int64_t value = parsed<std::int64_t>(key, parse_integer, fallback);
  if (!has(key) || diagnostics_.all().size() != errors_before) {
    return harmless;
  }
  if (value >= range.low && value <= range.high) {
    return value;
  }
  const std::string wanted = range.high == INT64_MAX
                                 ? fmt::format("at least {}", range.low)
                                 : fmt::format("between {} and {}", range.low, range.high);
  diagnostics_.error(place(key), "out-of-range",
                     fmt::format("'{}' must be {}, got {}", key, wanted, value));
  return harmless;
}

std::int64_t MapReader::integer(const std::string& key, IntegerRange range) {
  return read_integer(key, range, std::nullopt);
}
std::int64_t MapReader::integer(const std::string& key, IntegerRange range, std::int64_t fallback) {
  return read_integer(key, range, fallback);
}

double MapReader::read_number(const std::string& key, double low, double high,
                              std::optional<double> fallback) {
  const std::size_t errors_before = diagnostics_.all().size();
  const double harmless = fallback.value_or(low);
  const double value = parsed<double>(key, parse_number, fallback);
  if (!has(key) || diagnostics_.all().size() != errors_before) {
    return harmless;
  }
  if (value >= low && value <= high) {
    return value;
  }
  diagnostics_.error(place(key), "out-of-range",
                     fmt::format("'{}' must be between {} and {}, got {}", key, format_number(low),
                                 format_number(high), format_number(value)));
  return harmless;
}

double MapReader::number(const std::string& key, double low, double high) {
  return read_number(key, low, high, std::nullopt);
}
double MapReader::number(const std::string& key, double low, double high, double fallback) {
  return read_number(key, low, high, fallback);
}

std::int64_t MapReader::tokens(const std::string& key) {
  const std::int64_t count = parsed<std::int64_t>(key, parse_tokens, std::nullopt);
  return std::max<std::int64_t>(count, 1);
}
std::int64_t MapReader::tokens(const std::string& key, std::int64_t fallback) {
  return parsed<std::int64_t>(key, parse_tokens, fallback);
}

Bytes MapReader::bytes(const std::string& key) {
  return parsed<Bytes>(key, parse_bytes, std::nullopt);
}
Bytes MapReader::bytes(const std::string& key, Bytes fallback) {
  return parsed<Bytes>(key, parse_bytes, fallback);
}
Seconds MapReader::seconds(const std::string& key) {
  return parsed<Seconds>(key, parse_seconds, std::nullopt);
}
Seconds MapReader::seconds(const std::string& key, Seconds fallback) {
  return parsed<Seconds>(key, parse_seconds, fallback);
}
BytesPerSecond MapReader::bytes_per_second(const std::string& key) {
  return parsed<BytesPerSecond>(key, parse_bytes_per_second, std::nullopt);
}
BytesPerSecond MapReader::bytes_per_second(const std::string& key, BytesPerSecond fallback) {
  return parsed<BytesPerSecond>(key, parse_bytes_per_second, fallback);
}
FlopsPerSecond MapReader::flops_per_second(const std::string& key) {
  return parsed<FlopsPerSecond>(key, parse_flops_per_second, std::nullopt);
}
FlopsPerSecond MapReader::flops_per_second(const std::string& key, FlopsPerSecond fallback) {
  return parsed<FlopsPerSecond>(key, parse_flops_per_second, fallback);
}
Hertz MapReader::hertz(const std::string& key) {
  return parsed<Hertz>(key, parse_hertz, std::nullopt);
}
Hertz MapReader::hertz(const std::string& key, Hertz fallback) {
  return parsed<Hertz>(key, parse_hertz, fallback);
}

std::size_t MapReader::read_choice(const std::string& key, const std::vector<std::string>& words,
                                   std::optional<std::size_t> fallback) {
  const std::size_t harmless = fallback.value_or(0);
  const std::optional<YamlValue> value = scalar(key, !fallback);
  if (!value) {
    return harmless;
  }
  const auto found = std::find(words.begin(), words.end(), value->scalar());
  if (found != words.end()) {
    return static_cast<std::size_t>(found - words.begin());
  }
  diagnostics_.error(
      value->place(), "unknown-word",
      fmt::format("'{}' must be {}, got '{}'", key, joined(words, " or "), value->scalar()),
      did_you_mean(value->scalar(), words));
  return harmless;
}

std::size_t MapReader::choice(const std::string& key, const std::vector<std::string>& words) {
  return read_choice(key, words, std::nullopt);
}
std::size_t MapReader::choice(const std::string& key, const std::vector<std::string>& words,
                              std::size_t fallback) {
  return read_choice(key, words, fallback);
}

std::vector<std::string> MapReader::texts(const std::string& key) {
  std::vector<std::string> out;
  const std::optional<YamlValue> list = child(key);
  if (!list) {
    return out;
  }
  if (!list->is_sequence()) {
    diagnostics_.error(list->place(), "wrong-type",
                       fmt::format("'{}' wants a list, such as [a, b]", key));
    return out;
  }
  for (const YamlValue& item : list->items()) {
    if (item.is_scalar()) {
      out.push_back(item.scalar());
    } else {
      diagnostics_.error(item.place(), "wrong-type",
                         fmt::format("'{}' wants a list of single values", key));
    }
  }
  return out;
}

void MapReader::ignore(const std::string& key) { know(key); }

std::vector<std::string> MapReader::unread() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : map_.entries()) {
    if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
      keys.push_back(key);
    }
  }
  return keys;
}

void MapReader::finish() {
  for (const auto& [key, value] : map_.entries()) {
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) {
      continue;
    }
    std::string help = did_you_mean(key, known_);
    if (help.empty()) {
      help = "known keys: " + joined(known_, ", ");
    }
    diagnostics_.error(value.key_place(), "unknown-key",
                       fmt::format("unknown key '{}' in {}", key, what_), help);
  }
}

void demand_origin(MapReader& reader, const std::string& what) {
  if (!reader.has("source") && !reader.has("from")) {
    reader.diagnostics().error(reader.value().place(), "missing-origin", what + " needs its origin",
                               "add 'source:' (a publication) or 'from:' (measurements)");
  }
  reader.ignore("source");
  reader.ignore("from");
  reader.ignore("note");
}

}  // namespace longhaul
