// Sweeps: logs of nccl-tests in many layouts, contradictions, machines from words, scores by band,
// and halves.
#include <catch2/catch.hpp>
#include <random>

#include "sim/validation/nccl_tests.h"
#include "sim/validation/score_sweeps.h"
#include "sim/validation/sweep_machine.h"

using namespace longhaul;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

namespace {

SourcePtr source_of(const std::string& text, const std::string& name = "log.txt") {
  auto source = std::make_shared<SourceText>();
  source->name = name;
  source->text = text;
  return source;
}

std::string rank_line(int rank, const std::string& host, int device,
                      const std::string& gpu = "NVIDIA H100 80GB HBM3") {
  return "#  Rank " + std::to_string(rank) + " Group  0 Pid " + std::to_string(900 + rank) +
         " on " + host + " device " + std::to_string(device) + " [0000:18:00] " + gpu + "\n";
}

std::string ranks(int hosts, int per_host) {
  std::string text = "# nThread 1 nGpus 1 minBytes 8 maxBytes 8 step: 2(factor)\n# Using devices\n";
  for (int rank = 0; rank < hosts * per_host; ++rank) {
    text += rank_line(rank, "host" + std::to_string(rank / per_host), rank % per_host);
  }
  return text;
}

const std::string new_titles =
    "#\n#                                    out-of-place                       in-place\n"
    "#       size         count      type   redop    root     time   algbw   busbw #wrong     time "
    "  algbw   busbw #wrong\n"
    "#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us) "
    " (GB/s)  (GB/s)\n";
// 8 ranks: busbw = 1.75 algbw. 1048576 / 50.00 us = 20.97 GB/s, 16777216 / 100.0 us = 167.77.
const std::string new_rows =
    "     1048576        262144     float     sum      -1    50.00   20.97   36.70      0    52.00 "
    " "
    " 20.16   35.29    N/A\n"
    "    16777216       4194304     float     sum      -1    100.0  167.77  293.60      0    100.0 "
    " "
    "167.77  293.60      0\n";
const std::string footer = "# Out of bounds values : 0 OK\n# Avg bus bandwidth    : 164.798\n#\n";
const std::string program = "./build/all_reduce_perf -b 1M -e 16M -f 16\n";

std::string whole_log() { return program + ranks(1, 8) + new_titles + new_rows + footer; }

std::vector<Sweep> read_all(const std::string& text, const std::string& name = "log.txt") {
  Diagnostics diagnostics;
  return read_nccl_tests(source_of(text, name), diagnostics);
}

Sweep read_one(const std::string& text, const std::string& name = "log.txt") {
  const auto sweeps = read_all(text, name);
  REQUIRE(sweeps.size() == 1);
  return sweeps[0];
}

std::string prefixed(const std::string& text, const std::string& prefix, const std::string& end) {
  std::string result;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t line = text.find('\n', at);
    result += prefix + text.substr(at, line - at) + end;
    at = line + 1;
  }
  return result;
}

void check_whole(const Sweep& sweep) {
  CHECK(sweep.skip_reason.empty());
  CHECK(sweep.collective == "all_reduce");
  CHECK(sweep.gpus == 8);
  CHECK(sweep.nodes == 1);
  CHECK(sweep.gpus_per_node == 8);
  CHECK(sweep.gpu == "NVIDIA H100 80GB HBM3");
  REQUIRE(sweep.rows.size() == 2);
  CHECK(sweep.rows[0].bytes == 1048576.0);
  CHECK(sweep.rows[0].time->value == 50.0);
  CHECK(sweep.rows[1].in_place_bus_bandwidth->value == 293.60);
}

std::string sweep_yaml(const std::string& rows, const std::string& more = "") {
  return "format: longhaul-sweep/1\nid: one\ngpu: NVIDIA H100 80GB HBM3\ngpus: 8\nnodes: 1\n"
         "gpus_per_node: 8\ncollective: all_gather\n" +
         more + "columns: [bytes, time_us, algbw_GBps, busbw_GBps]\nrows:\n" + rows;
}

