// What is wrong with an input, and where: recorded, never thrown one by one,
// so that a user sees all the mistakes of a file at once.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace longhaul {

/// The text of one input (a file, standard input, a command line or a built-in preset).
struct SourceText {
  std::string name;  ///< as the user gave it: path, "<stdin>", "<command line>", "built-in: ..."
  std::string text;
};
using SourcePtr = std::shared_ptr<const SourceText>;

/// A place in a source. Lines and columns count from 1; 0 means "the whole file".
struct Place {
  SourcePtr source;
  int line = 0;
  int column = 0;
  int length = 1;  ///< columns to underline
};

enum class Severity { error, warning, note };

/// One message to the user. `code` is stable ("unknown-key"); `help` is the remedy.
struct Diagnostic {
  Severity severity = Severity::error;
  std::string code;
  std::string message;
  std::string help;
  Place place;
};

/// Collects the diagnostics of one stage.
class Diagnostics {
 public:
  void error(const Place& place, std::string code, std::string message, std::string help = "");
  void warning(const Place& place, std::string code, std::string message, std::string help = "");
  void note(const Place& place, std::string code, std::string message, std::string help = "");
  [[nodiscard]] bool has_errors() const { return error_count_ > 0; }
  [[nodiscard]] const std::vector<Diagnostic>& all() const { return all_; }
  void append(const Diagnostics& other);
  /// Throws InputError holding everything recorded so far, if any of it is an error.
  void throw_if_errors() const;

 private:
  void add(Diagnostic diagnostic);
  std::vector<Diagnostic> all_;
  int error_count_ = 0;
};

/// Thrown once at the end of a stage whose input was wrong (exit 2).
class InputError : public std::runtime_error {
 public:
  explicit InputError(Diagnostics diagnostics);
  [[nodiscard]] const Diagnostics& diagnostics() const { return diagnostics_; }

 private:
  Diagnostics diagnostics_;
};

/// Renders diagnostics sorted by place: "file:line:column: error: message", the
/// source line, a caret, "= help: ...", then a count. At most `limit` are shown.
std::string format_diagnostics(const Diagnostics& diagnostics, bool colour, int limit = 20);

/// The closest of `candidates` to `word` (edit distance, at most a third of its length), or "".
std::string closest_match(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace longhaul
