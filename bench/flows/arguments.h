// Workload arguments as `key=value` words: w=ring G=512 Tc=0.0025 jit=1.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace longhaul::bench {

/// A mistake in the arguments, in words for the user.
class ArgumentError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Words of a command line. Every key that was never asked for is a mistake (check_all_used).
class Arguments {
 public:
  explicit Arguments(const std::vector<std::string>& words);
  [[nodiscard]] std::string text(const std::string& key);
  /// Whole number within [least, most]; `fallback` where the key is absent.
  [[nodiscard]] std::int64_t integer(const std::string& key, std::int64_t fallback,
                                     std::int64_t least, std::int64_t most);
  /// Positive number; `fallback` where the key is absent.
  [[nodiscard]] double number(const std::string& key, double fallback);
  void check_all_used() const;

 private:
  struct Word {
    std::string value;
    bool used = false;
  };
  std::map<std::string, Word> words_;
};

}  // namespace longhaul::bench
