#include "sim/input/diagnostic.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <numeric>
#include <string_view>
#include <tuple>
#include <utility>

namespace longhaul {

void Diagnostics::add(Diagnostic diagnostic) {
  error_count_ += diagnostic.severity == Severity::error ? 1 : 0;
  all_.push_back(std::move(diagnostic));
}

void Diagnostics::error(const Place& place, std::string code, std::string message,
                        std::string help) {
  add({Severity::error, std::move(code), std::move(message), std::move(help), place});
}

void Diagnostics::warning(const Place& place, std::string code, std::string message,
                          std::string help) {
  add({Severity::warning, std::move(code), std::move(message), std::move(help), place});
}

void Diagnostics::note(const Place& place, std::string code, std::string message,
                       std::string help) {
  add({Severity::note, std::move(code), std::move(message), std::move(help), place});
}

void Diagnostics::append(const Diagnostics& other) {
  // By index and with the size taken first: `other` may be this very object.
  const std::size_t count = other.all_.size();
  for (std::size_t i = 0; i < count; ++i) {
    add(Diagnostic(other.all_[i]));
  }
}

void Diagnostics::throw_if_errors() const {
  if (has_errors()) {
    throw InputError(*this);
  }
}

InputError::InputError(Diagnostics diagnostics)
    : std::runtime_error(format_diagnostics(diagnostics, false)),
      diagnostics_(std::move(diagnostics)) {}

namespace {

struct Colours {
  const char* severity = "";
  const char* bold = "";
  const char* caret = "";
  const char* reset = "";
};

Colours colours_for(Severity severity, bool colour) {
  if (!colour) {
    return {};
  }
  const char* tone = severity == Severity::error     ? "\x1b[1;31m"
                     : severity == Severity::warning ? "\x1b[1;33m"
                                                     : "\x1b[1;36m";
  return {tone, "\x1b[1m", "\x1b[1;32m", "\x1b[0m"};
}

const char* severity_word(Severity severity) {
  switch (severity) {
    case Severity::warning:
      return "warning";
    case Severity::note:
      return "note";
    case Severity::error:
      break;
  }
  return "error";
}

/// Text that came from a file, made safe to print: control characters (which could drive a
/// terminal) become "\xNN". Tabs stay where `keep_tabs` says so, since carets line up by them.
std::string printable(std::string_view text, bool keep_tabs) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if ((byte < 0x20 && !(c == '\t' && keep_tabs)) || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

/// The text of line `number` (from 1) without its end; empty beyond the last.
std::string_view line_of(std::string_view text, int number) {
  for (int line = 1; line < number; ++line) {
    const std::size_t end = text.find('\n');
    if (end == text.npos) {
      return {};
    }
    text.remove_prefix(end + 1);
  }
  std::string_view line = text.substr(0, text.find('\n'));
  if (line.ends_with('\r')) {
    line.remove_suffix(1);
  }
  return line;
}

bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

/// Moves an offset back to the start of the UTF-8 character it falls into.
std::size_t character_start(std::string_view line, std::size_t at) {
  at = std::min(at, line.size());
  while (at > 0 && at < line.size() && !starts_character(line[at])) {
    --at;
  }
  return at;
}

std::size_t characters_in(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), starts_character));
}

/// A line of the source around the bytes [begin, end) to underline.
struct Excerpt {
  std::string line;
  std::string underline;
};

/// Cuts a long line (JSON may be one line) to what surrounds the caret.
Excerpt excerpt(std::string_view line, int column, int length) {
  constexpr std::size_t before = 60;
  constexpr std::size_t most = 100;
  const std::size_t begin =
      character_start(line, static_cast<std::size_t>(std::max(column - 1, 0)));
  std::size_t first = begin > before && line.size() > most ? begin - before : 0;
  first = character_start(line, first);
  const std::size_t last = character_start(line, std::min(line.size(), first + most));
  const std::size_t end =
      character_start(line, std::min(last, begin + static_cast<std::size_t>(std::max(length, 1))));
  Excerpt out;
  const std::string dots = first > 0 ? "..." : "";
  out.line =
      dots + printable(line.substr(first, last - first), true) + (last < line.size() ? "..." : "");
  out.underline = std::string(dots.size(), ' ');
  for (const char c : printable(line.substr(first, begin - first), true)) {
    if (starts_character(c)) {
      out.underline += c == '\t' ? '\t' : ' ';
    }
  }
  const std::size_t marked = characters_in(line.substr(begin, end > begin ? end - begin : 0));
  out.underline += '^' + std::string(marked > 1 ? marked - 1 : 0, '~');
  return out;
}

