// A training step over a pipeline whose stages make weight gradients apart from the backward pass
// (arXiv 2401.10241; the zero-bubble fork of Megatron-LM, zb_schedules.py). docs/models/pipeline.md.
//
// Every stage works through its list (sim/schedule/pass_lists.h): all stages run one loop of turns, each
// of which is an entry of the stage's list, looked up by stage and turn: a pass, or the call that
// receives a message. The weight gradients at the end of a list come behind the loop, weight by
// weight instead of micro-batch by micro-batch, so that sums over replicas can begin.
#include <algorithm>
#include <functional>

#include "sim/schedule/head.h"
#include "sim/schedule/pass_lists.h"
#include "sim/schedule/steps.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

/// What a turn is: one of PassKind, or a receive.
enum class Entry { forward, backward, weights, receive_activation, receive_gradient };

struct Turn {
  Entry entry = Entry::forward;
  std::int64_t micro_batch = 0;
};

/// A stage's list as turns, and how many micro-batches' weight gradients are left for its end.
struct StageTurns {
  std::vector<Turn> turns;
  std::int64_t left = 0;
};

// A message is received beside the pass during which, or behind which, it is sent if lists run as
// planned: so everyone's calls are in one order of time, and none waits for one behind it.
std::vector<std::size_t> places_of_receives(const std::vector<PassClock::Stay>& sender,
                                            const std::vector<PipelinePass>& list, PassKind kind,
                                            const std::vector<PassClock::Stay>& receiver) {
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i].kind == kind) {
      const std::int64_t sent = sender[i].end;
      const auto beside = std::find_if(receiver.begin(), receiver.end(), [&](const auto& stay) {
        return stay.end >= sent;
      });
      places.push_back(static_cast<std::size_t>(beside - receiver.begin()));
    }
  }
  return places;
}

std::vector<StageTurns> turns_of(const PassLists& lists, const PassCosts& costs) {
  const PassClock clock = clock_of(lists, costs);
  std::vector<StageTurns> all;
  for (std::size_t stage = 0; stage < lists.size(); ++stage) {
    const auto received = [&](bool there, std::size_t from, PassKind kind) {
      return there ? places_of_receives(clock.passes[from], lists[from], kind, clock.passes[stage])
                   : std::vector<std::size_t>{};
    };
    const auto activations = received(stage > 0, stage - 1, PassKind::forward);
    const auto gradients = received(stage + 1 < lists.size(), stage + 1, PassKind::backward);
    const auto& list = lists[stage];
    StageTurns made;
    while (list[list.size() - 1 - static_cast<std::size_t>(made.left)].kind == PassKind::weights) {
      ++made.left;
    }
    std::size_t activation = 0;
    std::size_t gradient = 0;
    for (std::size_t i = 0; i + static_cast<std::size_t>(made.left) < list.size(); ++i) {
      for (; activation < activations.size() && activations[activation] <= i; ++activation) {
        made.turns.push_back(
            {Entry::receive_activation, static_cast<std::int64_t>(activation)});
      }
      for (; gradient < gradients.size() && gradients[gradient] <= i; ++gradient) {
        made.turns.push_back({Entry::receive_gradient, static_cast<std::int64_t>(gradient)});
      }
      made.turns.push_back({static_cast<Entry>(list[i].kind), list[i].micro_batch});
    }
    all.push_back(std::move(made));
  }
  return all;
}

/// A tensor rank's part of a pipeline that splits its backward passes.
class ZeroBubbleStep {
 public:
  explicit ZeroBubbleStep(const Scenario& scenario);
  Program program();

 private:
  // Tables: what `entry` says of a turn, of a stage, of a micro-batch left for a stage's end.
  template <class Say>
  [[nodiscard]] Index of_turn(const Say& say) const;
  template <class Say>
  [[nodiscard]] Index of_stage(const Say& say) const;
  [[nodiscard]] Index micro_batch() const;
  [[nodiscard]] std::int64_t window() const;
  [[nodiscard]] Index slot_of_turn(std::int64_t size) const;
  [[nodiscard]] Index slot_of_left(std::int64_t size, LoopId left) const;
  [[nodiscard]] Index layers_here(std::int64_t less) const;