std::optional<Sweep> read_yaml(const std::string& text, std::string* words = nullptr) {
  Diagnostics diagnostics;
  const auto sweep = read_sweep(source_of(text, "sweep.yaml"), diagnostics);
  if (words != nullptr) {
    *words = format_diagnostics(diagnostics, false);
  }
  return sweep;
}

Sweep made_sweep(int gpus, const std::vector<std::pair<double, double>>& points) {
  Sweep sweep;
  sweep.id = "made";
  sweep.gpu = "NVIDIA H100 80GB HBM3";
  sweep.gpus = sweep.gpus_per_node = gpus;
  sweep.nodes = 1;
  sweep.collective = "all_gather";
  sweep.kind = CollectiveKind::all_gather;
  for (const auto& [bytes, microseconds] : points) {
    SweepRow row;
    row.bytes = bytes;
    row.time = Printed{microseconds, 0.005};
    sweep.rows.push_back(row);
  }
  return sweep;
}

}  // namespace

TEST_CASE(
    "a log is read as it stands, whatever mpirun, srun, a terminal or Windows put around it") {
  check_whole(read_one(whole_log()));
  check_whole(read_one(prefixed(whole_log(), "[1,0]<stdout>:", "\n")));
  check_whole(read_one(prefixed(whole_log(), "  0: ", "\n")));
  check_whole(read_one(prefixed(whole_log(), "    ", "\n")));
  check_whole(read_one(prefixed(whole_log(), "[worker-0] 2026-01-02 10:11:12.5 | ", "\n")));
  check_whole(read_one(prefixed(whole_log(), "2026-01-02T10:11:12Z host-1: ", "\n")));
  check_whole(read_one(prefixed(whole_log(), "\x1b[32m", "\x1b[0m\r\n")));
}

TEST_CASE("NCCL's lines between the rows are no rows; they tell version and pins") {
  std::string log = whole_log();
  const std::string info =
      "host0:900:950 [0] NCCL INFO NCCL_ALGO set by environment to Ring\n"
      "host0:900:950 [0] NCCL INFO Channel 00/24 : 0 1 2 3\nNCCL version 2.20.3+cuda12.2\n";
  log.insert(log.find("    16777216"), info);
  const Sweep sweep = read_one(log);
  check_whole(sweep);
  CHECK(sweep.algorithm == NcclAlgorithm::ring);
  CHECK(sweep.nccl == "2.20.3+cuda12.2");
}

TEST_CASE("the layouts of old versions, without root or even redop, are read by their titles") {
  const std::string old_titles =
      "#       size         count    type   redop     time   algbw   busbw  error     time   algbw "
      " "
      " busbw  error\n";
  const std::string with_redop =
      "     1048576        262144   float     sum    50.00   20.97   36.70  1e-06    52.00   20.16 "
      " "
      " 35.29  1e-06\n";
  std::string without_redop = with_redop;
  without_redop.replace(without_redop.find("sum"), 3, "   ");
  for (const std::string& row : {with_redop, without_redop}) {
    const Sweep sweep = read_one(program + ranks(1, 8) + old_titles + row);
    REQUIRE(sweep.rows.size() == 1);
    CHECK(sweep.rows[0].time->value == 50.0);
    CHECK(sweep.rows[0].in_place_time->value == 52.0);
  }
}

TEST_CASE("further columns per size, and a time stamp, do not shift the others") {
  const std::string titles =
      "#  size count type redop root time algbw busbw #wrong i_min i_max time algbw busbw #wrong "
      "i_min i_max timestamp\n";
  const std::string row =
      "1048576 262144 float sum -1 50.00 20.97 36.70 0 49.1 51.2 52.00 20.16 35.29 0 51.0 53.0 "
      "2026-01-02 10:11:12\n";
  const Sweep sweep = read_one(program + ranks(1, 8) + titles + row);
  REQUIRE(sweep.rows.size() == 1);
  CHECK(sweep.rows[0].bus_bandwidth->value == 36.70);
  CHECK(sweep.rows[0].in_place_time->value == 52.0);
}

