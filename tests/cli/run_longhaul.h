// Runs the real program and keeps what it said.
#pragma once

#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace longhaul::test {

struct Said {
  int exit_code = -1;
  std::string out;
  std::string err;
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

/// Runs `longhaul ARGUMENTS` in the source folder through the shell.
inline Said run(const std::string& arguments, const std::string& before = "") {
  std::string folder = (std::filesystem::temp_directory_path() / "longhaul-cli-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) {
    return {};
  }
  const std::string command = "cd '" LONGHAUL_SOURCE_DIR "' && " + before +
                              " '" LONGHAUL_BINARY "' " + arguments + " >" + folder + "/out 2>" +
                              folder + "/err";
  const int status = std::system(command.c_str());
  Said said;
  said.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  said.out = read_file(folder + "/out");
  said.err = read_file(folder + "/err");
  std::remove((folder + "/out").c_str());
  std::remove((folder + "/err").c_str());
  std::remove(folder.c_str());
  return said;
}

}  // namespace longhaul::test
