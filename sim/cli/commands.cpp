// The plain list of commands.
#include "sim/cli/command.h"

namespace longhaul {

std::vector<std::unique_ptr<Command>> make_commands() {
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(make_predict());
  commands.push_back(make_compare());
  commands.push_back(make_check());
  commands.push_back(make_list());
  commands.push_back(make_show());
  commands.push_back(make_topology());
  commands.push_back(make_validate());
  return commands;
}

void fail_usage(const std::string& message, const std::string& help) {
  Diagnostics diagnostics;
  diagnostics.error({}, "usage", message, help);
  throw InputError(diagnostics);
}

}  // namespace longhaul