  template <class Body>
  void when(const Condition& condition, const Body& body);
  template <class Body>
  void in_turns_of(Entry entry, const Body& body);
  void each_layer(const std::string& name, bool forward,
                  const std::function<void(const Index& layer)>& body);

  [[nodiscard]] TensorRef hidden(const Index& layer);
  [[nodiscard]] TensorRef input() { return hidden(Index::of(0)); }
  [[nodiscard]] TensorRef top() { return hidden(layers_here(0)); }
  [[nodiscard]] TensorRef gradient();
  [[nodiscard]] TensorRef dropout_mask();
  [[nodiscard]] LayerState saved(const TensorRef& input, const Index& slot) const;

  void forward();
  void enter_model();
  void forward_layer(const Index& layer);
  void backward();
  void leave_head();
  void backward_layer(const Index& layer);
  void leave_model();
  void weights();
  void last_weights();
  void last_head_weights();
  LoopId begin_left();
  void reduce(Section section, const Index& layer);
  void send(Stream stream, const std::string& label, const TensorRef& what, int to);
  void receive(Stream stream, const std::string& label, const TensorRef& what, int from);

  const Scenario& scenario_;
  ProgramBuilder build_;
  TransformerBlock block_;
  Parameters parameters_;
  ModelEnds ends_;
  Stages stages_;
  std::vector<StageTurns> lists_;
  std::int64_t p_, m_, window_, chunk_;
  std::int64_t longest_ = 0;    ///< turns of the stage that has most
  std::int64_t most_left_ = 0;  ///< of any stage
  bool whole_model_, tied_;
  GroupId row_;
  LoopId turns_;
  LayerState saved_;
};

ZeroBubbleStep::ZeroBubbleStep(const Scenario& scenario)
    : scenario_(scenario),
      build_("training step"),
      block_((build_.program().mesh = mesh_of(scenario), scenario)),
      parameters_(build_, scenario, block_.shapes(), true),
      ends_(scenario, block_, parameters_),
      stages_(scenario),
      lists_(turns_of(lists_of(scenario),
                      scenario.pass_costs.value_or(equal_costs(scenario.plan.pipeline)))),
      p_(scenario.plan.pipeline),
      m_(scenario.micro_batches()),
      window_(window()),
      chunk_(stages_.most_layers_of_a_part()),
      whole_model_(has_ends(scenario.model)),
      tied_(scenario.model.tied_embeddings),
      row_(*build_.group("pipeline", {Axis::pipeline})) {
  for (const StageTurns& list : lists_) {
    longest_ = std::max(longest_, static_cast<std::int64_t>(list.turns.size()));
    most_left_ = std::max(most_left_, list.left);
  }
  build_.program().attention = attention_geometry(scenario);
  build_.program().steps_apart = scenario.steps_apart();
}

Program ZeroBubbleStep::program() {
  parameters_.zero_gradients();
  parameters_.gather_updated_weights();
  parameters_.enter({false, Index::of(0)});
  turns_ = build_.begin_loop("turns", longest_, false);
  for (const StageTurns& list : lists_) {
    build_.program().loops[turns_.index].stage_counts.push_back(
        static_cast<std::int64_t>(list.turns.size()));
  }
  build_.part(Part::forward);
  in_turns_of(Entry::receive_activation,
              [&] { receive(Stream::pipeline, "receive activation", input(), 1); });
  build_.part(Part::backward);
  in_turns_of(Entry::receive_gradient,
              [&] { receive(Stream::pipeline_back, "receive gradient", gradient(), -1); });
  in_turns_of(Entry::forward, [&] { forward(); });
  in_turns_of(Entry::backward, [&] { backward(); });
  in_turns_of(Entry::weights, [&] { weights(); });
  build_.end_loop(turns_);
  last_weights();
  parameters_.optimize();
  if (whole_model_) {
    ends_.end_step(build_);
  }
  return build_.finish();
}

