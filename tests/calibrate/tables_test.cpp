// Measurements to tables, tables to a profile, a profile to predictions.
#include "calibrate/fit/tables.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "calibrate/fit/compare.h"
#include "calibrate/fit/model_fit.h"
#include "calibrate/fit/statistics.h"
#include "sim/cost/collective_table.h"
#include "sim/input/presets.h"
#include "sim/topology/read_cluster.h"

using namespace longhaul;
using Catch::Matchers::WithinRel;

namespace {

SourcePtr text_source(const std::string& name, const std::string& text) {
  return std::make_shared<const SourceText>(SourceText{name, text});
}

constexpr const char* header = "operation,gpus,message_bytes,latency_us,nccl_version_stamp,flag\n";

Measurements read_rows(const std::string& rows, const CsvOptions& options = {}) {
  Measurements result;
  Diagnostics diagnostics;
  read_measured_csv(text_source("rows.csv", header + rows), options, result, diagnostics);
  CHECK(diagnostics.all().empty());
  return result;
}

std::string fault_of(const std::string& text) {
  Measurements result;
  Diagnostics diagnostics;
  read_measured_csv(text_source("rows.csv", text), {}, result, diagnostics);
  return diagnostics.all().empty() ? "" : diagnostics.all().front().code;
}

Measurements real_rows() {
  Measurements result;
  Diagnostics diagnostics;
  read_measured_file(LONGHAUL_SOURCE_DIR "/tests/calibrate/data/a100_all_gather_x4.csv", {}, result,
                     diagnostics);
  CHECK(diagnostics.all().empty());
  return result;
}

const TableOptions a100{{"a100-sxm-80gb"}, "none", {}, "a test"};

// The built-in profile with these tables alone.
TransportProfile profile_with(const std::vector<CollectiveTable>& tables) {
  Diagnostics diagnostics;
  auto profile = *read_transport_profile(*embedded_file("calibrate/profiles/transports/nccl.yaml"),
                                         diagnostics);
  profile.tables.clear();
  read_table_file(text_source("tables.yaml", write_tables(tables)), profile, diagnostics);
  CHECK(diagnostics.all().empty());
  return profile;
}

}  // namespace

TEST_CASE("repetitions become their median, and one outlier of three moves nothing") {
  const auto tables = make_tables(read_rows("all_gather,2,1024,10,,\nall_gather,2,1024,90,,\n"
                                            "all_gather,2,1024,11,,\nall_gather,2,4096,20,,\n"),
                                  a100);
  REQUIRE(tables.size() == 1);
  REQUIRE(tables.front().points.size() == 2);
  CHECK_THAT(tables.front().points.front().time.value(), WithinRel(11e-6, 1e-12));
  CHECK(tables.front().spread > 1.0);  // the 90th percentile of the deviations sees the outlier
}

TEST_CASE("times that fall are pooled, so that a table never falls") {
  const auto tables =
      make_tables(read_rows("all_reduce,2,1,10,,\nall_reduce,2,2,16,,\nall_reduce,2,4,14,,\n"
                            "all_reduce,2,8,40,,\nall_reduce,2,16,90,,\n"),
                  a100);
  const auto& points = tables.front().points;
  for (std::size_t i = 1; i < points.size(); ++i) {
    CHECK(points[i - 1].time <= points[i].time);
  }
  CHECK_THAT(table_time(tables.front(), Bytes::of(2.0)).value(),
             WithinRel(std::sqrt(16.0 * 14.0) * 1e-6, 0.021));
}

TEST_CASE("sizes that interpolation gives anyway are left out, others are kept") {
  // A power law is a straight line in logarithms; the jump is not.
  std::string straight, bent;
  for (int i = 0; i < 12; ++i) {
    const std::string start = "alltoall,4," + std::to_string(1 << (10 + i)) + ",";
    straight += start + std::to_string(10.0 * std::pow(1.5, i)) + ",,\n";
    bent += start + std::to_string(10.0 * std::pow(1.5, i) * (i > 5 ? 2.0 : 1.0)) + ",,\n";
  }
  CHECK(make_tables(read_rows(straight), a100).front().points.size() == 3);  // and the last two
  const auto kept = make_tables(read_rows(bent), a100).front().points;
  CHECK(kept.size() == 5);
}

