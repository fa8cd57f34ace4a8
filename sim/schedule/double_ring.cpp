// A ring of rings. Rank (o, i) is place i of inner ring o. In round t every rank has the travellers
// of (o - t, i) to begin with: it shows them around its inner ring and meanwhile sends them on to
// (o + 1, i) for the next round. Sums that come back first come home within the inner ring, then
// join the sum that travels around the outer one.
#include "sim/schedule/tour.h"

namespace longhaul {

namespace {

constexpr const char* outer = "outer_";  // buffers of the outer ring

class DoubleRingTour : public Tour {
 public:
  DoubleRingTour(const Shapes& shapes, std::int64_t inner)
      : inner_(inner), nodes_(shapes.ring / inner) {}

  void around(ProgramBuilder& build, const std::vector<Traveller>& travellers,
              const Visit& visit) const override {
    hold_tour_buffers(build, travellers);
    hold_tour_buffers(build, travellers, outer);
    each_round(build, travellers, "outer ring rounds",
               [&](const std::vector<TensorRef>& start, const Round& round) {
                 show(build, travellers, start, round, visit);
               });
    drop_tour_buffers(build, travellers, outer);
    drop_tour_buffers(build, travellers);
  }

  void there_and_back(ProgramBuilder& build, const std::vector<Traveller>& travellers,
                      const std::vector<Sum>& sums, const Visit& visit,
                      const std::function<void()>& meanwhile) const override {
    hold_tour_buffers(build, travellers);
    hold_tour_buffers(build, travellers, outer);
    hold_tour_buffers(build, sums);
    hold_tour_buffers(build, sums, outer);
    each_round(build, travellers, "outer ring rounds backward",
               [&](const std::vector<TensorRef>& start, const Round& round) {
                 show_and_sum(build, travellers, sums, start, round, visit);
                 pass_on(build, sums, round);
               });
    meanwhile();
    take_home(build, sums, tour_buffers(build, sums, Index::of((nodes_ - 1) % 2), outer));
    drop_tour_buffers(build, sums, outer);
    drop_tour_buffers(build, sums);
    drop_tour_buffers(build, travellers, outer);
    drop_tour_buffers(build, travellers);
  }

  [[nodiscard]] AttentionBlock own_queries(const Stop& stop) const override {
    return {Index::coordinate(Axis::ring), stop.owner, {}, stop.node, inner_};
  }
  [[nodiscard]] AttentionBlock own_keys(const Stop& stop) const override {
    return {stop.owner, Index::coordinate(Axis::ring), stop.node, {}, inner_};
  }

 private:
  // Round t: whose travellers begin it, and the slots of the outer sums before and after.
  struct Round {
    Index node;
    bool first = false;
    Index sum_here, sum_next;
  };
  using Body = std::function<void(const std::vector<TensorRef>& start, const Round& round)>;

  // Rounds 0, 1 .. O-2 as a loop, O-1, which sends nothing on.
  void each_round(ProgramBuilder& build, const std::vector<Traveller>& travellers,
                  const std::string& name, const Body& body) const {
    const std::vector<TensorRef> own = own_of(travellers);
    send_out(build, own, tour_buffers(build, travellers, Index::of(0), outer));
    body(own, {Index::coordinate(Axis::ring_outer), true, Index::of(1), Index::of(0)});
    if (nodes_ > 2) {
      const LoopId loop = build.begin_loop(name, nodes_ - 2, false);
      const Index slot = Index::counter(loop, 1, 0, 2);
      const Index other = Index::counter(loop, 1, 1, 2);
      const auto start = tour_buffers(build, travellers, slot, outer);
      send_out(build, start, tour_buffers(build, travellers, other, outer));
      body(start, {minus(Axis::ring_outer, nodes_, loop), false, slot, other});
      build.end_loop(loop);
    }
    const Index slot = Index::of((nodes_ - 2) % 2);
    body(tour_buffers(build, travellers, slot, outer),
         {Index::coordinate(Axis::ring_outer, 1, nodes_), false, slot,
          Index::of((nodes_ - 1) % 2)});
  }

