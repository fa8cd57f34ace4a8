// One ring. Step s, s = 0..R-1: rank r has the travellers of rank r - s. The first step uses the
// rank's own, the last one sends nothing on; the steps between are a loop.
#include "sim/schedule/tour.h"

namespace longhaul {

namespace {

template <class Kind>
std::vector<TensorRef> buffers_of(ProgramBuilder& build, const std::vector<Kind>& kinds, Index slot,
                                  const std::string& prefix) {
  std::vector<TensorRef> found;
  for (const Kind& kind : kinds) {
    TensorSpec spec = kind.spec;
    spec.slots = 2;
    found.push_back(build.tensor(prefix + kind.name, spec, slot));
  }
  return found;
}

class RingTour : public Tour {
 public:
  explicit RingTour(const Shapes& shapes)
      : ring_(shapes.ring), synchronous_(shapes.synchronous_hops) {}

  void around(ProgramBuilder& build, const std::vector<Traveller>& travellers,
              const Visit& visit) const override {
    hold_tour_buffers(build, travellers);
    const std::vector<TensorRef> own = own_of(travellers);
    send(build, own, tour_buffers(build, travellers, Index::of(0)));
    visit({own, owner(0), {}, true, {}, false});
    if (ring_ > 2) {
      const LoopId loop = build.begin_loop("ring steps", ring_ - 2, false);
      const auto here = tour_buffers(build, travellers, Index::counter(loop, 1, 0, 2));
      send(build, here, tour_buffers(build, travellers, Index::counter(loop, 1, 1, 2)));
      visit({here, owner(loop), {}, false, {}, false, Index::counter(loop, 1, 1)});
      build.end_loop(loop);
    }
    const auto last = tour_buffers(build, travellers, Index::of((ring_ - 2) % 2));
    visit({last, owner(ring_ - 1), {}, false, {}, false, Index::of(ring_ - 1)});
    drop_tour_buffers(build, travellers);
  }

  void there_and_back(ProgramBuilder& build, const std::vector<Traveller>& travellers,
                      const std::vector<Sum>& sums, const Visit& visit,
                      const std::function<void()>& meanwhile) const override {
    hold_tour_buffers(build, travellers);
    hold_tour_buffers(build, sums);
    const std::vector<TensorRef> own = own_of(travellers);
    send(build, own, tour_buffers(build, travellers, Index::of(0)));
    const auto first = tour_buffers(build, sums, Index::of(0));
    visit({own, owner(0), {}, true, first, true});
    send_sums(build, first, tour_buffers(build, sums, Index::of(1)));
    if (ring_ > 2) {
      const LoopId loop = build.begin_loop("ring steps backward", ring_ - 2, false);
      const auto here = tour_buffers(build, travellers, Index::counter(loop, 1, 0, 2));
      const auto sum = tour_buffers(build, sums, Index::counter(loop, 1, 1, 2));
      send(build, here, tour_buffers(build, travellers, Index::counter(loop, 1, 1, 2)));
      visit({here, owner(loop), {}, false, sum, false});
      send_sums(build, sum, tour_buffers(build, sums, Index::counter(loop, 1, 0, 2)));
      build.end_loop(loop);
    }
    const auto last = tour_buffers(build, travellers, Index::of((ring_ - 2) % 2));
    const auto last_sum = tour_buffers(build, sums, Index::of((ring_ - 1) % 2));
    visit({last, owner(ring_ - 1), {}, false, last_sum, false});
    // One more hop brings every sum home.
    const auto home = tour_buffers(build, sums, Index::of(ring_ % 2));
    send_sums(build, last_sum, home);
    meanwhile();
    take_home(build, sums, home);
    drop_tour_buffers(build, sums);
    drop_tour_buffers(build, travellers);
  }

  [[nodiscard]] AttentionBlock own_queries(const Stop& stop) const override {
    return {Index::coordinate(Axis::ring), stop.owner};
  }
  [[nodiscard]] AttentionBlock own_keys(const Stop& stop) const override {
    return {stop.owner, Index::coordinate(Axis::ring)};
  }

 private:
  [[nodiscard]] Index owner(std::int64_t step) const {
    return step == 0 ? Index::coordinate(Axis::ring)
                     : Index::coordinate(Axis::ring, ring_ - step, ring_);
  }
  // Turn c of the loop is step c + 1.
  [[nodiscard]] Index owner(LoopId loop) const {
    Index owner = Index::coordinate(Axis::ring, ring_ - 1, ring_);
    owner.loop = loop;
    owner.loop_coefficient = -1;
    return owner;
  }
  void send(ProgramBuilder& build, const std::vector<TensorRef>& from,
            const std::vector<TensorRef>& to) const {
    hop(build, "ring exchange", from, to);
  }
  void send_sums(ProgramBuilder& build, const std::vector<TensorRef>& from,
                 const std::vector<TensorRef>& to) const {
    hop(build, "ring gradient exchange", from, to);
  }
  void hop(ProgramBuilder& build, const std::string& label, const std::vector<TensorRef>& from,
           const std::vector<TensorRef>& to) const {
    if (synchronous_) {
      build.host_waits("before a ring exchange");
    }
    build.collective(Op::send_receive, Stream::context, *build.group("ring", {Axis::ring}), label,
                     from, to);
  }

  std::int64_t ring_;
  bool synchronous_;
};

}  // namespace

std::vector<TensorRef> tour_buffers(ProgramBuilder& build, const std::vector<Traveller>& travellers,
                                    Index slot, const std::string& prefix) {
  return buffers_of(build, travellers, slot, prefix);
}

std::vector<TensorRef> tour_buffers(ProgramBuilder& build, const std::vector<Sum>& sums, Index slot,
                                    const std::string& prefix) {
  return buffers_of(build, sums, slot, prefix);
}

std::vector<TensorRef> own_of(const std::vector<Traveller>& travellers) {
  std::vector<TensorRef> own;
  for (const Traveller& traveller : travellers) {
    own.push_back(traveller.own);
  }
  return own;
}

void take_home(ProgramBuilder& build, const std::vector<Sum>& sums,
               const std::vector<TensorRef>& arrived) {
  for (std::size_t i = 0; i < sums.size(); ++i) {
    build.compute(Op::copy, sums[i].label, {arrived[i]}, {sums[i].home});
  }
}

std::unique_ptr<Tour> make_ring_tour(const Shapes& shapes) {
  return std::make_unique<RingTour>(shapes);
}

}  // namespace longhaul
