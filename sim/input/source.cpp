// Files into memory, refusing early what cannot be text.
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string_view>
#include <system_error>

#include "sim/input/yaml.h"

namespace longhaul {

namespace {

constexpr std::size_t largest_source = std::size_t{64} << 20;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

/// Length of the UTF-8 sequence that starts with `lead`; 0 if none does.
std::size_t sequence_length(unsigned char lead) {
  if (lead < 0x80) {
    return 1;
  }
  if (lead >= 0xC2 && lead <= 0xDF) {
    return 2;
  }
  if (lead >= 0xE0 && lead <= 0xEF) {
    return 3;
  }
  return lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
}

/// True if the text is UTF-8 without NUL. (Overlong three- and four-byte forms and surrogates pass:
/// the question here is text or not, not which text.)
bool is_text(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = sequence_length(static_cast<unsigned char>(text[at]));
    if (length == 0 || text[at] == '\0' || at + length > text.size()) {
      return false;
    }
    for (std::size_t i = 1; i < length; ++i) {
      if ((static_cast<unsigned char>(text[at + i]) & 0xC0) != 0x80) {
        return false;
      }
    }
    at += length;
  }
  return true;
}

/// Reads until the end or one byte beyond the limit (so that /dev/zero ends, too). False on error.
bool read_all(std::FILE* file, std::string& text) {
  constexpr std::size_t piece = std::size_t{1} << 16;
  while (text.size() <= largest_source) {
    const std::size_t before = text.size();
    text.resize(before + piece);
    const std::size_t got = std::fread(text.data() + before, 1, piece, file);
    text.resize(before + got);
    if (got < piece) {
      break;
    }
  }
  return std::ferror(file) == 0;
}

std::optional<std::string> read_file(const std::string& path, const Place& whole,
                                     Diagnostics& diagnostics) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    diagnostics.error(whole, "unreadable", "is a directory, not a file",
                      "give the path of a file inside it");
    return std::nullopt;
  }
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rb"));
  std::string text;
  if (!file || !read_all(file.get(), text)) {
    const std::error_code why(errno, std::generic_category());
    diagnostics.error(whole, "unreadable", "cannot be read: " + why.message(),
                      "check the path and its permissions");
    return std::nullopt;
  }
  return text;
}

}  // namespace

std::optional<SourcePtr> read_source(const std::string& path, Diagnostics& diagnostics) {
  const Place whole{std::make_shared<SourceText>(SourceText{path, ""}), 0, 0, 1};
  std::optional<std::string> text = read_file(path, whole, diagnostics);
  if (!text) {
    return std::nullopt;
  }
  if (text->size() > largest_source) {
    diagnostics.error(whole, "too-large", "is larger than 64 MiB", "is this the right file?");
    return std::nullopt;
  }
  if (!is_text(*text)) {
    diagnostics.error(whole, "binary", "is not a text file (it is not UTF-8, or holds NUL bytes)",
                      "is this the right file? YAML and JSON are UTF-8 text");
    return std::nullopt;
  }
  if (text->starts_with("\xEF\xBB\xBF")) {
    text->erase(0, 3);  // a byte order mark would shift the columns of line 1
  }
  return std::make_shared<const SourceText>(SourceText{path, std::move(*text)});
}

}  // namespace longhaul
