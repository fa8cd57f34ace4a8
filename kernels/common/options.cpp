#include "kernels/common/options.h"

#include <charconv>
#include <cstring>
#include <random>
#include <string_view>

namespace longhaul::kernels {

namespace {

constexpr const char* usage = " (usage: PROGRAM [--seed N] [--out DIR] [--quick])";

std::uint64_t parse_seed(std::string_view text) {
  std::uint64_t seed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw UsageError("--seed takes a whole number, not '" + std::string(text) + "'" + usage);
  }
  return seed;
}

}  // namespace

Options read_options(int argc, const char* const* argv) {
  Options options;
  options.seed = std::random_device{}();
  for (int i = 0; i < argc; ++i) options.command += (i > 0 ? " " : "") + std::string(argv[i]);
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--quick") {
      options.quick = true;
      continue;
    }
    if (word != "--seed" && word != "--out") {
      throw UsageError("unknown option '" + std::string(word) + "'" + usage);
    }
    if (++i == argc) throw UsageError(std::string(word) + " takes a value" + usage);
    if (word == "--seed") options.seed = parse_seed(argv[i]);
    if (word == "--out") options.out = argv[i];
  }
  return options;
}

}  // namespace longhaul::kernels