// Micro-batches that a stage has something of, from the call that receives the input to the weight
// gradients, lie within so many consecutive numbers.
std::int64_t ZeroBubbleStep::window() const {
  std::int64_t most = 2;  // so that tensors of one slot are those that all passes share
  for (const StageTurns& list : lists_) {
    std::int64_t first = 0;
    std::int64_t end = 0;
    for (const Turn& turn : list.turns) {
      first = turn.entry == Entry::weights ? turn.micro_batch + 1 : first;
      end = std::max(end, turn.micro_batch + 1);
      most = std::max(most, end - first + (turn.entry == Entry::weights ? 1 : 0));
    }
  }
  return most;
}

template <class Say>
Index ZeroBubbleStep::of_turn(const Say& say) const {
  std::vector<std::int64_t> table;
  for (std::size_t stage = 0; stage < lists_.size(); ++stage) {
    const auto& turns = lists_[stage].turns;
    for (std::size_t k = 0; k < static_cast<std::size_t>(longest_); ++k) {
      table.push_back(k < turns.size() ? say(turns[k]) : 0);
    }
  }
  Lookup lookup;
  lookup.table = std::make_shared<const std::vector<std::int64_t>>(std::move(table));
  lookup.loop = turns_;
  lookup.axis = Axis::pipeline;
  lookup.axis_coefficient = longest_;
  Index index;
  index.lookups.push_back(std::move(lookup));
  return index;
}

template <class Say>
Index ZeroBubbleStep::of_stage(const Say& say) const {
  std::vector<std::int64_t> table;
  for (std::int64_t stage = 0; stage < p_; ++stage) {
    table.push_back(say(stage));
  }
  if (std::count(table.begin(), table.end(), table[0]) == p_) {
    return Index::of(table[0]);
  }
  Lookup lookup;
  lookup.table = std::make_shared<const std::vector<std::int64_t>>(std::move(table));
  lookup.axis = Axis::pipeline;
  lookup.axis_coefficient = 1;
  Index index;
  index.lookups.push_back(std::move(lookup));
  return index;
}

Index ZeroBubbleStep::micro_batch() const {
  return of_turn([](const Turn& turn) { return turn.micro_batch; });
}

// Where the micro-batch of a turn has its tensors, of which it has `size` in a row.
Index ZeroBubbleStep::slot_of_turn(std::int64_t size) const {
  return of_turn([&](const Turn& turn) { return turn.micro_batch % window_ * size; });
}

// The same of those left for the end, counted by `left`.
Index ZeroBubbleStep::slot_of_left(std::int64_t size, LoopId left) const {
  std::vector<std::int64_t> table;
  for (const StageTurns& list : lists_) {
    for (std::int64_t i = 0; i < most_left_; ++i) {
      table.push_back(std::min(m_ - 1, m_ - list.left + i) % window_ * size);
    }
  }
  Lookup lookup;
  lookup.table = std::make_shared<const std::vector<std::int64_t>>(std::move(table));
  lookup.loop = left;
  lookup.axis = Axis::pipeline;
  lookup.axis_coefficient = most_left_;
  Index index;
  index.lookups.push_back(std::move(lookup));
  return index;
}

Index ZeroBubbleStep::layers_here(std::int64_t less) const {
  return of_stage([&](std::int64_t stage) { return stages_.layers_of_part(stage) - less; });
}

template <class Body>
void ZeroBubbleStep::when(const Condition& condition, const Body& body) {
  build_.begin_when(condition);
  body();
  build_.end_when();
}

template <class Body>
void ZeroBubbleStep::in_turns_of(Entry entry, const Body& body) {
  const auto kind = static_cast<std::int64_t>(entry);
  const Index here = of_turn([](const Turn& turn) { return static_cast<std::int64_t>(turn.entry); });
  const std::size_t begin = build_.program().code.size();
  when({here, kind, kind}, body);
  const std::pair<std::size_t, std::size_t> places{begin, build_.program().code.size()};
  PassPlaces& passes = build_.program().passes;
  if (entry == Entry::forward) {
    passes.forward = places;
  } else if (entry == Entry::backward) {
    passes.backward = places;
  } else if (entry == Entry::weights) {
    passes.weights = places;
  }
}

