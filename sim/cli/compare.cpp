// longhaul compare: every legal method on the same GPUs, or scenarios side by side.
#include "sim/search/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>

#include "sim/cli/command.h"
#include "sim/cli/scenario_flags.h"
#include "sim/report/explain_report.h"
#include "sim/report/json_report.h"
#include "sim/report/text_report.h"
#include "sim/scenario/words.h"
#include "sim/units/format.h"

namespace longhaul {

namespace {

class Compare : public Command {
 public:
  [[nodiscard]] std::string name() const override { return "compare"; }
  [[nodiscard]] std::string summary() const override {
    return "ranks every way to split the sequence, or several scenario files";
  }
  void declare(CLI::App& app) override {
    app.add_option("input", words_,
                   "MODEL CLUSTER or one scenario FILE: all methods; several FILEs: as they stand")
        ->type_name("");
    flags_.declare(app);
  }
  Outcome run(Session& session) override;

 private:
  std::vector<NamedDraft> read(Diagnostics& diagnostics) const;
  std::vector<Alternative> compare_at(const std::string& length, std::vector<NamedDraft>& drafts,
                                      bool progress, Diagnostics& diagnostics) const;
  [[nodiscard]] std::string next_command(const Alternative& best, std::int64_t length) const;

  static void explain_difference(std::vector<NamedDraft> drafts,
                                 const std::vector<std::string>& lengths, Session& session,
                                 Outcome& out);