TEST_CASE("several tables in one log are several sweeps, each with its own ranks and program") {
  std::string second = whole_log();
  second.replace(second.find("all_reduce"), 10, "all_gather");
  const auto sweeps = read_all(whole_log() + second);
  REQUIRE(sweeps.size() == 2);
  check_whole(sweeps[0]);
  CHECK(sweeps[0].id == "log.txt#1");
  CHECK(sweeps[1].id == "log.txt#2");
  CHECK(sweeps[1].gpus == 8);
  // Its rows are those of an all-reduce: the factor gives it away.
  CHECK(sweeps[1].skip_reason ==
        "busbw / algbw is 1.750, but all_gather on 8 ranks has 0.875: another collective, or other "
        "ranks");
}

TEST_CASE("ranks on several hosts are several nodes, and NCCL's lines tell the adapters") {
  const std::string info =
      "host0:1:1 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO]; OOB eth0\n";
  const Sweep sweep = read_one(program + ranks(2, 4) + info + new_titles + new_rows);
  CHECK(sweep.nodes == 2);
  CHECK(sweep.gpus_per_node == 4);
  CHECK(sweep.inter == "2x InfiniBand");
}

TEST_CASE("a log that does not name its collective is all_reduce only if its bandwidths say so") {
  const std::string nameless = ranks(1, 8) + new_titles + new_rows;
  CHECK(read_one(nameless).collective == "all_reduce");
  CHECK(read_one(nameless).notes.size() == 1);
  CHECK(read_one(nameless, "dir/h100_allreduce.log").collective == "all_reduce");
  const std::string factor_one =
      "     1048576        262144     float     sum      -1    50.00   20.97   18.35      0    "
      "50.00   20.97   18.35      0\n";
  const Sweep unknown = read_one(ranks(1, 8) + new_titles + factor_one);
  CHECK(unknown.skip_reason.starts_with("the log does not say which collective it is"));
  CHECK(read_one(ranks(1, 8) + new_titles + factor_one, "all_gather.log").skip_reason.empty());
}

TEST_CASE("groups that cannot be told are skipped with the reason") {
  const auto reason = [](const std::string& rank_lines) {
    return read_one(program + rank_lines + new_titles + new_rows).skip_reason;
  };
  CHECK(reason("") == "the log has no '# Rank' lines: hosts and GPUs are not known");
  CHECK(reason(rank_line(0, "a", 0)) == "one rank alone sends nothing");
  CHECK(reason(rank_line(0, "a", 0) + rank_line(0, "a", 0)).starts_with("rank 0 is listed twice"));
  CHECK(reason(rank_line(0, "a", 0) + rank_line(2, "a", 1)).starts_with("'# Rank' lines are"));
  CHECK(reason(rank_line(0, "a", 0) + rank_line(1, "a", 1) + rank_line(2, "b", 0)) ==
        "hosts have different numbers of ranks (2 and 1)");
  CHECK(reason(rank_line(0, "a", 0) + rank_line(1, "a", 1, "NVIDIA A100")) ==
        "its GPUs are of different kinds");
  // Containers on two machines, both called "a": never taken for one machine of two GPUs.
  CHECK(reason(rank_line(0, "a", 0) + rank_line(1, "a", 0)) ==
        "host a lists device 0 [0000:18:00] twice: hosts that share a name, or ranks that share a "
        "GPU");
  CHECK(reason(rank_line(0, "a", 0, "NVIDIA A100 MIG 1g.10gb") +
               rank_line(1, "a", 1, "NVIDIA A100 MIG 1g.10gb")) ==
        "it ran on slices of GPUs (MIG)");
}