// All layers of a stage, from the first or from the last one on.
void ZeroBubbleStep::each_layer(const std::string& name, bool forward,
                                const std::function<void(const Index& layer)>& body) {
  const LoopId loop = build_.begin_loop(name, chunk_, true);
  build_.program().loops[loop.index].stage_counts = stages_.uneven_counts();
  body(forward ? Index::counter(loop) : plus(layers_here(1), Index::counter(loop, -1)));
  build_.end_loop(loop);
}

// The residual stream before a layer; the stage's output lies behind the last one.
TensorRef ZeroBubbleStep::hidden(const Index& layer) {
  TensorSpec spec = block_.stream_spec();
  spec.slots = window_ * (chunk_ + 1);
  return build_.tensor("hidden", spec, plus(slot_of_turn(chunk_ + 1), layer));
}

TensorRef ZeroBubbleStep::gradient() {
  TensorSpec spec = block_.stream_spec();
  spec.slots = window_;
  return build_.tensor("d_hidden", spec, slot_of_turn(1));
}

TensorRef ZeroBubbleStep::dropout_mask() {
  TensorSpec spec = block_.mask_spec();
  spec.slots = window_;
  return build_.tensor("embedding_dropout_mask", spec, slot_of_turn(1));
}

// What the forward pass has left of a layer.
LayerState ZeroBubbleStep::saved(const TensorRef& input, const Index& slot) const {
  return at_slot(build_, saved_, input, slot);
}

void ZeroBubbleStep::forward() {
  build_.part(Part::forward);
  if (whole_model_ && ends_.holds_host()) {
    for (const Condition& end : {stages_.first(), stages_.last()}) {
      when(end, [&] { ends_.read_batch(build_); });
    }
  }
  when(stages_.first(), [&] { enter_model(); });
  each_layer("layers forward", true, [&](const Index& layer) { forward_layer(layer); });
  when({Index::coordinate(Axis::pipeline), 0, p_ - 2},
       [&] { send(Stream::pipeline, "send activation", top(), 1); });
}

void ZeroBubbleStep::enter_model() {
  build_.allocate(input());
  if (!whole_model_) {
    ends_.come_in(build_, "x", input(), micro_batch());
    return;
  }
  ends_.embed(build_, ends_.ids(build_, "tokens", micro_batch()), input());
  if (block_.drops()) {
    build_.allocate(dropout_mask());
  }
}

void ZeroBubbleStep::forward_layer(const Index& layer) {
  const TensorRef in = hidden(layer);
  TensorRef out = in;
  out.slot.constant += 1;
  const Index slot = plus(slot_of_turn(chunk_), layer);
  saved_ = block_.forward(build_, parameters_.layer(layer, Index::of(0)), in, out, window_ * chunk_,
                          slot, layer);
  if (scenario_.plan.recompute != Recompute::none) {
    block_.drop(build_, saved_, window_ * chunk_, slot);
  }
}

void ZeroBubbleStep::backward() {
  build_.part(Part::backward);
  when(stages_.last(), [&] { leave_head(); });
  build_.part(Part::backward);
  each_layer("layers backward", false, [&](const Index& layer) { backward_layer(layer); });
  when(stages_.first(), [&] { leave_model(); });
  when({Index::coordinate(Axis::pipeline), 1, p_ - 1},
       [&] { send(Stream::pipeline_back, "send gradient", gradient(), -1); });
}

// Head and loss, just before the backward pass.
void ZeroBubbleStep::leave_head() {
  if (whole_model_) {
    ends_.loss_and_input_gradient(build_, top(), ends_.ids(build_, "labels", micro_batch()),
                                  gradient(), window_, slot_of_turn(1));
  } else {
    ends_.go_out(build_, "y", top(), micro_batch());
    build_.allocate(gradient());
    ends_.come_in(build_, "dy", gradient(), micro_batch());
  }
  build_.release({top()});
}

