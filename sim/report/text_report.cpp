#include "sim/report/text_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "sim/report/text_table.h"
#include "sim/scenario/words.h"
#include "sim/units/format.h"

namespace longhaul {

namespace {

std::string marked(const std::string& text, const char* code, TextStyle style) {
  return style.colour ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : text;
}

// "8.03 B": parameters in the field's way of counting.
std::string parameters_text(const Model& model) {
  const double count = static_cast<double>(count_parameters(model).total);
  return count >= 1e9 ? fmt::format("{:.2f} B parameters", count / 1e9)
                      : fmt::format("{:.1f} M parameters", count / 1e6);
}

std::string rate_text(double tokens_per_second) {
  return tokens_per_second >= 100.0 ? grouped(std::llround(tokens_per_second))
                                    : fmt::format("{:.3g}", tokens_per_second);
}

std::string workload_text(const Scenario& scenario) {
  const Workload& workload = scenario.workload;
  std::string out = word_of(phase_words, workload.phase);
  if (workload.phase == Phase::attention) {
    out = fmt::format("attention of one layer, {}", word_of(pass_words, workload.pass));
  }
  out += fmt::format(", {} tokens", format_tokens(workload.sequence_length));
  if (workload.cached_tokens > 0) {
    out += fmt::format(" behind {} cached", format_tokens(workload.cached_tokens));
  }
  out += ", " + mask_text(workload.mask);
  if (workload.phase == Phase::train) {
    return out + fmt::format(", global batch {}", workload.global_batch);
  }
  return out + fmt::format(", {} sequence{}", workload.global_batch,
                           workload.global_batch == 1 ? "" : "s");
}

// How the plan deals the batch.
std::string batches_text(const Scenario& scenario) {
  const std::int64_t count = scenario.micro_batches();
  return fmt::format("{} micro-batch{} of {} on {} replica{}", count, count == 1 ? "" : "es",
                     scenario.workload.micro_batch, scenario.plan.data,
                     scenario.plan.data == 1 ? "" : "s");
}

std::string memory_plan_text(const Scenario& scenario) {
  const Plan& plan = scenario.plan;
  if (scenario.workload.phase == Phase::attention) {
    return "";
  }
  if (scenario.workload.phase != Phase::train) {
    return plan.zero == 3 ? "zero 3" : "";
  }
  return fmt::format("zero {}, recompute {}", plan.zero, word_of(recompute_words, plan.recompute));
}

// The verdict on memory in words, coloured.
std::string fits_text(const MemoryResult& memory, TextStyle style) {
  if (memory.reserved <= memory.capacity && !memory.host_fits) {
    return marked("does not fit in the host memory of a node", "31", style);
  }
  return memory.fits ? marked("fits", "32", style) : marked("does not fit", "31", style);
}

std::string figures_table(const Result& result) {
  TextTable table({{"", Align::left}, {"", Align::right}, {"", Align::left}});
  table.add(
      {"step time", format_seconds(result.step_time),
       fmt::format("{:.0f} % interval {} to {}", result.interval_coverage * 100.0,
                   format_seconds(result.interval_low), format_seconds(result.interval_high))});
  table.add({"tokens per second", rate_text(result.tokens_per_second),
             rate_text(result.tokens_per_second_per_gpu) + " per GPU"});
  table.add(
      {"MFU", format_percent(result.mfu),
       fmt::format("{:.0f} TFLOP/s per GPU; {}", result.tflops_per_gpu, result.flop_convention)});
  table.add({"compute", format_seconds(result.compute_time), "mean over GPUs"});
  table.add(
      {"exposed communication", format_seconds(result.exposed_communication), "mean over GPUs"});
  table.add({"bubble", format_percent(result.bubble_fraction),
             "of the step a GPU computes nothing, on the mean"});
  return table.text("  ");
}

std::string causes_table(const Result& result) {
  auto causes = result.critical_path;
  std::stable_sort(causes.begin(), causes.end(),
                   [](const auto& a, const auto& b) { return b.second < a.second; });
  TextTable table({{"", Align::left}, {"", Align::right}, {"", Align::right}});
  for (const auto& [cause, seconds] : causes) {
    std::string words = cause;
    std::replace(words.begin(), words.end(), '_', ' ');
    table.add({words, format_seconds(seconds),
               result.step_time.value() > 0.0 ? format_percent(seconds / result.step_time) : ""});
  }
  return table.text("  ");
}

std::string memory_table(const MemoryResult& memory, TextStyle style) {
  TextTable table({{"", Align::left}, {"", Align::right}});
  for (const auto& [name, bytes] : memory.categories) {
    if (bytes.value() > 0.0) {
      std::string words = name;
      std::replace(words.begin(), words.end(), '_', ' ');
      table.add({words, format_bytes(bytes)});
    }
  }
  table.add({"peak", format_bytes(memory.peak)});
  table.add({"reserved", format_bytes(memory.reserved)});
  table.add({"capacity", format_bytes(memory.capacity)});
  if (memory.host_peak.value() > 0.0) {
    table.add({"host memory", format_bytes(memory.host_peak)});
    table.add({"of a node", format_bytes(memory.host_node_peak)});
    if (memory.host_capacity.value() > 0.0) {
      table.add({"its capacity", format_bytes(memory.host_capacity)});
    }
  }
  return table.text("  ") + "  " + fits_text(memory, style) + "\n";
}

// By stage, where stages differ; by position in the sequence, where these do.
std::string memory_of_ranks_table(const MemoryResult& memory, TextStyle style) {
  std::string out;
  const auto& stages = memory.stages;
  const bool differ = std::any_of(stages.begin(), stages.end(), [&](const RankMemory& one) {
    return one.peak != stages[0].peak || one.reserved != stages[0].reserved;
  });
  if (differ) {
    TextTable table({{"stage", Align::right},
                     {"fullest rank", Align::right},
                     {"allocated", Align::right},
                     {"peak", Align::right},
                     {"reserved", Align::right}});
    for (const RankMemory& one : stages) {
      table.add({std::to_string(one.stage), std::to_string(one.rank), format_bytes(one.allocated),
                 format_bytes(one.peak), format_bytes(one.reserved)});
    }
    out += "\n" + heading("memory by stage", style) + table.text("  ");
  }
  if (!memory.positions.empty()) {
    TextTable table({{"position", Align::right},
                     {"fullest rank", Align::right},
                     {"allocated", Align::right},
                     {"peak", Align::right}});
    for (const PositionMemory& one : memory.positions) {
      table.add({std::to_string(one.position), std::to_string(one.rank),
                 format_bytes(one.allocated), format_bytes(one.peak)});
    }
    out += "\n" + heading("memory by position in context parallelism", style) + table.text("  ");
  }
  return out;
}

std::vector<std::string> comparison_cells(const Alternative& row, std::size_t rank) {
  const Result& result = *row.result;
  const MemoryResult& memory = result.memory;
  const std::string fits =
      memory.fits ? "yes"
                  : fmt::format("no: {} short", format_bytes(memory.reserved - memory.capacity));
  return {std::to_string(rank),
          row.name,
          memory_plan_text(*row.scenario),
          format_seconds(result.step_time),
          rate_text(result.tokens_per_second_per_gpu),
          format_percent(result.mfu),
          format_percent(result.bubble_fraction),
          format_seconds(result.exposed_communication),
          format_bytes(memory.peak),
          fits,
          row.reason};
}

std::string rejected_text(const std::vector<Alternative>& rows) {
  TextTable table({{"", Align::left}, {"", Align::left}});
  for (const Alternative& row : rows) {
    if (!row.result) {
      table.add({row.name, row.reason});
    }
  }
  const std::string text = table.text("  ");
  return text.empty() ? "" : "rejected:\n" + text;
}

}  // namespace

std::string heading(const std::string& text, TextStyle style) {
  return marked(text, "1", style) + "\n";
}

std::string scenario_text(const Scenario& scenario) {
  return fmt::format("{}, {}, on {} x {} (cluster {})\n{}\n", scenario.model.name,
                     parameters_text(scenario.model), scenario.gpus,
                     scenario.cluster.device().title, scenario.cluster.name(),
                     workload_text(scenario));
}

std::string trust_text(const Result& result) {
  std::string out =
      result.calibrated
          ? "calibrated on measurements of this hardware"
          : "uncalibrated: kernel and link costs come from published figures, not from "
            "measurements of this hardware";
  if (result.extrapolated) {
    out += "; some shapes lie outside what the profiles cover";
  }
  return out;
}

std::string result_text(const Scenario& scenario, const Result& result, TextStyle style) {
  std::string out = scenario_text(scenario);
  const std::string memory_plan = memory_plan_text(scenario);
  out += fmt::format("plan: {}{}{}; {}\n\n", plan_text(scenario.plan),
                     memory_plan.empty() ? "" : ", ", memory_plan, batches_text(scenario));
  out += heading("time", style) + figures_table(result);
  out += "\n" + heading("where the step of the slowest GPU goes", style) + causes_table(result);
  out += "\n" +
         heading(fmt::format("memory of the fullest GPU (rank {}, at {})", result.memory.peak_rank,
                             format_seconds(result.memory.peak_time)),
                 style) +
         memory_table(result.memory, style) + memory_of_ranks_table(result.memory, style);
  out += fmt::format("\nbottleneck: {}\n", result.bottleneck);
  for (const std::string& remark : result.remarks) {
    out += fmt::format("remark: {}\n", remark);
  }
  return out + trust_text(result) + "\n";
}

std::string comparison_text(const std::vector<Alternative>& rows, TextStyle style) {
  TextTable table({{"rank", Align::right},
                   {"plan", Align::left},
                   {"memory plan", Align::left},
                   {"step time", Align::right},
                   {"tokens/s/GPU", Align::right},
                   {"MFU", Align::right},
                   {"bubble", Align::right},
                   {"exposed comm.", Align::right},
                   {"peak memory", Align::right},
                   {"fits", Align::left},
                   {"remarks", Align::left}});
  std::size_t rank = 0;
  for (const Alternative& row : rows) {
    if (row.result) {
      table.add(comparison_cells(row, ++rank));
    }
  }
  std::string out = rank == 0 ? "" : table.text();
  out += rejected_text(rows);
  if (rows.empty() || !rows.front().result) {
    return out + marked("no plan is legal", "31", style) + "\n";
  }
  const Alternative& best = rows.front();
  if (!best.fits()) {
    return out + marked("nothing fits", "31", style) +
           fmt::format("; closest: {}, whose peak is {} of {}\n", best.name,
                       format_bytes(best.result->memory.peak),
                       format_bytes(best.result->memory.capacity)) +
           trust_text(*best.result) + "\n";
  }
  return out +
         fmt::format("best: {}; its bottleneck: {}\n", marked(best.name, "1", style),
                     best.result->bottleneck) +
         trust_text(*best.result) + "\n";
}

}  // namespace longhaul
