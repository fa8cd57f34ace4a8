#include <fmt/format.h>

#include "tests/tidy/rules.h"

namespace longhaul::tidy {

std::vector<Finding> check_all(const Tree& tree, const Rooms& rooms) {
  std::vector<Finding> findings;
  for (const auto& found : {check_includes(tree, rooms), check_third_party(tree),
                            check_function_length(tree), check_dead_files(tree), check_type_names(tree),
                            check_words(tree),
                            check_markdown(tree), check_architecture(tree, rooms)}) {
    findings.insert(findings.end(), found.begin(), found.end());
  }
  return findings;
}

std::string print_findings(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    text += fmt::format("{}:{}: error: {}\n", finding.path, finding.line, finding.message);
  }
  return text;
}

}  // namespace longhaul::tidy
