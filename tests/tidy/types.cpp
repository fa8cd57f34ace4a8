// The rule on names of types that stand in headers.
#include <sstream>

#include "tests/tidy/rules.h"

namespace longhaul::tidy {

namespace {

// The type that a line at the left margin begins to define or declare; empty: none.
std::string type_named(const std::string& line) {
  std::istringstream words(line);
  std::string word;
  words >> word;
  const bool type = line.rfind("struct ", 0) == 0 || line.rfind("class ", 0) == 0 ||
                    line.rfind("enum class ", 0) == 0;
  if (!type) return {};
  while (words >> word && word == "class") {
  }
  if (word.find("::") != std::string::npos) return {};  // a member of another type
  return word.substr(0, word.find_first_of(":;{"));
}

// True if a brace opens before the statement that begins on this line ends.
bool is_defined(const std::vector<std::string>& code, std::size_t line) {
  for (; line < code.size(); ++line) {
    const std::size_t end = code[line].find_first_of("{;");
    if (end != std::string::npos) return code[line][end] == '{';
  }
  return false;
}

std::string namespace_named(const std::string& line, const std::string& current) {
  const std::string opening = "namespace ";
  if (line.rfind(opening, 0) != 0) return current;
  return line.substr(opening.size(), line.find(" {") - opening.size());
}

}  // namespace

std::vector<Finding> check_type_names(const Tree& tree) {
  std::map<std::string, std::string> home;  // by name with its namespace: the first header
  std::vector<Finding> findings;
  for (const TextFile& file : tree) {
    // Benches are programs of their own.
    if (!is_header(file.path) || file.path.rfind("bench/", 0) == 0) continue;
    std::string space;
    for (std::size_t line = 0; line < file.code.size(); ++line) {
      space = namespace_named(file.code[line], space);
      const std::string name = type_named(file.code[line]);
      if (name.empty() || !is_defined(file.code, line)) continue;
      const auto [known, first] = home.emplace(space + "::" + name, file.path);
      if (!first) {
        findings.push_back({file.path, static_cast<int>(line) + 1,
                            "a type " + name + " is defined in " + known->second +
                                " as well: two types of one name in one program"});
      }
    }
  }
  return findings;
}

}  // namespace longhaul::tidy