TEST_CASE("settings that change times and are not modelled are said") {
  const auto notes = [](const std::string& settings, const std::string& info) {
    std::string text = ranks(1, 8);
    text.replace(0, text.find('\n'), settings);
    return read_one(program + text + info + new_titles + new_rows).notes;
  };
  const std::string plain = "# nThread 1 nGpus 1 warmup iters: 5 iters: 20 agg iters: 1 graph: 0";
  CHECK(notes(plain, "").empty());
  CHECK(notes("# nThread 1 nGpus 1 agg iters: 10 graph: 0", "") ==
        std::vector<std::string>{"several operations launched together: small sizes take less"});
  CHECK(notes("# nThread 1 nGpus 1 agg iters: 1 graph: 20", "") ==
        std::vector<std::string>{"launched from CUDA graphs: small sizes take less"});
  CHECK(notes(plain, "h:1:1 [0] NCCL INFO NCCL_P2P_DISABLE set by environment to 1\n") ==
        std::vector<std::string>{"NCCL_P2P_DISABLE=1 is not modelled"});
}

TEST_CASE("one process that launches for all GPUs is noticed") {
  std::string together;
  for (int rank = 0; rank < 8; ++rank) {
    together += "#  Rank " + std::to_string(rank) + " Group  0 Pid 77 on a device " +
                std::to_string(rank) + " [0x" + std::to_string(10 + rank) + "] NVIDIA H100\n";
  }
  const Sweep sweep = read_one(program + together + new_titles + new_rows);
  REQUIRE(sweep.notes.size() == 1);
  CHECK(sweep.notes[0].starts_with("one process launches for all GPUs"));
}

TEST_CASE("a size whose results were wrong is left out") {
  std::string wrong = new_rows;
  wrong.replace(wrong.find("36.70      0"), 12, "36.70      7");
  const Sweep sweep = read_one(program + ranks(1, 8) + new_titles + wrong);
  REQUIRE(sweep.rows.size() == 1);
  CHECK(sweep.rows[0].bytes == 16777216.0);
}

TEST_CASE("a row whose numbers contradict one another is left out, a table of such rows refused") {
  std::string one_wrong = sweep_yaml("");
  for (int i = 0; i < 10; ++i) {
    one_wrong += "  - [" + std::to_string(1048576 << i) + ", " + std::to_string(50 << i) +
                 ".00, 20.97, 18.35]\n";
  }
  std::string words;
  const auto good = read_yaml(one_wrong, &words);
  REQUIRE(good);
  CHECK(good->rows.size() == 10);
  CHECK(words.empty());
  one_wrong += "  - [2147483648, 50000.0, 99.00, 86.62]\n";  // 42.95 GB/s
  const auto flagged = read_yaml(one_wrong, &words);
  REQUIRE(flagged);
  CHECK(flagged->rows.size() == 10);
  CHECK(flagged->skip_reason.empty());
  CHECK(words.find("of 2147483648 bytes contradict one another") != std::string::npos);
  const auto refused = read_yaml(
      sweep_yaml("  - [1048576, 50.00, 20.97, 18.35]\n  - [2097152, 50.00, 20.97, 18.35]\n"));
  REQUIRE(refused);
  CHECK(refused->skip_reason ==
        "its numbers contradict one another in 1 of 2 rows: not what nccl-tests prints");
}

TEST_CASE("numbers agree within the digits that are printed, and not beyond") {
  // 1000 bytes in 1.0 us (0.9 to 1.1 if cut off): 0.91 to 1.11 GB/s; all_gather on 8: 7/8 of it.
  const auto rows_left = [](const std::string& row) {
    return read_yaml(sweep_yaml("  - " + row + "\n"))->rows.size();
  };
  CHECK(rows_left("[1000, 1.0, 1.00, 0.88]") == 1);
  CHECK(rows_left("[1000, 1.0, 1.11, 0.97]") == 1);
  CHECK(rows_left("[1000, 1.0, 1.14, 1.00]") == 0);
  CHECK(rows_left("[1000, 1.0, 1.00, 0.91]") == 0);
}