TEST_CASE("tables come in order of collective and group, one size alone makes none") {
  const auto tables = make_tables(
      read_rows("alltoall,2,1,1,,\nalltoall,2,2,1,,\nall_gather,8,1,1,,\nall_gather,8,2,1,,\n"
                "all_gather,2,1,1,,\nall_gather,2,2,1,,\nreduce_scatter,2,1,1,,\n"),
      a100);
  REQUIRE(tables.size() == 3);
  CHECK(tables[0].gpus == 2);
  CHECK(tables[1].gpus == 8);
  CHECK(tables[2].kind == CollectiveKind::all_to_all);
}

TEST_CASE("a table that was written, read and priced gives what was measured") {
  const Measurements rows = real_rows();
  const auto tables = make_tables(rows, a100);
  REQUIRE(tables.size() == 1);
  Diagnostics diagnostics;
  const Cluster cluster = *find_cluster("dgx-a100", {8}, {}, diagnostics);
  const auto profile = std::make_shared<const TransportProfile>(profile_with(tables));
  const TransportCosts costs(cluster, profile);
  const auto gpus = *group_members(cluster, {4, 4, 1});
  const auto& points = tables.front().points;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const CollectiveRequest request{CollectiveKind::all_gather, gpus, points[i].bytes};
    CHECK(costs.lower(request).measured);
    CHECK_THAT(costs.alone(request).value(), WithinRel(points[i].time.value(), 5.1e-4));
    if (i > 0) {
      const double middle = std::sqrt(points[i - 1].bytes.value() * points[i].bytes.value());
      const double expected = std::sqrt(points[i - 1].time.value() * points[i].time.value());
      CHECK_THAT(costs.alone({CollectiveKind::all_gather, gpus, Bytes::of(middle)}).value(),
                 WithinRel(expected, 1e-3));
    }
  }
  const auto five = *group_members(cluster, {5, 5, 1});
  CHECK_FALSE(costs.lower({CollectiveKind::all_gather, five, points.front().bytes}).measured);
}

TEST_CASE("half of the sizes of a real sweep foretell the other half within 4 % at the median") {
  const Measurements rows = real_rows();
  std::set<double> sizes;
  for (const FitMeasurement& row : rows.rows) {
    sizes.insert(row.bytes.value());
  }
  const std::vector<double> all(sizes.begin(), sizes.end());
  Measurements even, odd;
  for (const FitMeasurement& row : rows.rows) {
    const auto place = std::find(all.begin(), all.end(), row.bytes.value()) - all.begin();
    (place % 2 == 0 ? even : odd).rows.push_back(row);
  }
  REQUIRE(odd.rows.size() >= 10);
  const auto table = make_tables(even, a100).front();
  std::vector<double> errors;
  for (const FitMeasurement& row : odd.rows) {
    errors.push_back(std::abs(table_time(table, row.bytes) / row.time - 1.0));
  }
  CHECK(median(errors) < 0.04);
}

TEST_CASE("rows with a flag and of older NCCL are left out and counted") {
  const std::string rows =
      "all_gather,2,1024,10,2.9.1,\nall_gather,2,1024,20,2.29.2,\nall_gather,2,1024,9,2.29.2,"
      "slow\n";
  const Measurements newest = read_rows(rows);
  REQUIRE(newest.rows.size() == 1);
  CHECK_THAT(newest.rows.front().time.value(), WithinRel(20e-6, 1e-12));
  CHECK(newest.left_out == std::vector<std::string>{"rows.csv: 1 rows with a flag",
                                                    "rows.csv: 1 rows not of nccl_version_stamp "
                                                    "2.29.2"});
  CHECK(read_rows(rows, {0, "nccl_version_stamp", "2.9.1"}).rows.size() == 1);
}

TEST_CASE("a size that is not nccl-tests' is found by the bus bandwidth") {
  const std::string head = "operation,gpus,message_bytes,latency_us,bus_bandwidth_gb_per_s\n";
  // 8 GPUs gather 8 MB in 100 us: 80 GB/s, of which 7/8 are on the bus.
  CHECK(fault_of(head + "all_gather,8,8000000,100,70\n").empty());
  CHECK(fault_of(head + "all_gather,8,1000000,100,70\n") == "bus-bandwidth");
  CHECK(fault_of(head + "all_reduce,8,8000000,100,140\n").empty());
  CHECK(fault_of(head + "all_reduce,8,8000000,100,70\n") == "bus-bandwidth");
}

