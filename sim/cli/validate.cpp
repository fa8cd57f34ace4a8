// longhaul validate: predictions against measured runs.
#include "sim/validation/validate.h"

#include <fmt/format.h>

#include <cstdio>

#include "sim/cli/command.h"
#include "sim/report/validation_report.h"

namespace longhaul {

namespace {

class Validate : public Command {
 public:
  [[nodiscard]] std::string name() const override { return "validate"; }
  [[nodiscard]] std::string summary() const override {
    return "predicts measured runs (longhaul-runs/1) and prints the errors";
  }
  void declare(CLI::App& app) override {
    app.add_option("files", files_, "RUNS.yaml...")->type_name("");
    app.add_option("--max-gpus", max_gpus_, "skip runs on more GPUs than this (default: 512)");
    app.add_option("--tolerance", tolerance_,
                   "exit 1 if the median error of any time row exceeds this many percent");
  }
  Outcome run(Session& session) override;

 private:
  [[nodiscard]] std::vector<MeasuredRun> read(Diagnostics& diagnostics) const;
  std::vector<std::string> files_;
  std::int64_t max_gpus_ = 512;
  double tolerance_ = 0.0;
};

std::vector<MeasuredRun> Validate::read(Diagnostics& diagnostics) const {
  std::vector<MeasuredRun> runs;
  for (const std::string& file : files_) {
    const auto source = read_source(file, diagnostics);
    if (!source) {
      continue;
    }
    for (MeasuredRun& run : read_runs(*source, diagnostics)) {
      if (run.draft && run.draft->gpus.value_or(1) > max_gpus_ && run.skip_reason.empty()) {
        run.skip_reason = fmt::format("more than {} GPUs (--max-gpus)", max_gpus_);
      }
      runs.push_back(std::move(run));
    }
  }
  return runs;
}

Outcome Validate::run(Session& session) {
  if (files_.empty()) {
    fail_usage("validate takes files of measured runs", "for example: longhaul validate runs.yaml");
  }
  const std::vector<MeasuredRun> runs = read(session.diagnostics);
  session.diagnostics.throw_if_errors();
  const bool progress = session.progress;
  const ValidationReport report = validate(runs, [progress](std::size_t done, std::size_t all) {
    if (progress && (done % 10 == 0 || done == all)) {
      std::fprintf(stderr, "\r%zu of %zu runs%s", done, all, done == all ? "\n" : "");
    }
  });
  int code = exit_code::done;
  for (const ScoreSummary& row : report.summary) {
    if (tolerance_ > 0.0 && row.quantity == "time" &&
        !(100.0 * row.median_absolute_error <= tolerance_)) {
      code = exit_code::answer_is_no;
    }
  }
  return {code, validation_text(report), validation_json(report)};
}

}  // namespace

std::unique_ptr<Command> make_validate() { return std::make_unique<Validate>(); }

}  // namespace longhaul
