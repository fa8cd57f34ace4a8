#include "bench/flows/arguments.h"

#include <charconv>
#include <cmath>

namespace longhaul::bench {

Arguments::Arguments(const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw ArgumentError("'" + word + "' is not of the form key=value");
    }
    if (!words_.emplace(word.substr(0, equals), Word{word.substr(equals + 1)}).second) {
      throw ArgumentError("'" + word.substr(0, equals) + "' is given twice");
    }
  }
}

std::string Arguments::text(const std::string& key) {
  const auto found = words_.find(key);
  if (found == words_.end()) {
    return {};
  }
  found->second.used = true;
  return found->second.value;
}

std::int64_t Arguments::integer(const std::string& key, std::int64_t fallback, std::int64_t least,
                                std::int64_t most) {
  const std::string value = text(key);
  if (value.empty()) {
    return fallback;
  }
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < least ||
      number > most) {
    throw ArgumentError(key + "=" + value + ": want a whole number from " + std::to_string(least) +
                        " to " + std::to_string(most));
  }
  return number;
}

double Arguments::number(const std::string& key, double fallback) {
  const std::string value = text(key);
  if (value.empty()) {
    return fallback;
  }
  double number = 0.0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  const bool whole = error == std::errc() && end == value.data() + value.size();
  if (!whole || !std::isfinite(number) || number < 0.0) {
    throw ArgumentError(key + "=" + value + ": want a number of at least 0");
  }
  return number;
}

void Arguments::check_all_used() const {
  for (const auto& [key, word] : words_) {
    if (!word.used) {
      throw ArgumentError("this workload knows no '" + key + "'");
    }
  }
}

}  // namespace longhaul::bench