TEST_CASE("what is wrong with a file of rows is named") {
  CHECK(fault_of("operation,gpus\nall_gather,2\n") == "no-column");
  CHECK(fault_of(std::string(header) + "all_gather,2,1\n") == "ragged-row");
  CHECK(fault_of(std::string(header) + "gather,2,1,1,,\n") == "unknown-collective");
  CHECK(fault_of(std::string(header) + "all_gather,1,1,1,,\n") == "bad-group");
  CHECK(fault_of(std::string(header) + "all_gather,2,x,1,,\n") == "bad-number");
  CHECK(fault_of(std::string(header) + "all_gather,2,1,-1,,\n") == "bad-number");
  CHECK(fault_of(std::string(header) + "all_gather,2,1,1,,\n").empty());
}

TEST_CASE("groups on several nodes are whole numbers of nodes") {
  const CsvOptions of_8{8, "", ""};
  const auto rows = read_rows("all_gather,4,1,1,,\nall_gather,16,1,1,,\n", of_8).rows;
  CHECK(rows[0].group == GroupShape{4, 4, 1});
  CHECK(rows[1].group == GroupShape{16, 8, 2});
}

TEST_CASE("a sweep in YAML gives its rows, out of place") {
  const char* text =
      "id: some\ncollective: alltoall\ngpus: 16\nnodes: 2\nnotes: any\n"
      "columns: [bytes, time_us, inplace_time_us]\nrows:\n  - [0, 9, 9]\n  - [8192, 21.5, 30]\n";
  Measurements result;
  Diagnostics diagnostics;
  read_measured_sweep(text_source("some.yaml", text), result, diagnostics);
  CHECK(diagnostics.all().empty());
  REQUIRE(result.rows.size() == 1);
  CHECK(result.rows.front().kind == CollectiveKind::all_to_all);
  CHECK(result.rows.front().group == GroupShape{16, 8, 2});
  CHECK_THAT(result.rows.front().time.value(), WithinRel(21.5e-6, 1e-12));
}

TEST_CASE("a table is confirmed by runs that it foretells no worse than the model") {
  Diagnostics diagnostics;
  const Cluster cluster = *find_cluster("dgx-a100", {8}, {}, diagnostics);
  const Measurements rows = real_rows();
  const TransportProfile profile = profile_with(make_tables(rows, a100));
  CHECK(judge_tables(cluster, profile, rows).front().confirmed);
  Measurements slower = rows;
  for (FitMeasurement& row : slower.rows) {
    const auto gpus = *group_members(cluster, row.group);
    TransportProfile bare = profile;
    bare.tables.clear();
    row.time = TransportCosts(cluster, std::make_shared<const TransportProfile>(bare))
                   .alone({row.kind, gpus, row.bytes});
  }
  CHECK_FALSE(judge_tables(cluster, profile, slower).front().confirmed);
  Measurements none;
  CHECK(judge_tables(cluster, profile, none).front().confirmed);
}

TEST_CASE("a profile names files of tables beside it; a missing one is an error at its place") {
  const std::string built_in =
      embedded_file("calibrate/profiles/transports/nccl.yaml")->get()->text;
  const std::string text = built_in.substr(0, built_in.find("\ntables:")) + "\ntables:\n  - file: ";
  const std::string folder = LONGHAUL_SOURCE_DIR "/calibrate/profiles/transports/";
  Diagnostics good;
  const auto profile =
      read_transport_profile(text_source(folder + "mine.yaml", text + "tables/h100.yaml\n"), good);
  REQUIRE(profile);
  CHECK(profile->tables.front().devices == std::vector<std::string>{"h100-sxm-80gb"});
  Diagnostics bad;
  CHECK_FALSE(read_transport_profile(text_source("built-in: a/b.yaml", text + "none.yaml\n"), bad));
  REQUIRE(bad.all().size() == 1);
  CHECK(bad.all().front().code == "no-table-file");
  CHECK(bad.all().front().place.line > 100);
  Diagnostics surplus;
  CHECK_FALSE(read_transport_profile(
      text_source(folder + "mine.yaml", text + "tables/h100.yaml\n    gpus: 2\n"), surplus));
}

TEST_CASE("every table that comes with longhaul has an origin and points") {
  Diagnostics diagnostics;
  const auto profile = *read_transport_profile(
      *embedded_file("calibrate/profiles/transports/nccl.yaml"), diagnostics);
  CHECK(profile.tables.size() > 10);
  CHECK(profile.origins.size() == 7);  // the profile and six files of tables
  for (const CollectiveTable& table : profile.tables) {
    CHECK(table.from.find("aiconfigurator") != std::string::npos);
    CHECK(table.points.size() >= 5);
  }
}