  std::vector<std::string> words_;
  ScenarioFlags flags_;
};

std::vector<NamedDraft> Compare::read(Diagnostics& diagnostics) const {
  const char* example = "for example: longhaul compare llama3-8b dgx-h100 --gpus 32 --seq 1M";
  if (words_.empty()) {
    fail_usage("compare takes a MODEL and a CLUSTER, or scenario FILEs", example);
  }
  std::vector<NamedDraft> drafts;
  if (names_model(words_[0])) {
    if (words_.size() != 2) {
      fail_usage("compare: model " + words_[0] + " on which cluster?", example);
    }
    drafts.push_back({words_[0], draft_of(words_[0], words_[1], diagnostics)});
  } else if (words_.size() == 2 && !std::filesystem::exists(words_[0]) && words_[0] != "-") {
    // Neither a preset nor a file: most likely a misspelt model.
    drafts.push_back({words_[0], draft_of(words_[0], words_[1], diagnostics)});
  } else {
    for (const std::string& word : words_) {
      drafts.push_back(
          {std::filesystem::path(word).stem().string(), read_scenario_file(word, diagnostics)});
    }
  }
  for (NamedDraft& draft : drafts) {
    flags_.apply(draft.draft, diagnostics);
  }
  return drafts;
}

// Model, GPUs and workload: the same in all rows that come from one scenario.
std::string title(const std::vector<Alternative>& rows) {
  for (const Alternative& row : rows) {
    if (row.scenario) {
      return scenario_text(*row.scenario) + "\n";
    }
  }
  return "";
}

std::string quoted(const std::string& word) {
  return word.find_first_of(" \t'\"$&;{}[]()*?<>|") == word.npos ? word : "'" + word + "'";
}

// The command that predicts the best row in full.
std::string Compare::next_command(const Alternative& best, std::int64_t length) const {
  const Plan& plan = best.plan;
  std::vector<std::string> words{"longhaul", "predict"};
  words.insert(words.end(), words_.begin(), words_.end());
  const auto others =
      flags_.given({"workload.sequence_length", "workload.global_batch", "plan.context.method",
                    "plan.context.ring", "plan.context.ulysses", "plan.context.inner",
                    "plan.tensor", "plan.sequence_parallel", "plan.zero", "plan.recompute"});
  words.insert(words.end(), others.begin(), others.end());
  const auto add = [&](const std::string& flag, const std::string& value) {
    words.push_back(flag);
    words.push_back(value);
  };
  add("--seq", format_tokens(length));
  if (best.scenario->workload.phase == Phase::train) {
    add("--global-batch", std::to_string(best.scenario->workload.global_batch));
  }
  add("--method", word_of(method_words, plan.context.method));
  if (plan.context.ring > 1) {
    add("--ring", std::to_string(plan.context.ring));
  }
  if (plan.context.ulysses > 1) {
    add("--ulysses", std::to_string(plan.context.ulysses));
  }
  if (plan.context.method == ContextMethod::usp) {
    add("--inner", word_of(inner_words, plan.context.inner));
  }
  if (plan.tensor > 1) {
    add("--tensor", std::to_string(plan.tensor));
  }
  if (plan.sequence_parallel) {
    words.emplace_back("--sequence-parallel");
  }
  const Phase phase = best.scenario->workload.phase;
  if (phase != Phase::attention) {
    add("--zero", std::to_string(plan.zero));
  }
  if (phase == Phase::train) {
    add("--recompute", word_of(recompute_words, plan.recompute));
  }
  std::string out;
  for (const std::string& word : words) {
    out += (out.empty() ? "" : " ") + quoted(word);
  }
  return out;
}

// With mistakes already recorded: adds what is wrong with each scenario as a whole, and throws.
void fail_with_all(const std::vector<NamedDraft>& drafts, Diagnostics& diagnostics) {
  for (const NamedDraft& draft : drafts) {
    check_scenario(draft.draft, diagnostics);
  }
  diagnostics.throw_if_errors();
}

std::vector<Alternative> Compare::compare_at(const std::string& length,
                                             std::vector<NamedDraft>& drafts, bool progress,
                                             Diagnostics& diagnostics) const {
  for (NamedDraft& draft : drafts) {
    if (!length.empty()) {
      read_setting(draft.draft, "workload.sequence_length", length, false, "--seq " + length,
                   diagnostics);
    }
  }
  if (diagnostics.has_errors()) {
    fail_with_all(drafts, diagnostics);
  }
  // Several workers predict at once; long comparisons say how far they are.
  std::atomic<int> done{0};
  const Predictor counted = [&](const Scenario& scenario, Diagnostics& own) {
    Result result = predict(scenario, own);
    const int count = ++done;
    if (progress) {
      std::fprintf(stderr, "\r%d plans predicted", count);
    }
    return result;
  };
  std::vector<Alternative> rows = drafts.size() == 1
                                      ? compare_methods(drafts.front().draft, counted, diagnostics)
                                      : compare_scenarios(drafts, counted, diagnostics);
  if (progress && done > 0) {
    std::fprintf(stderr, "\n");
  }
  diagnostics.throw_if_errors();
  return rows;
}

// Two scenarios, one length: why the second differs from the first. Both were predicted before, so
// nothing new can be wrong with them.
void Compare::explain_difference(std::vector<NamedDraft> drafts,
                                 const std::vector<std::string>& lengths, Session& session,
                                 Outcome& out) {
  if (lengths.size() != 1) {
    return;
  }
  std::vector<Explanation> explanations;
  Diagnostics heard_before;
  for (NamedDraft& draft : drafts) {
    if (!lengths[0].empty()) {
      read_setting(draft.draft, "workload.sequence_length", lengths[0], false, "--seq " + lengths[0],
                   heard_before);
    }
    const auto scenario = check_scenario(draft.draft, heard_before);
    if (!scenario) {
      return;
    }
    explanations.push_back(predict_explained(*scenario, heard_before).explanation);
  }
  const Difference difference = difference_of(explanations[0], explanations[1]);
  out.text +=
      "\n" + difference_text(drafts[0].name, drafts[1].name, difference, session.style);
  out.json.set("difference", difference_json(drafts[0].name, drafts[1].name, difference));
}

Outcome Compare::run(Session& session) {
  // Inputs become drafts; every mistake is recorded with its place.
  const std::vector<NamedDraft> drafts = read(session.diagnostics);
  std::vector<std::string> lengths = flags_.lengths();
  if (lengths.empty()) {
    lengths.emplace_back();  // as the files say
  }
  Outcome out;
  out.json = JsonValue::object();
  JsonValue tables = JsonValue::array();
  bool all_fit = true;
  // One table per sequence length: every plan is predicted, and the plans are ranked.
  for (const std::string& length : lengths) {
    std::vector<NamedDraft> at_length = drafts;
    const std::vector<Alternative> rows =
        compare_at(length, at_length, session.progress, session.diagnostics);
    const std::int64_t tokens = at_length.front().draft.workload.sequence_length;
    tables.push(comparison_json(tokens, rows));
    out.text += out.text.empty() ? "" : "\n";
    out.text += (drafts.size() == 1 ? title(rows) : "") + comparison_text(rows, session.style);
    const bool any = !rows.empty() && rows.front().fits();
    all_fit = all_fit && any;
    if (any && drafts.size() == 1) {
      out.text += "next: " + next_command(rows.front(), tokens) + "\n";
    }
  }
  if (drafts.size() == 2) {
    explain_difference(drafts, lengths, session, out);
  }
  out.exit_code = all_fit ? exit_code::done : exit_code::answer_is_no;
  out.json.set("comparisons", std::move(tables));
  return out;
}

}  // namespace

std::unique_ptr<Command> make_compare() { return std::make_unique<Compare>(); }

}  // namespace longhaul