std::string position(const Place& place) {
  if (!place.source) {
    return "";
  }
  const std::string name = printable(place.source->name, false);
  if (place.line <= 0) {
    return name + ": ";
  }
  return fmt::format("{}:{}:{}: ", name, place.line, std::max(place.column, 1));
}

std::string format_one(const Diagnostic& diagnostic, bool colour) {
  const Place& place = diagnostic.place;
  const Colours tone = colours_for(diagnostic.severity, colour);
  std::string out = fmt::format("{}{}{}{}{}: {}{}\n", tone.bold, position(place), tone.reset,
                                tone.severity, severity_word(diagnostic.severity), tone.reset,
                                printable(diagnostic.message, false));
  if (place.source && place.line > 0 && !place.source->text.empty()) {
    const Excerpt shown =
        excerpt(line_of(place.source->text, place.line), place.column, place.length);
    out += fmt::format("{:>5} | {}\n", place.line, shown.line);
    out += fmt::format("{:>5} | {}{}{}\n", "", tone.caret, shown.underline, tone.reset);
  }
  if (!diagnostic.help.empty()) {
    out += fmt::format("{:>5} = help: {}\n", "", printable(diagnostic.help, false));
  }
  return out;
}

/// Names of the sources in order of appearance.
std::vector<std::string> source_names(const std::vector<Diagnostic>& all) {
  std::vector<std::string> names;
  for (const Diagnostic& diagnostic : all) {
    const std::string name = diagnostic.place.source ? diagnostic.place.source->name : "";
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(name);
    }
  }
  return names;
}

/// The diagnostics by file (in order of appearance), line and column.
std::vector<Diagnostic> sorted(const std::vector<Diagnostic>& all,
                               const std::vector<std::string>& names) {
  const auto key = [&](const Diagnostic& diagnostic) {
    const std::string name = diagnostic.place.source ? diagnostic.place.source->name : "";
    const auto file = std::find(names.begin(), names.end(), name) - names.begin();
    return std::tuple(file, diagnostic.place.line, diagnostic.place.column);
  };
  std::vector<Diagnostic> out = all;
  std::stable_sort(out.begin(), out.end(),
                   [&](const Diagnostic& a, const Diagnostic& b) { return key(a) < key(b); });
  return out;
}

/// "2 errors and 1 warning in FILE".
std::string count_line(const std::vector<Diagnostic>& all, const std::vector<std::string>& names) {
  std::string out;
  for (const Severity severity : {Severity::error, Severity::warning}) {
    const auto count = std::count_if(all.begin(), all.end(), [&](const Diagnostic& diagnostic) {
      return diagnostic.severity == severity;
    });
    if (count > 0) {
      out += fmt::format("{}{} {}{}", out.empty() ? "" : " and ", count, severity_word(severity),
                         count == 1 ? "" : "s");
    }
  }
  if (out.empty()) {
    return out;
  }
  if (names.size() > 1) {
    return fmt::format("{} in {} files\n", out, names.size());
  }
  const std::string where = names.front().empty() ? "" : " in " + printable(names.front(), false);
  return out + where + "\n";
}

}  // namespace

std::string format_diagnostics(const Diagnostics& diagnostics, bool colour, int limit) {
  if (diagnostics.all().empty()) {
    return "";
  }
  const std::vector<std::string> names = source_names(diagnostics.all());
  const std::vector<Diagnostic> all = sorted(diagnostics.all(), names);
  const std::size_t shown = std::min(all.size(), static_cast<std::size_t>(std::max(limit, 0)));
  std::string out;
  for (std::size_t i = 0; i < shown; ++i) {
    out += format_one(all[i], colour);
  }
  if (shown < all.size()) {
    out += fmt::format("... and {} more\n", all.size() - shown);
  }
  return out + count_line(all, names);
}

namespace {

std::string lower_case(const std::string& word) {
  std::string out = word;
  std::transform(out.begin(), out.end(), out.begin(), [](char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  return out;
}

/// Damerau-Levenshtein distance (optimal string alignment): insertions, deletions, substitutions
/// and swaps of neighbours count 1 each.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> two_ago(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::vector<std::size_t> now(b.size() + 1, i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, substituted});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        now[j] = std::min(now[j], two_ago[j - 2] + 1);
      }
    }
    two_ago = std::exchange(last, std::move(now));
  }
  return last[b.size()];
}

}  // namespace

std::string closest_match(const std::string& word, const std::vector<std::string>& candidates) {
  // Longer words than any name of ours are not misspellings, and the distance is quadratic.
  if (word.size() > 100) {
    return "";
  }
  std::string best;
  std::size_t best_distance = word.size() / 3;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(lower_case(word), lower_case(candidate));
    if (distance < best_distance || (distance == best_distance && best.empty())) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace longhaul
