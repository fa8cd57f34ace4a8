#include "calibrate/fit/kernel_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "calibrate/fit/csv_file.h"
#include "calibrate/fit/read_yardstick.h"
#include "calibrate/fit/write_kernel_fit.h"
#include "sim/input/presets.h"
#include "sim/topology/read_cluster.h"

namespace longhaul {

namespace {

// A full kernel of a head size that was measured with a mask only is no better known than this.
constexpr double derived_spread = 0.08;

struct Session {
  const KernelCommand& command;
  Device device;
  KernelProfile profile;  // its own figures, without any fit: the priors
  KernelFits fits;
  double memory_share = 0.0;
  Seconds memory_launch;
  std::map<std::string, std::vector<double>> held_out = {};  // predicted / measured of all fits of a kind
};

std::string file_part(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// The profile of a device as its authors wrote it: the line that names a fit is taken out, so that
// a fit never starts from its own result.
std::optional<KernelProfile> unfitted_profile(const std::string& device, Diagnostics& diagnostics) {
  for (const std::string& path : embedded_files("calibrate/profiles/devices")) {
    const SourcePtr source = *embedded_file(path);
    std::string text;
    for (const std::string& line : split_text(source->text, '\n')) {
      text += line.starts_with("fit:") ? "\n" : line + "\n";
    }
    auto profile = read_kernel_profile(
        std::make_shared<const SourceText>(SourceText{source->name, text}), diagnostics);
    if (profile && std::count(profile->devices.begin(), profile->devices.end(), device) > 0) {
      return profile;
    }
  }
  diagnostics.error({}, "no-profile", "no profile in calibrate/profiles/devices is of " + device,
                    "add one: a fit needs the tiles of its kernels");
  return std::nullopt;
}

// "a=b,c=d" as pairs.
std::vector<std::pair<std::string, std::string>> read_pairs(const std::string& text,
                                                            Diagnostics& diagnostics) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const std::string& part : split_text(text, ',')) {
    const std::size_t equals = part.find('=');
    if (part.empty()) {
      continue;
    }
    if (equals == std::string::npos) {
      diagnostics.error({}, "bad-option", "'" + part + "' is no NAME=VALUE",
                        "write --gemm bf16=sglang-0.5.14");
      continue;
    }
    pairs.emplace_back(part.substr(0, equals), part.substr(equals + 1));
  }
  return pairs;
}

std::string words_of(const FitReport& report) {
  return fmt::format("{} points{}, error median {:.1f} % p90 {:.1f} %, held out {:.1f} % {:.1f} %",
                     report.error.points,
                     report.left_out == 0
                         ? ""
                         : fmt::format(" ({} faster than memory left out)", report.left_out),
                     100.0 * report.error.middle, 100.0 * report.error.p90,
                     100.0 * report.held_out.middle, 100.0 * report.held_out.p90);
}

void record(Session& session, const std::string& what, const FitReport& report) {
  const std::string words = words_of(report);
  session.fits.notes.push_back(what + ": " + words);
  session.fits.plots[session.command.device + "-" + what] =
      draw_residuals(session.command.device + " " + what + ", held out", report);
  std::vector<double>& all = session.held_out[what.substr(0, what.find('-'))];
  for (const auto& [seconds, ratio] : report.residuals) {
    all.push_back(ratio);
  }
}

// All products, and all attention, of the device: what a user meets who asks for neither type nor
// head size.
void note_all(Session& session) {
  for (const auto& [kind, ratios] : session.held_out) {
    const FitError error = error_of(ratios);
    session.fits.notes.push_back(fmt::format("{}, all together: {} points, held out {:.1f} % {:.1f} %",
                                             kind, error.points, 100.0 * error.middle,
                                             100.0 * error.p90));
  }
}

void refuse(Session& session, const std::string& what, std::size_t rows) {
  session.fits.notes.push_back(
      fmt::format("{}: refused, {} rows are too few, or of too few families of shapes", what, rows));
}

std::vector<SourcePtr> files_named(const Session& session, const std::string& start,
                                   Diagnostics& diagnostics) {
  std::vector<SourcePtr> sources;
  for (const std::string& path : session.command.files) {
    if (file_part(path).starts_with(start)) {
      if (const auto source = read_source(path, diagnostics)) {
        sources.push_back(*source);
      }
    }
  }
  return sources;
}

bool is_yardstick(const SourcePtr& source) { return source->name.ends_with(".jsonl"); }

// "cudnn@hot": points of a backend at a state of the clocks, as found if none is named.
YardstickChoice yardstick_choice(const Session& session, const std::string& backend,
                                 const std::string& state) {
  return {backend, state.empty() ? "as_found" : state, session.device.l2_cache};
}

void note_left_out(Session& session, const SourcePtr& source, const LeftOut& left_out) {
  std::string words;
  for (const auto& [reason, points] : left_out) {
    words += fmt::format("{}{} x {}", words.empty() ? "" : ", ", points, reason);
  }
  if (!words.empty()) {
    session.fits.notes.push_back(source->name + ": left out " + words);
  }
}

// What yardstick's files say beside their points: ceilings, and what hot clocks cost.
void note_yardstick(Session& session, Diagnostics& diagnostics) {
  for (const SourcePtr& source : files_named(session, "ceilings", diagnostics)) {
    LeftOut left_out;
    for (const std::string& line :
         best_ceilings(read_yardstick_ceilings(source, left_out, diagnostics))) {
      session.fits.notes.push_back("ceiling: " + line);
    }
    note_left_out(session, source, left_out);
  }
  for (const std::string start : {"gemm", "attention"}) {
    for (const SourcePtr& source : files_named(session, start, diagnostics)) {
      const auto share = is_yardstick(source) ? hot_share(source, diagnostics) : std::nullopt;
      if (share) {
        session.fits.notes.push_back(fmt::format("{}: hot clocks keep {:.3f} of the speed ({} points)",
                                                 source->name, share->share, share->points));
      }
    }
  }
}

std::vector<StreamRow> memory_rows(Session& session, const SourcePtr& source,
                                   Diagnostics& diagnostics) {
  const std::string& wanted = session.command.memory;
  if (!is_yardstick(source)) {
    return read_memory_rows(source, wanted, diagnostics);
  }
  LeftOut left_out;
  const auto rows = read_yardstick_streams(source, wanted, yardstick_choice(session, "eager", ""),
                                           left_out, diagnostics);
  note_left_out(session, source, left_out);
  return rows;
}

// `from`: the column source of a table, or yardstick's backend and clocks.
std::vector<GemmRow> gemm_rows(Session& session, const SourcePtr& source, const std::string& type,
                               const std::string& from, KernelType kind,
                               Diagnostics& diagnostics) {
  if (!is_yardstick(source)) {
    // Hopper's tiles that spill are no accidents of a measurement: the rule chooses them.
    const bool slow = kind == KernelType::fp8_block && session.device.architecture == "hopper";
    return read_gemm_rows(source, {type, from, slow}, kind, diagnostics);
  }
  const std::vector<std::string> parts = split_text(from, '@');
  LeftOut left_out;
  auto rows = read_yardstick_gemm(
      source, yardstick_choice(session, parts.front(), parts.size() > 1 ? parts[1] : ""), left_out,
      diagnostics);
  note_left_out(session, source, left_out);
  if (kind != KernelType::bf16) {
    rows.clear();  // the reader takes no other type
  }
  return rows;
}

void fit_memory_files(Session& session, Diagnostics& diagnostics) {
  session.memory_share = session.profile.memory_efficiency;
  session.memory_launch = session.profile.memory_launch;
  for (const SourcePtr& source : files_named(session, "memory_bound", diagnostics)) {
    const std::vector<StreamRow> rows = memory_rows(session, source, diagnostics);
    const auto fit = fit_memory(session.device, rows);
    if (!fit) {
      refuse(session, "memory_bound", rows.size());
      continue;
    }
    session.memory_share = fit->efficiency;
    session.memory_launch = fit->launch;
    session.fits.text += "memory:\n" + write_memory_fit(*fit, session.command.origin +
                                                              (session.command.memory.empty()
                                                                   ? ""
                                                                   : ", source " +
                                                                         session.command.memory));
    record(session, "memory_bound", fit->report);
    return;  // one machine, one answer: the first file counts
  }
}

void fit_gemm_files(Session& session, Diagnostics& diagnostics) {
  const std::vector<std::string> types = {"bf16", "fp8", "fp32", "fp8_block"};
  std::string text;
  for (const auto& [type, rows_of] : read_pairs(session.command.gemm, diagnostics)) {
    const auto at = std::find(types.begin(), types.end(), type);
    if (at == types.end()) {
      diagnostics.error({}, "bad-option", "no products are in '" + type + "'",
                        "bf16, fp8 or fp8_block");
      continue;
    }
    const auto kind = static_cast<KernelType>(at - types.begin());
    std::vector<GemmRow> rows;
    for (const SourcePtr& source : files_named(session, "gemm", diagnostics)) {
      for (const std::string& one : split_text(rows_of, '+')) {
        const auto more = gemm_rows(session, source, type, one, kind, diagnostics);
        rows.insert(rows.end(), more.begin(), more.end());
      }
    }
    if (const auto fit = fit_gemm(session.device, kind, rows)) {
      text += write_gemm_fit(*fit, session.command.origin + ", source " + rows_of);
      record(session, "gemm-" + type, fit->report);
    } else {
      refuse(session, "gemm-" + type, rows.size());
    }
  }
  session.fits.text += text.empty() ? "" : "gemm:\n" + text;
}

const AttentionCurve& start_curve(const std::vector<AttentionCurve>& curves,
                                  std::int64_t head_dim) {
  for (const AttentionCurve& curve : curves) {
    if (head_dim <= curve.head_dim) {
      return curve;
    }
  }
  return curves.back();
}

// Rows of one kernel by pass, mask and head size.
using AttentionGroups = std::map<std::tuple<bool, bool, std::int64_t>, std::vector<AttentionRow>>;

// Rows of a table, under the kernel's name or, of vision encoders, with a prefix; or yardstick's.
std::vector<AttentionRow> attention_rows(Session& session, const SourcePtr& source,
                                         const std::string& kind, const std::string& from,
                                         Diagnostics& diagnostics) {
  if (is_yardstick(source)) {
    LeftOut left_out;
    const auto rows = read_yardstick_attention(source, yardstick_choice(session, kind, from),
                                               left_out, diagnostics);
    note_left_out(session, source, left_out);
    return rows;
  }
  std::vector<AttentionRow> rows;
  for (const std::string prefix : {"", "vit_"}) {
    const auto more = read_attention_rows(source, {prefix + kind, from, false}, diagnostics);
    rows.insert(rows.end(), more.begin(), more.end());
  }
  return rows;
}

AttentionGroups attention_groups(Session& session, const std::string& kind,
                                 const std::string& rows_of, Diagnostics& diagnostics) {
  AttentionGroups groups;
  std::vector<SourcePtr> sources = files_named(session, "attention", diagnostics);
  // scripts/measure_kernels.sh writes the points of all our kernels into one file.
  for (const SourcePtr& ours : files_named(session, "kernels", diagnostics)) {
    sources.push_back(ours);
  }
  for (const SourcePtr& source : sources) {
    if (file_part(source->name).starts_with("attention_decode")) {
      continue;  // one query a sequence: other kernels
    }
    for (const AttentionRow& row : attention_rows(session, source, kind, rows_of, diagnostics)) {
      if (row.shape.band.lower) {
        continue;  // windows have fewer keys than the table's other rows of that length
      }
      groups[{row.shape.backward, row.shape.band.upper.has_value(), row.shape.head_dim}]
          .push_back(row);
    }
  }
  return groups;
}

// What is known of a full kernel that was measured with a mask only: its own tiles and the ratio
// of its beta to the masked kernel's before the fit; clocks, launches and starts as fitted.
AttentionCurve derived_full(const AttentionCurve& full, const AttentionCurve& masked,
                            const AttentionCurve& fitted) {
  AttentionCurve curve = fitted;
  curve.rows = full.rows;
  curve.columns = full.columns;
  curve.beta = full.beta * fitted.beta / masked.beta;
  curve.spread = std::max(fitted.spread, derived_spread);
  return curve;
}

std::string fit_attention_group(Session& session, const AttentionFamily& family,
                                const std::tuple<bool, bool, std::int64_t>& key,
                                const std::vector<AttentionRow>& rows, bool derive,
                                const std::string& from) {
  const auto [backward, masked, head_dim] = key;
  const AttentionPass& pass = backward ? family.backward : family.forward;
  AttentionCurve start = start_curve(masked ? pass.masked : pass.full, head_dim);
  start.head_dim = head_dim;
  const std::string what =
      fmt::format("attention-{}-{}-d{}{}", family.name, masked ? "causal" : "full", head_dim,
                  backward ? "-backward" : "");
  const AttentionServer server{pass.order, family.name == "fa3" && rows.front().vllm};
  const auto fit = fit_attention(session.device, start, session.memory_share,
                                 session.memory_launch, rows, server);
  if (!fit) {
    refuse(session, what, rows.size());
    return "";
  }
  record(session, what, fit->report);
  std::string text = write_attention_fit(*fit, family.name, backward, masked, from);
  if (derive) {
    text += write_derived_curve(
        derived_full(start_curve(pass.full, head_dim), start, fit->curve), family.name, backward,
        false, "derived from the fit of the masked kernel; tiles and ratio of beta as published; " + from);
  }
  return text;
}

void fit_attention_files(Session& session, Diagnostics& diagnostics) {
  std::string text;
  for (const auto& [name, rows_of] : read_pairs(session.command.attention, diagnostics)) {
    const std::size_t at = rows_of.find('@');
    const std::string kind = rows_of.substr(0, at);
    const std::string source = at == std::string::npos ? "" : rows_of.substr(at + 1);
    const auto family = std::find_if(session.profile.attention.begin(),
                                     session.profile.attention.end(),
                                     [&](const AttentionFamily& known) { return known.name == name; });
    if (family == session.profile.attention.end()) {
      diagnostics.error({}, "no-kernel", "the profile has no attention kernel '" + name + "'",
                        "add its tiles to calibrate/profiles/devices");
      continue;
    }
    const std::string from = session.command.origin + ", kernel " + kind +
                             (source.empty() ? "" : ", source " + source);
    const AttentionGroups groups = attention_groups(session, kind, source, diagnostics);
    for (const auto& [key, rows] : groups) {
      const auto [backward, masked, head_dim] = key;
      const bool derive = masked && groups.count({backward, false, head_dim}) == 0;
      text += fit_attention_group(session, *family, key, rows, derive, from);
    }
  }
  session.fits.text += text.empty() ? "" : "attention:\n" + text;
}

}  // namespace

KernelFits fit_kernels(const KernelCommand& command, Diagnostics& diagnostics) {
  const auto device = find_device(command.device, {}, diagnostics);
  diagnostics.throw_if_errors();
  auto profile = unfitted_profile(command.device, diagnostics);
  diagnostics.throw_if_errors();
  Session session{command, *device, std::move(*profile), {}, 0.0, {}};
  session.fits.text =
      "# Fits of kernels. Written by longhaul_fit kernels; see calibrate/README.md. Not edited by "
      "hand.\nformat: longhaul-kernel-fit/1\ndevice: " +
      command.device + "\n";
  fit_memory_files(session, diagnostics);
  fit_gemm_files(session, diagnostics);
  fit_attention_files(session, diagnostics);
  diagnostics.throw_if_errors();  // before files are read once more
  note_all(session);
  note_yardstick(session, diagnostics);
  diagnostics.throw_if_errors();
  return session.fits;
}

}  // namespace longhaul