TEST_CASE("JSON of nccl-tests is read like its table, and its environment is not kept") {
  const std::string json =
      R"({"version": 3, "nccl_version": "2.28.3", "env": ["TOKEN=secret"],
      "args": ["/opt/all_reduce_perf", "-b", "1M"], "config": {"devices": [
      {"rank": 0, "group": 0, "hostname": "a", "device": 0, "device_info": "NVIDIA H200"},
      {"rank": 1, "group": 0, "hostname": "a", "device": 1, "device_info": "NVIDIA H200"}]},
      "results": [{"size": 1048576, "count": 262144, "type": "float", "redop": "sum",
      "root": "-1", "out_of_place": {"time": 50.0, "alg_bw": 20.97152, "bus_bw": 20.97152,
      "nwrong": "0"}, "in_place": null}],
      "average_bus_bandwidth": {"bandwidth": 20.97152, "okay": "true"}})";
  REQUIRE(looks_like_nccl_tests(*source_of(json)));
  const Sweep sweep = read_one(json);
  CHECK(sweep.skip_reason.empty());
  CHECK(sweep.collective == "all_reduce");
  CHECK(sweep.gpu == "NVIDIA H200");
  CHECK(sweep.nccl == "2.28.3");
  REQUIRE(sweep.rows.size() == 1);
  CHECK(sweep.rows[0].time->value == 50.0);
  CHECK_FALSE(sweep.rows[0].in_place_time);
  std::string on_cpu = json;
  on_cpu.replace(on_cpu.find("\"time\""), 6, "\"cpu_time\"");
  CHECK_FALSE(read_one(on_cpu).skip_reason.empty());
}

TEST_CASE("what is no log of nccl-tests is not taken for one") {
  CHECK(looks_like_nccl_tests(*source_of(whole_log())));
  CHECK(looks_like_nccl_tests(*source_of(prefixed(whole_log(), "[1,0]<stdout>:", "\r\n"))));
  CHECK_FALSE(looks_like_nccl_tests(*source_of(sweep_yaml(""))));
  CHECK_FALSE(looks_like_nccl_tests(*source_of("format: longhaul-runs/1\nruns: []\n")));
  CHECK(looks_like_sweep(*source_of(sweep_yaml(""))));
  CHECK(looks_like_sweep(*source_of("id: x\ncollective: all_reduce\nrows: []\n")));
  CHECK_FALSE(looks_like_sweep(*source_of("format: longhaul-runs/1\ncollective: x\nrows: []\n")));
}

TEST_CASE("thousands of damaged logs are read or refused, never a crash") {
  std::mt19937 random(20260101);
  const std::string info = "host0:1:1 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/RoCE\n";
  const std::string clean = "NCCL version 2.1\n" + info + whole_log() + "[1,0]<stdout>:" + program;
  const std::string pieces[] = {
      "#",   "\n",    "[1,0]<stdout>:", "99999999999999999999", "-1",   "N/A",
      "nan", "1e999", "\x1b[",          "{\"results\": [",      "time", " device "};
  for (int round = 0; round < 5000; ++round) {
    std::string text = clean;
    const int changes = 1 + static_cast<int>(random() % 8);
    for (int i = 0; i < changes; ++i) {
      const std::size_t at = random() % text.size();
      switch (random() % 4) {
        case 0: text[at] = static_cast<char>(random() % 256); break;
        case 1: text.erase(at, random() % 40); break;
        case 2: text.insert(at, pieces[random() % std::size(pieces)]); break;
        default: text.insert(at, text.substr(random() % text.size(), random() % 200)); break;
      }
      text += text.empty() ? "#" : "";
    }
    for (const Sweep& sweep : read_all(text)) {
      // Whatever is accepted can be predicted.
      const bool usable = sweep.kind && sweep.gpus >= 2 && !sweep.rows.empty();
      REQUIRE((usable || !sweep.skip_reason.empty()));
    }
  }
}

