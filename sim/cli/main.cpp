// The program: the command line to a command, its outcome to the outputs, and whatever was thrown
// to an exit code. The only place that catches and exits.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "sim/cli/command.h"
#include "sim/cli/output.h"
#include "sim/report/json_report.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

constexpr const char* version = LONGHAUL_VERSION;

constexpr const char* first_words =
    R"(longhaul predicts memory per GPU and step time of long-context transformers.

Try:
  longhaul compare llama3-8b dgx-h100 --gpus 32 --seq 1M
      ring, Ulysses, hybrids, Megatron SP: which fits, which is fastest, and why
  longhaul predict llama3-8b dgx-h100 --gpus 32 --seq 1M --method ring --zero 3 --recompute full
      one plan in full: time, where it goes, memory by category
  longhaul list
      models, clusters, devices, methods and software stacks that are built in

longhaul --help lists all commands; longhaul COMMAND --help lists a command's flags.
)";

constexpr const char* exit_codes =
    "exit codes: 0 done, 1 done and the answer is no (nothing fits), 2 bad usage or input, "
    "3 something needed is missing, 4 output cannot be written, 70 a bug of longhaul";

// no-color.org: a NO_COLOR that is not empty; a dumb terminal knows no colours either.
bool wants_colour(int descriptor) {
  const char* refused = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return isatty(descriptor) == 1 && (refused == nullptr || *refused == '\0') &&
         (terminal == nullptr || std::string(terminal) != "dumb");
}

// One command line: what was typed, taken apart by CLI11 but judged by ourselves, since its own
// complaints neither suggest nor have our exit codes.
class CommandLine {
 public:
  explicit CommandLine(Session& session) : session_(session), commands_(make_commands()) {
    app_.set_help_flag("-h,--help", "show this help");
    app_.set_version_flag("--version", fmt::format("longhaul {}", version));
    app_.footer(exit_codes);
    app_.allow_extras();
    app_.require_subcommand(0, 1);
    for (const auto& command : commands_) {
      CLI::App* sub = app_.add_subcommand(command->name(), command->summary());
      sub->allow_extras();
      add_common_flags(*sub);
      command->declare(*sub);
    }
  }

  /// The command to run; none if help, version or first words were printed.
  Command* parse(int argc, const char* const* argv);

  [[nodiscard]] std::string command_name() const {
    const auto parsed = app_.get_subcommands();
    return parsed.empty() ? "" : parsed.front()->get_name();
  }

 private:
  void add_common_flags(CLI::App& app) {
    app.add_flag("--json", session_.json, "one JSON document on standard output, errors included");
    app.add_option("-o,--output", session_.output, "write to a file instead")->type_name("FILE");
  }
  void refuse_unknown_command() const;
  void refuse_unknown_flags(const CLI::App& sub) const;

  Session& session_;
  std::vector<std::unique_ptr<Command>> commands_;
  CLI::App app_{"longhaul: memory and step time of long-context transformers on GPU clusters",
                "longhaul"};
};

void CommandLine::refuse_unknown_command() const {
  const std::vector<std::string> words = app_.remaining(true);
  std::vector<std::string> names;
  for (const auto& command : commands_) {
    names.push_back(command->name());
  }
  const auto word = std::find_if(words.begin(), words.end(),
                                 [](const std::string& text) { return !text.starts_with("-"); });
  if (word == words.end()) {
    fail_usage("no command is given", fmt::format("commands: {}", fmt::join(names, ", ")));
  }
  const std::string nearest = closest_match(*word, names);
  fail_usage("no command is called '" + *word + "'",
             nearest.empty() ? fmt::format("commands: {}", fmt::join(names, ", "))
                             : "did you mean '" + nearest + "'?");
}

