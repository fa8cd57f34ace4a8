// Behaviours recovered from measurements that a known profile has made up.
#include "calibrate/fit/model_fit.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "sim/input/presets.h"
#include "sim/topology/read_cluster.h"

using namespace longhaul;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

namespace {

constexpr auto simple = static_cast<std::size_t>(TransferKind::ring_simple);

struct Bench {
  Diagnostics diagnostics;
  Cluster cluster = *find_cluster("dgx-h100", {8}, {}, diagnostics);
  TransportProfile start = *read_transport_profile(
      *embedded_file("calibrate/profiles/transports/nccl.yaml"), diagnostics);

  Bench() { start.tables.clear(); }

  // The machine that is measured: other waiting and bandwidth than the profile to start from.
  [[nodiscard]] TransportProfile machine() const {
    TransportProfile profile = start;
    for (Medium& medium : profile.media) {
      Behaviour& ring = medium.behaviours[simple];
      if (medium.name == "hopper") {
        ring.base = ring.base * 1.5;
        ring.share *= 0.8;
      }
    }
    return profile;
  }

  // All-gathers of 32 MiB to 1 GiB, which run as rings with Simple, with errors of 2 % (uniform)
  // and every ninth three times too slow.
  void measure(int gpus, int sizes, Measurements& result) const {
    const TransportCosts costs(cluster, std::make_shared<const TransportProfile>(machine()));
    std::mt19937 random(static_cast<unsigned>(gpus));
    FitMeasurement row{CollectiveKind::all_gather, {gpus, gpus, 1}, {}, {}, 0};
    row.sweep = result.add_sweep("x" + std::to_string(gpus));
    const auto members = *group_members(cluster, row.group);
    for (int i = 0; i < sizes; ++i) {
      row.bytes = Bytes::of(32.0 * 1048576.0 * std::pow(2.0, 5.0 * i / sizes));
      const double noise = 0.04 * (static_cast<double>(random()) / 4294967296.0 - 0.5);
      row.time = costs.alone({row.kind, members, row.bytes}) * std::exp(noise);
      row.time = i % 9 == 4 ? row.time * 3.0 : row.time;
      result.rows.push_back(row);
    }
  }
};

}  // namespace

TEST_CASE("a fit finds the behaviour that measurements were made with, outliers or not") {
  const Bench bench;
  Measurements measurements;
  for (const int gpus : {2, 4, 8}) {
    bench.measure(gpus, 30, measurements);
  }
  const ModelFit fit = fit_model(bench.cluster, bench.start, measurements);
  REQUIRE(fit.fits.size() == 1);
  const BehaviourFit& ring = fit.fits.front();
  CHECK(ring.kind == TransferKind::ring_simple);
  CHECK(ring.medium == "hopper");
  CHECK(ring.converged);
  CHECK(ring.points == 90);
  CHECK(ring.sweeps == std::vector<std::string>{"x2", "x4", "x8"});
  const TransportProfile machine = bench.machine();
  const Behaviour& truth = machine.medium("hopper", "other").behaviours[simple];
  const double error = std::sqrt(ring.covariance(2, 2));
  CHECK(error < 0.05);
  CHECK_THAT(std::log(ring.behaviour.share / truth.share), WithinAbs(0.0, 3.0 * error));
  // Errors of the points are uniform within 2 %, an outlier in nine: the median is near 1 %.
  CHECK_THAT(ring.error, WithinAbs(0.011, 0.004));
  REQUIRE(ring.held_out_error);
  CHECK(*ring.held_out_error >= ring.error * 0.8);
  CHECK(*ring.held_out_error < 0.03);
}

TEST_CASE("too few points are refused with what is missing") {
  const Bench bench;
  Measurements measurements;
  bench.measure(8, static_cast<int>(least_points) - 1, measurements);
  const ModelFit few = fit_model(bench.cluster, bench.start, measurements);
  CHECK(few.fits.empty());
  REQUIRE(few.refusals.size() == 1);
  CHECK(few.refusals.front() ==
        "ring/Simple on hopper: 9 points, but 5 parameters need 10: measure more sizes");
  Measurements enough;
  bench.measure(8, static_cast<int>(least_points), enough);
  CHECK(fit_model(bench.cluster, bench.start, enough).fits.size() == 1);
}

TEST_CASE("many repetitions of few sizes are refused too") {
  const Bench bench;
  Measurements measurements;
  for (int i = 0; i < 5; ++i) {
    bench.measure(8, 3, measurements);
  }
  const ModelFit fit = fit_model(bench.cluster, bench.start, measurements);
  REQUIRE(fit.refusals.size() == 1);
  CHECK(fit.refusals.front() ==
        "ring/Simple on hopper: 3 sizes, but waiting and moving are told apart from 4 on");
}

TEST_CASE("one sweep cannot be held out, and the fit says so") {
  const Bench bench;
  Measurements measurements;
  bench.measure(8, 20, measurements);
  const ModelFit fit = fit_model(bench.cluster, bench.start, measurements);
  REQUIRE(fit.fits.size() == 1);
  CHECK_FALSE(fit.fits.front().held_out_error);
  CHECK(write_model_fit(fit).find("held_out_error: none") != std::string::npos);
}

TEST_CASE("groups that the cluster does not have are named") {
  const Bench bench;
  Measurements measurements;
  bench.measure(8, 12, measurements);
  measurements.rows.front().group = {16, 8, 2};
  const ModelFit fit = fit_model(bench.cluster, bench.start, measurements);
  REQUIRE(fit.refusals.size() == 1);
  CHECK(fit.refusals.front() == "x8: the cluster has no 2 nodes of 8 GPUs");
  CHECK(fit.fits.size() == 1);
}

TEST_CASE("the members of a group are the first GPUs of each node") {
  Diagnostics diagnostics;
  const Cluster cluster = *find_cluster("dgx-h100", {16}, {}, diagnostics);
  const auto gpus = group_members(cluster, {4, 2, 2});
  REQUIRE(gpus);
  CHECK(*gpus == std::vector<GpuId>{GpuId(0), GpuId(1), GpuId(8), GpuId(9)});
  CHECK_FALSE(group_members(cluster, {9, 9, 1}));
  CHECK_FALSE(group_members(cluster, {24, 8, 3}));
}

TEST_CASE("what is written of a fit is YAML that reads back") {
  const Bench bench;
  Measurements measurements;
  bench.measure(4, 20, measurements);
  bench.measure(8, 5, measurements);
  const std::string text = write_model_fit(fit_model(bench.cluster, bench.start, measurements));
  Diagnostics diagnostics;
  const auto document = YamlValue::parse(
      std::make_shared<const SourceText>(SourceText{"fit.yaml", text}), diagnostics);
  REQUIRE(document);
  CHECK(document->find("fits")->items().front().find("covariance")->items().size() == 5);
}
