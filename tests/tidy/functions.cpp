// The rule on the length of functions: a scan of braces, not a parser.
#include <cctype>
#include <sstream>
#include <string>

#include <fmt/format.h>

#include "tests/tidy/rules.h"

namespace longhaul::tidy {

namespace {

// `text` without what stands between parentheses.
std::string outside_parentheses(const std::string& text) {
  std::string out;
  int depth = 0;
  for (const char c : text) {
    if (c == '(') ++depth;
    if (depth == 0) out += c;
    if (c == ')') --depth;
  }
  return out;
}

// `header` without a leading `template <...>`.
std::string without_template(const std::string& header) {
  if (!header.starts_with("template")) return header;
  int depth = 0;
  for (std::size_t at = 0; at < header.size(); ++at) {
    if (header[at] == '<') ++depth;
    if (header[at] == '>' && --depth == 0)
      return without_template(header.substr(header.find_first_not_of(' ', at + 1)));
  }
  return header;
}

// Does `header` open a namespace or a type?
bool begins_scope(const std::string& header) {
  std::istringstream words(header);
  std::string word;
  while (words >> word && (word == "inline" || word == "static" || word == "constexpr")) {
  }
  return word == "namespace" || word == "class" || word == "struct" || word == "union" ||
         word == "enum";
}

// Does the text before a '{' (since the last ';', '{' or '}') begin a function or a lambda?
bool begins_function(const std::string& text) {
  const std::string header = without_template(text);
  if (header.find('(') == std::string::npos || begins_scope(header)) return false;
  const std::string outside = outside_parentheses(header);
  const std::size_t equals = outside.find('=');
  if (equals == std::string::npos || outside.find("operator") != std::string::npos) return true;
  const std::size_t value = outside.find_first_not_of(" =", equals);
  return value != std::string::npos && outside[value] == '[';  // a named lambda, not a table
}

struct Function {
  int first_line = 0;
  int last_line = 0;
};

// Walks the code once and collects the outermost functions; lambdas count as part of theirs.
class FunctionFinder {
 public:
  std::vector<Function> find(const std::vector<std::string>& code) {
    for (std::size_t i = 0; i < code.size(); ++i) {
      line_ = static_cast<int>(i) + 1;
      for (const char c : code[i]) read(c);
      read(' ');
    }
    return functions_;
  }

 private:
  void read(char c) {
    if (depth_ > 0) {
      read_inside(c);
    } else if (c == '{') {
      open();
    } else if (c == ';' || c == '}') {
      end_header();
    } else {
      extend_header(c);
    }
  }

  void read_inside(char c) {
    if (c == '{') ++depth_;
    if (c != '}' || --depth_ > 0) return;
    functions_.back().last_line = line_;
    end_header();
    after_function_ = true;
  }

  void open() {
    // `Point(int x) : x_{x}, y_{0} {`: the first brace opens no body. A block that follows a block
    // at once, or after a comma, belongs to the same function.
    const bool goes_on = after_function_ && (header_.empty() || header_.front() == ',');
    if (!goes_on && begins_function(header_)) functions_.push_back({header_line_, line_});
    if (goes_on || begins_function(header_)) depth_ = 1;
    end_header();
  }

  void extend_header(char c) {
    const bool space = std::isspace(static_cast<unsigned char>(c)) != 0;
    if (header_.empty() && space) return;
    if (header_.empty()) header_line_ = line_;
    header_ += space ? ' ' : c;
    if (header_ == "public:" || header_ == "protected:" || header_ == "private:") header_.clear();
  }

  void end_header() {
    header_.clear();
    after_function_ = false;
  }

  std::vector<Function> functions_;
  std::string header_;   // code since the last ';', '{' or '}', outside functions
  int header_line_ = 0;  // where it begins
  int line_ = 0;
  int depth_ = 0;                // of braces in a function; 0 outside
  bool after_function_ = false;  // nothing but `header_` since a function's '}'
};

}  // namespace

std::vector<Finding> check_function_length(const Tree& tree) {
  std::vector<Finding> findings;
  for (const TextFile& file : tree) {
    for (const Function& function : FunctionFinder().find(file.code)) {
      const int length = function.last_line - function.first_line + 1;
      if (length <= longest_function) continue;
      findings.push_back(
          {file.path, function.first_line,
           fmt::format("function of {} lines; split it at {}", length, longest_function)});
    }
  }
  return findings;
}

}  // namespace longhaul::tidy