// All of them at once. What follows an unknown flag may have been taken for its value or for an
// input: nothing else is said until the flags are right.
void CommandLine::refuse_unknown_flags(const CLI::App& sub) const {
  std::vector<std::string> known{"--help"};
  for (const CLI::Option* option : sub.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      known.push_back("--" + name);
    }
  }
  Diagnostics diagnostics;
  for (const std::string& word : app_.remaining(true)) {
    const std::string flag = word.substr(0, word.find('='));
    const std::string nearest = closest_match(flag, known);
    const std::string help = nearest.empty()
                                 ? "longhaul " + sub.get_name() + " --help lists its flags"
                                 : "did you mean '" + nearest + "'?";
    diagnostics.error({}, "usage",
                      word.starts_with("-") ? sub.get_name() + " has no flag '" + flag + "'"
                                            : sub.get_name() + " does not take '" + word + "'",
                      word.starts_with("-") ? help : "");
  }
  diagnostics.throw_if_errors();
}

Command* CommandLine::parse(int argc, const char* const* argv) {
  try {
    app_.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const auto parsed = app_.get_subcommands();
    std::cout << (parsed.empty() ? app_.help() : parsed.front()->help());
    return nullptr;
  } catch (const CLI::CallForVersion& call) {
    std::cout << call.what() << "\n";
    return nullptr;
  } catch (const CLI::ParseError& error) {
    fail_usage(error.what(), "longhaul --help, or longhaul COMMAND --help");
  }
  if (argc == 1) {
    std::cout << first_words;
    return nullptr;
  }
  const auto parsed = app_.get_subcommands();
  if (parsed.empty()) {
    refuse_unknown_command();
  }
  refuse_unknown_flags(*parsed.front());
  const auto chosen = std::find_if(commands_.begin(), commands_.end(), [&](const auto& command) {
    return command->name() == parsed.front()->get_name();
  });
  return chosen->get();
}

// Words on standard error; or, with --json, the one document on standard output.
int report_failure(const Session& session, const std::string& command,
                   const Diagnostics& diagnostics, int code) {
  if (session.json) {
    Output("").write(failure_document(command, diagnostics).dump_pretty() + "\n");
  } else {
    std::cerr << format_diagnostics(diagnostics, wants_colour(STDERR_FILENO));
  }
  return code;
}

int report_failure(const Session& session, const std::string& command, const char* kind,
                   const std::string& message, const std::string& help, int code) {
  Diagnostics diagnostics;
  diagnostics.error({}, kind, message, help);
  return report_failure(session, command, diagnostics, code);
}

int run_command(Command& command, Session& session) {
  // Outputs are opened before the work: what cannot be written fails now.
  Output output(session.output);
  session.style.colour = session.output.empty() && !session.json && wants_colour(STDOUT_FILENO);
  session.progress = isatty(STDERR_FILENO) == 1;
  const Outcome outcome = command.run(session);
  if (session.json) {
    const JsonValue document = success_document(command.name(), outcome.json, session.diagnostics);
    output.write(document.dump_pretty() + "\n");
  } else {
    std::cerr << format_diagnostics(session.diagnostics, wants_colour(STDERR_FILENO));
    output.write(outcome.text);
  }
  return outcome.exit_code;
}

int run(int argc, const char* const* argv) {
  Session session;
  // Known before the line is taken apart, because complaints about it obey it, too.
  session.json = std::any_of(argv, argv + argc,
                             [](const char* word) { return std::string(word) == "--json"; });
  std::string name;
  try {
    CommandLine line(session);
    Command* command = line.parse(argc, argv);
    if (command == nullptr) {
      return exit_code::done;
    }
    name = command->name();
    return run_command(*command, session);
  } catch (const InputError& error) {
    return report_failure(session, name, error.diagnostics(), exit_code::bad_input);
  } catch (const IoError& error) {
    return report_failure(session, name, "io-error", error.what(), "", exit_code::io_error);
  } catch (const std::exception& error) {
    return report_failure(session, name, "bug",
                          fmt::format("longhaul {} failed: {}", version, error.what()),
                          "this is a bug of longhaul: please report it with the command and its "
                          "input files",
                          exit_code::bug);
  }
}

}  // namespace
}  // namespace longhaul

int main(int argc, char** argv) {
  try {
    return longhaul::run(argc, argv);
  } catch (const std::exception& error) {
    std::fputs(error.what(), stderr);  // not even the complaint could be written
    std::fputs("\n", stderr);
    return longhaul::exit_code::io_error;
  }
}