TEST_CASE("every mistake of a sweep file is told with its place and remedy") {
  std::string words;
  CHECK_FALSE(
      read_yaml("format: longhaul-sweep/1\n"
                "id: one\n"
                "gpus: 8\n"
                "nodes: 2\n"
                "gpus_per_node: 8\n"
                "collective: all_reduse\n"
                "columns: [bytes, time_ms]\n"
                "rows:\n"
                "  - [1.5]\n",
                &words));
  CHECK(words == R"(sweep.yaml:3:7: error: 8 GPUs are not 2 nodes of 8
    3 | gpus: 8
      |       ^
      = help: gpus = gpus_per_node x nodes
sweep.yaml:6:13: error: there is no collective 'all_reduse'
    6 | collective: all_reduse
      |             ^~~~~~~~~~
      = help: nccl-tests has all_reduce, all_gather, reduce_scatter, alltoall, broadcast, sendrecv, reduce, gather, scatter, hypercube
sweep.yaml:7:10: error: columns need 'bytes' and 'time_us'
    7 | columns: [bytes, time_ms]
      |          ^
      = help: write 'columns: [bytes, time_us]'
sweep.yaml:7:18: error: there is no column 'time_ms'
    7 | columns: [bytes, time_ms]
      |                  ^~~~~~~
      = help: did you mean 'time_us'?
sweep.yaml:9:6: error: a size is a whole number of bytes
    9 |   - [1.5]
      |      ^~~
      = help: write 1048576
5 errors in sweep.yaml
)");
}

TEST_CASE("names of GPUs lead to device presets only where they leave no other choice unsaid") {
  std::vector<std::string> notes;
  CHECK(device_of("NVIDIA H100 80GB HBM3", notes) == "h100-sxm-80gb");
  CHECK(device_of("A100-SXM4-40GB", notes) == "a100-sxm-40gb");
  CHECK(device_of("NVIDIA GH200 480GB", notes) == "gh200");
  CHECK(device_of("NVIDIA H200", notes) == "h200-sxm");
  CHECK(notes.empty());
  CHECK(device_of("NVIDIA H100 PCIe", notes).empty());
  CHECK(device_of("RTX A1000", notes).empty());
  CHECK(device_of("RTX 2080 Ti", notes).empty());
  CHECK(device_of("A100-SXM4", notes) == "a100-sxm-80gb");
  CHECK(notes.size() == 1);
}

TEST_CASE(
    "several nodes joined by nobody knows what are skipped, unless the user names a cluster") {
  Sweep sweep = made_sweep(8, {{1048576.0, 50.0}});
  sweep.nodes = 2;
  sweep.gpus = 16;
  Diagnostics diagnostics;
  CHECK(machine_of(sweep, "", diagnostics).skip_reason ==
        "nothing says what joins its nodes: give --cluster");
  const SweepMachine given = machine_of(sweep, "dgx-h100", diagnostics);
  REQUIRE(given.cluster);
  CHECK(given.gpus.size() == 16);
  CHECK(given.cluster->node_of(given.gpus[8]) == 1);
  sweep.inter = "8x NDR400 InfiniBand";
  const SweepMachine guessed = machine_of(sweep, "", diagnostics);
  REQUIRE(guessed.cluster);
  CHECK_THAT(guessed.cluster->nic_bandwidth().value(), WithinRel(50e9, 1e-12));
  CHECK(guessed.notes.front().starts_with("machine guessed from words"));
  sweep.gpus_per_node = 9;
  CHECK_FALSE(machine_of(sweep, "dgx-h100", diagnostics).skip_reason.empty());
  CHECK_FALSE(diagnostics.has_errors());
}

TEST_CASE("sizes fall into bands at 64 KiB, 1 MiB and 16 MiB, and scores stay in their band") {
  CHECK(size_band(65535.0) == 0);
  CHECK(size_band(65536.0) == 1);
  CHECK(size_band(1048575.0) == 1);
  CHECK(size_band(1048576.0) == 2);
  CHECK(size_band(16777215.0) == 2);
  CHECK(size_band(16777216.0) == 3);
  const auto point = [](double bytes, double predicted) {
    SweepPoint made;
    made.bytes = bytes;
    made.measured = 1.0;
    made.predicted = predicted;
    made.low = 0.95 * predicted;
    made.high = 1.05 * predicted;
    return made;
  };
  const std::vector<SweepPoint> points{point(1e6, 1.5), point(2e6, 1.1), point(3e6, 0.8),
                                       point(4e6, 1.01)};
  const BandScore band = score_band(points, 2);
  CHECK(band.sizes == 3);
  CHECK_THAT(band.median_absolute_error, WithinAbs(0.1, 1e-12));
  CHECK_THAT(band.bias, WithinAbs(0.01, 1e-12));
  CHECK_THAT(band.interval_coverage, WithinAbs(1.0 / 3.0, 1e-12));
  CHECK(score_band(points, 3).sizes == 0);
}

