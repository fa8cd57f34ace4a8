// What a command is: a name, its flags, and a run from these to text and JSON. Adding one: a file
// with its class and a line in commands.cpp.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "sim/input/diagnostic.h"
#include "sim/input/json.h"
#include "sim/report/text_report.h"

namespace longhaul {

/// Exit codes of longhaul; they are part of its interface.
namespace exit_code {
constexpr int done = 0;
constexpr int answer_is_no = 1;  ///< nothing fits, validation out of tolerance
constexpr int bad_input = 2;     ///< usage or an input file
constexpr int missing = 3;       ///< something needed is not here
constexpr int io_error = 4;      ///< an output cannot be written
constexpr int bug = 70;
}  // namespace exit_code

/// An output that cannot be opened or written (exit 4).
class IoError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What a command came to: for people, and for programs.
struct Outcome {
  int exit_code = exit_code::done;
  std::string text;
  JsonValue json;
};

/// What the program gives a command.
struct Session {
  bool json = false;
  std::string output;       ///< file of -o; empty: standard output
  TextStyle style;          ///< of the text output
  bool progress = false;    ///< standard error is a terminal
  Diagnostics diagnostics;  ///< warnings go here; errors are thrown as InputError
};

/// One command. declare() binds its flags; run() follows, unless the line was wrong.
class Command {
 public:
  virtual ~Command() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  [[nodiscard]] virtual std::string summary() const = 0;
  virtual void declare(CLI::App& app) = 0;
  virtual Outcome run(Session& session) = 0;
};

std::unique_ptr<Command> make_predict();
std::unique_ptr<Command> make_compare();
std::unique_ptr<Command> make_check();
std::unique_ptr<Command> make_list();
std::unique_ptr<Command> make_show();
std::unique_ptr<Command> make_topology();
std::unique_ptr<Command> make_validate();

/// All commands, in the order in which help lists them.
std::vector<std::unique_ptr<Command>> make_commands();

/// Throws an InputError about the command line itself.
[[noreturn]] void fail_usage(const std::string& message, const std::string& help = "");

}  // namespace longhaul
