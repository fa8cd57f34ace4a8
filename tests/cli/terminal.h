// Runs the real program on a pseudo-terminal, as a person would see it.
#pragma once

#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>

namespace longhaul::test {

/// What `longhaul ARGUMENTS` writes on a terminal, both streams, with `environment` ("NAME=VALUE
/// ...") put before the command. Empty if there is no pseudo-terminal to be had.
inline std::string run_on_terminal(const std::string& arguments, const std::string& environment) {
  int terminal = -1;
  const pid_t child = forkpty(&terminal, nullptr, nullptr, nullptr);
  if (child < 0) {
    return "";
  }
  if (child == 0) {
    const std::string command = "cd '" LONGHAUL_SOURCE_DIR "' && env TERM=xterm " + environment +
                                " '" LONGHAUL_BINARY "' " + arguments;
    execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  std::string out;
  std::array<char, 4096> buffer{};
  // The terminal reports an error, not an end, once the child has closed it.
  for (ssize_t got = read(terminal, buffer.data(), buffer.size()); got > 0;
       got = read(terminal, buffer.data(), buffer.size())) {
    out.append(buffer.data(), static_cast<std::size_t>(got));
  }
  int status = 0;
  waitpid(child, &status, 0);
  close(terminal);
  return out;
}

}  // namespace longhaul::test
