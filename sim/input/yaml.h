// Strict YAML: positions on everything, unknown and repeated keys refused,
// dimensions demanded. The only header through which other rooms see YAML.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/units/parse.h"
#include "sim/units/quantity.h"

namespace longhaul {

/// Reads a file into memory. Records an error (unreadable, a directory, binary
/// content, larger than 64 MiB) and returns nothing if it cannot be used as text.
std::optional<SourcePtr> read_source(const std::string& path, Diagnostics& diagnostics);

/// One value of a parsed document, with its place. Cheap to copy.
class YamlValue {
 public:
  /// Parses the first document. Records syntax errors, repeated keys anywhere in
  /// the document, empty input and surplus documents.
  static std::optional<YamlValue> parse(const SourcePtr& source, Diagnostics& diagnostics);

  /// Parses JSON into the same kind of value: strings count as quoted; numbers, booleans and null
  /// as plain. Records syntax errors, repeated keys and empty input.
  static std::optional<YamlValue> parse_json(const SourcePtr& source, Diagnostics& diagnostics);

  struct Node;  ///< private to sim/input

  [[nodiscard]] bool is_map() const;
  [[nodiscard]] bool is_sequence() const;
  [[nodiscard]] bool is_scalar() const;
  [[nodiscard]] bool is_null() const;
  /// The text of a scalar ("" for anything else).
  [[nodiscard]] std::string scalar() const;
  /// True if the scalar was written in quotes.
  [[nodiscard]] bool is_quoted() const;
  /// The items of a sequence.
  [[nodiscard]] std::vector<YamlValue> items() const;
  /// The entries of a map in file order: key and value.
  [[nodiscard]] std::vector<std::pair<std::string, YamlValue>> entries() const;
  /// The value of a key of a map, if present.
  [[nodiscard]] std::optional<YamlValue> find(const std::string& key) const;
  /// Where the value stands; for a null value, where its key stands.
  [[nodiscard]] Place place() const;
  /// Where the key of this value stands (the value's own place if it has no key).
  [[nodiscard]] Place key_place() const;

 private:
  explicit YamlValue(std::shared_ptr<const Node> node);
  std::shared_ptr<const Node> node_;
};

/// An integer range, both ends allowed.
struct IntegerRange {
  std::int64_t low = 0;
  std::int64_t high = INT64_MAX;
};

/// Reads one map key by key. Every getter without a default demands its key.
/// Mistakes are recorded and a harmless value is returned, so that reading goes on.
/// Call finish() last: it reports every key that nothing asked for, with a suggestion.
class MapReader {
 public:
  /// `what` names the map in messages ("cluster", "workload").
  MapReader(const YamlValue& map, std::string what, Diagnostics& diagnostics);

  [[nodiscard]] bool has(const std::string& key) const;
  [[nodiscard]] const YamlValue& value() const { return map_; }
  [[nodiscard]] Place place(const std::string& key) const;
  [[nodiscard]] Diagnostics& diagnostics() { return diagnostics_; }

  std::optional<YamlValue> child(const std::string& key);    ///< any value; optional
  std::optional<YamlValue> require(const std::string& key);  ///< any value; demanded

  std::string text(const std::string& key);
  std::string text(const std::string& key, const std::string& fallback);
  bool boolean(const std::string& key);
  bool boolean(const std::string& key, bool fallback);
  std::int64_t integer(const std::string& key, IntegerRange range);
  std::int64_t integer(const std::string& key, IntegerRange range, std::int64_t fallback);
  /// A plain number without dimension, low <= x <= high; NaN and infinity are refused.
  double number(const std::string& key, double low, double high);
  double number(const std::string& key, double low, double high, double fallback);
  /// A token count: 131072, 128k (k = 1024), 1M (M = 1024 k).
  std::int64_t tokens(const std::string& key);
  std::int64_t tokens(const std::string& key, std::int64_t fallback);
  Bytes bytes(const std::string& key);
  Bytes bytes(const std::string& key, Bytes fallback);
  Seconds seconds(const std::string& key);
  Seconds seconds(const std::string& key, Seconds fallback);
  BytesPerSecond bytes_per_second(const std::string& key);
  BytesPerSecond bytes_per_second(const std::string& key, BytesPerSecond fallback);
  FlopsPerSecond flops_per_second(const std::string& key);
  FlopsPerSecond flops_per_second(const std::string& key, FlopsPerSecond fallback);
  Hertz hertz(const std::string& key);
  Hertz hertz(const std::string& key, Hertz fallback);
  /// One word of a list; the error names the list and suggests the nearest. Returns its index.
  std::size_t choice(const std::string& key, const std::vector<std::string>& words);
  std::size_t choice(const std::string& key, const std::vector<std::string>& words,
                     std::size_t fallback);
  std::vector<std::string> texts(const std::string& key);  ///< list of scalars; absent = empty

  /// Marks keys as known without reading them.
  void ignore(const std::string& key);
  /// Keys of the map that nothing has asked for so far, in the file's order.
  [[nodiscard]] std::vector<std::string> unread() const;
  void finish();

 private:
  /// A scalar that is not null; records what is wrong otherwise. `demanded`: absence is an error.
  std::optional<YamlValue> scalar(const std::string& key, bool demanded);
  /// Reads a key with one of the units' parsers; `fallback` absent: the key is demanded.
  template <class T>
  T parsed(const std::string& key, Parsed<T> (*parse)(std::string_view), std::optional<T> fallback);
  bool read_boolean(const std::string& key, std::optional<bool> fallback);
  std::int64_t read_integer(const std::string& key, IntegerRange range,
                            std::optional<std::int64_t> fallback);
  double read_number(const std::string& key, double low, double high,
                     std::optional<double> fallback);
  std::size_t read_choice(const std::string& key, const std::vector<std::string>& words,
                          std::optional<std::size_t> fallback);
  void know(const std::string& key);

  YamlValue map_;
  std::string what_;
  Diagnostics& diagnostics_;
  std::vector<std::string> known_;
};

/// Profiles: `what` needs 'source' or 'from', an error otherwise; both, and 'note', are for people.
void demand_origin(MapReader& reader, const std::string& what = "a number of a profile");

}  // namespace longhaul