TEST_CASE("a summary is the median over sweeps, each with one vote, fitted sweeps apart") {
  const auto score = [](double error, bool fitted, std::int64_t sizes) {
    SweepScore made;
    made.sweep.collective = "all_gather";
    made.fitted = fitted;
    made.bands[3] = {sizes, error, -error, 0.5};
    return made;
  };
  const auto rows = summarize_sweeps(
      {score(0.1, false, 1), score(0.2, false, 100), score(0.9, false, 1), score(7.0, true, 1)});
  REQUIRE(rows.size() == 4);
  CHECK(rows[0].collective == "all");
  CHECK(rows[1].collective == "all_gather");
  CHECK_FALSE(rows[0].fitted);
  CHECK(rows[0].bands[3].sweeps == 3);
  CHECK_THAT(rows[0].bands[3].median, WithinAbs(0.2, 1e-12));
  CHECK_THAT(rows[0].bands[3].p90, WithinAbs(0.9, 1e-12));
  CHECK_THAT(rows[0].bands[3].bias, WithinAbs(-0.2, 1e-12));
  CHECK(rows[2].fitted);
  CHECK(rows[2].bands[3].median == 7.0);
}

TEST_CASE("a sweep on a power law is predicted exactly from half of its sizes") {
  std::vector<std::pair<double, double>> points;
  for (int i = 0; i < 9; ++i) {
    points.emplace_back(1048576.0 * std::pow(2.0, i), 40.0 * std::pow(2.0, 0.9 * i));
  }
  Diagnostics diagnostics;
  SweepOptions options;
  options.half = true;
  const SweepReport report = score_sweeps({made_sweep(8, points)}, options, diagnostics);
  REQUIRE(report.halves.size() == 1);
  CHECK(report.halves[0].calibrated == 5);
  CHECK(report.halves[0].predicted == 4);
  CHECK_THAT(report.halves[0].median_absolute_error, WithinAbs(0.0, 1e-6));
  points[3].second *= 1.25;  // one of the four that are predicted
  const SweepReport bumped = score_sweeps({made_sweep(8, points)}, options, diagnostics);
  CHECK_THAT(bumped.halves[0].mean_absolute_error, WithinAbs(0.2 / 4.0, 1e-6));
}

TEST_CASE("sweeps on other machines than the profile's are not marked as fitted") {
  Diagnostics diagnostics;
  Sweep sweep = made_sweep(4, {{1048576.0, 50.0}});
  CHECK_FALSE(score_sweeps({sweep}, {}, diagnostics).scores.at(0).fitted);
  sweep.id = "h100_4x1_snellius_all_gather";
  CHECK(score_sweeps({sweep}, {}, diagnostics).scores.at(0).fitted);
  sweep.id = "h100_4x1_snellius_all_gather_of_someone_else";
  CHECK_FALSE(score_sweeps({sweep}, {}, diagnostics).scores.at(0).fitted);
}

TEST_CASE("groups beyond the limit are skipped, and a ring of messages is one message") {
  Diagnostics diagnostics;
  SweepOptions options;
  options.max_gpus = 7;
  Sweep sweep = made_sweep(8, {{1048576.0, 50.0}});
  CHECK(score_sweeps({sweep}, options, diagnostics).skipped.size() == 1);
  sweep.kind = CollectiveKind::send;
  sweep.collective = "sendrecv";
  const SweepReport report = score_sweeps({sweep}, {}, diagnostics);
  REQUIRE(report.scores.size() == 1);
  CHECK(report.scores[0].points[0].algorithm == "p2p");
  CHECK(report.scores[0].notes.back() ==
        "a ring of messages is predicted as its slowest message alone");
}
