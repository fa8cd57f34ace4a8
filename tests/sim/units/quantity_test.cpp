// Quantities keep their dimensions apart and SimTime is exact.
#include <catch2/catch.hpp>

#include "sim/units/quantity.h"
#include "sim/units/sim_time.h"

using namespace longhaul;

namespace {

template <class A, class B>
concept addable = requires(A a, B b) { a + b; };

static_assert(addable<Bytes, Bytes>);
static_assert(!addable<Bytes, Seconds>);
static_assert(!addable<Bytes, double>);

}  // namespace

TEST_CASE("bytes over a rate are seconds, like over like is a plain number") {
  const Seconds time = Bytes::of(900e9) / BytesPerSecond::of(450e9);
  CHECK(time.value() == 2.0);
  const double ratio = Bytes::of(8.0) / Bytes::of(2.0);
  CHECK(ratio == 4.0);
}

TEST_CASE("simulated time survives a round trip to within half a tick") {
  const Seconds span = Seconds::of(1.2345678901234e-6);
  const double back = SimTime::from(span).seconds().value();
  CHECK(std::abs(back - span.value()) <= std::ldexp(0.5, -SimTime::tick_exponent));
}

TEST_CASE("simulated time refuses what does not fit, on both sides of the range") {
  CHECK_NOTHROW(SimTime::from(Seconds::of(500000.0)));
  CHECK_THROWS_AS(SimTime::from(Seconds::of(600000.0)), TimeRangeError);
  CHECK_NOTHROW(SimTime::from(Seconds::of(0.0)));
  CHECK_THROWS_AS(SimTime::from(Seconds::of(-1e-9)), BugError);
}

TEST_CASE("sums and multiples of times never wrap around") {
  const SimTime day = SimTime::from(Seconds::of(86400.0));
  CHECK((day * 5 + day).seconds().value() == 6 * 86400.0);
  CHECK_THROWS_AS(day * 7, TimeRangeError);
  CHECK_THROWS_AS(day * 4 + day * 4, TimeRangeError);
}