  void show(ProgramBuilder& build, const std::vector<Traveller>& travellers,
            const std::vector<TensorRef>& start, const Round& round, const Visit& visit) const {
    send(build, "ring exchange", start, tour_buffers(build, travellers, Index::of(0)));
    visit({start, Index::coordinate(Axis::ring_inner), round.node, round.first, {}, false});
    if (inner_ > 2) {
      const LoopId loop = build.begin_loop("inner ring steps", inner_ - 2, false);
      const auto here = tour_buffers(build, travellers, Index::counter(loop, 1, 0, 2));
      send(build, "ring exchange", here,
           tour_buffers(build, travellers, Index::counter(loop, 1, 1, 2)));
      visit({here, minus(Axis::ring_inner, inner_, loop), round.node, false, {}, false});
      build.end_loop(loop);
    }
    visit({tour_buffers(build, travellers, Index::of((inner_ - 2) % 2)),
           Index::coordinate(Axis::ring_inner, 1, inner_), round.node, false, {}, false});
  }

  void show_and_sum(ProgramBuilder& build, const std::vector<Traveller>& travellers,
                    const std::vector<Sum>& sums, const std::vector<TensorRef>& start,
                    const Round& round, const Visit& visit) const {
    const auto sum = [&](Index slot) { return tour_buffers(build, sums, slot); };
    const std::string back = "ring gradient exchange";
    send(build, "ring exchange", start, tour_buffers(build, travellers, Index::of(0)));
    visit({start, Index::coordinate(Axis::ring_inner), round.node, round.first, sum(Index::of(0)),
           true});
    send(build, back, sum(Index::of(0)), sum(Index::of(1)));
    if (inner_ > 2) {
      const LoopId loop = build.begin_loop("inner ring steps backward", inner_ - 2, false);
      const Index slot = Index::counter(loop, 1, 0, 2);
      const Index other = Index::counter(loop, 1, 1, 2);
      const auto here = tour_buffers(build, travellers, slot);
      send(build, "ring exchange", here, tour_buffers(build, travellers, other));
      visit({here, minus(Axis::ring_inner, inner_, loop), round.node, false, sum(other), false});
      send(build, back, sum(other), sum(slot));
      build.end_loop(loop);
    }
    const auto last = sum(Index::of((inner_ - 1) % 2));
    visit({tour_buffers(build, travellers, Index::of((inner_ - 2) % 2)),
           Index::coordinate(Axis::ring_inner, 1, inner_), round.node, false, last, false});
    send(build, back, last, sum(Index::of(inner_ % 2)));
  }

  // The round's sums are at home in the inner ring: on to the outer ring with them.
  void pass_on(ProgramBuilder& build, const std::vector<Sum>& sums, const Round& round) const {
    const auto arrived = tour_buffers(build, sums, Index::of(inner_ % 2));
    const auto here = tour_buffers(build, sums, round.sum_here, outer);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      if (round.first) {
        build.compute(Op::copy, "begin outer sums", {arrived[i]}, {here[i]});
      } else {
        build.compute(Op::add, "sum rounds", {here[i], arrived[i]}, {here[i]});
      }
    }
    build.collective(Op::send_receive, Stream::outer,
                     *build.group("outer ring", {Axis::ring_outer}), "outer gradient exchange",
                     here, tour_buffers(build, sums, round.sum_next, outer));
  }

  // Coordinate minus the turn after counter(loop): step c + 1.
  static Index minus(Axis axis, std::int64_t size, LoopId loop) {
    Index index = Index::coordinate(axis, size - 1, size);
    index.loop = loop;
    index.loop_coefficient = -1;
    return index;
  }
  static void send(ProgramBuilder& build, const std::string& label,
                   const std::vector<TensorRef>& from, const std::vector<TensorRef>& to) {
    build.collective(Op::send_receive, Stream::context,
                     *build.group("inner ring", {Axis::ring_inner}), label, from, to);
  }
  static void send_out(ProgramBuilder& build, const std::vector<TensorRef>& from,
                       const std::vector<TensorRef>& to) {
    build.collective(Op::send_receive, Stream::outer,
                     *build.group("outer ring", {Axis::ring_outer}), "outer ring exchange", from,
                     to);
  }

  std::int64_t inner_;
  std::int64_t nodes_;
};

}  // namespace

std::unique_ptr<Tour> make_double_ring_tour(const Shapes& shapes, std::int64_t inner) {
  return std::make_unique<DoubleRingTour>(shapes, inner);
}

}  // namespace longhaul