void ZeroBubbleStep::backward_layer(const Index& layer) {
  const TensorRef in = hidden(layer);
  const Index slot = plus(slot_of_turn(chunk_), layer);
  block_.input_gradients(build_, parameters_.layer(layer, Index::of(0)), saved(in, slot), gradient(),
                         scenario_.plan.recompute != Recompute::none, window_ * chunk_, slot);
  build_.release({in});
}

void ZeroBubbleStep::leave_model() {
  if (!whole_model_) {
    ends_.go_out(build_, "dx", gradient(), micro_batch());
  } else {
    if (block_.drops()) {
      build_.release({dropout_mask()});
    }
    ends_.embed_backward(build_, ends_.ids(build_, "tokens", micro_batch()), gradient());
  }
  build_.release({gradient()});
}

// In the order in which the backward pass came to the weights.
void ZeroBubbleStep::weights() {
  build_.part(Part::backward);
  if (whole_model_) {
    when(stages_.last(),
         [&] { ends_.head_weight_gradient(build_, window_, slot_of_turn(1)); });
  }
  each_layer("layers weight gradients", false, [&](const Index& layer) {
    const Index slot = plus(slot_of_turn(chunk_), layer);
    block_.weight_gradients(build_, parameters_.layer(layer, Index::of(0)),
                            saved(hidden(layer), slot), window_ * chunk_, slot);
  });
}

LoopId ZeroBubbleStep::begin_left() {
  const LoopId left = build_.begin_loop("micro-batches left", most_left_, true);
  for (const StageTurns& list : lists_) {
    build_.program().loops[left.index].stage_counts.push_back(list.left);
  }
  return left;
}

// What is left at the end of every list, weight by weight, each of which is then summed over replicas
// where that is overlapped. Gradients that are no product's are done: those of the embedding go first.
void ZeroBubbleStep::last_weights() {
  const std::size_t begin = build_.program().code.size();
  when(stages_.first(), [&] { reduce(Section::bottom, Index::of(0)); });
  when(stages_.last(), [&] { last_head_weights(); });
  parameters_.sum_copies_early();  // so that the first stage need not wait for the last one's W
  each_layer("last weight gradients", false, [&](const Index& layer) {
    build_.part(Part::backward);
    const LoopId left = begin_left();
    const Index slot = plus(slot_of_left(chunk_, left), layer);
    block_.weight_gradients(build_, parameters_.layer(layer, Index::of(0)),
                            saved(saved_.input, slot), window_ * chunk_, slot);
    build_.end_loop(left);
    reduce(Section::layers, layer);
  });
  build_.program().passes.last_weights = {begin, build_.program().code.size()};
}

void ZeroBubbleStep::last_head_weights() {
  if (whole_model_) {
    build_.part(Part::backward);
    const LoopId left = begin_left();
    ends_.head_weight_gradient(build_, window_, slot_of_left(1, left));
    build_.end_loop(left);
  }
  reduce(Section::top, Index::of(0));
  if (tied_) {
    parameters_.reduce_copy(true, Parameters::Summed::once);
  }
}

void ZeroBubbleStep::reduce(Section section, const Index& layer) {
  parameters_.reduce_gradients(section, layer, Index::of(0), true, Parameters::Summed::once);
}

// Nothing waits for a message but what reads it: calls go on beside the passes.
void ZeroBubbleStep::send(Stream stream, const std::string& label, const TensorRef& what, int to) {
  build_.collective(Op::exchange, stream, row_, label, {what}, {}).to = {to};
  build_.release({what});
}

void ZeroBubbleStep::receive(Stream stream, const std::string& label, const TensorRef& what,
                             int from) {
  build_.allocate(what);
  build_.collective(Op::exchange, stream, row_, label, {}, {what}).from = {from};
}

}  // namespace

Program lower_zero_bubble_step(const Scenario& scenario) {
  return ZeroBubbleStep(scenario).program();
}

}  // namespace longhaul
