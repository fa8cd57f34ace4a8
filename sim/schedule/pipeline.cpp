// A step over a pipeline of stages: in training 1F1B and its interleaved form as Megatron-LM runs them
// (arXiv 2104.04473; megatron/core/pipeline_parallel/schedules.py). docs/models/pipeline.md.
//
// All stages run one loop of turns: the forward pass of turn t and the backward pass that is due w
// turns later, where w, the stage's warm-up, is smaller towards the end of the pipeline. Warm-up and
// cool-down are the turns without a backward or a forward pass. The passes are numbered: interleaved,
// chunks take turns after groups of micro-batches: of as many as there are stages, or of more
// (Megatron-LM's microbatch_group_size_per_virtual_pipeline_stage).
//
// Forward and prefill passes are the same without backward passes: a warm-up that does not end, as
// Megatron-LM runs its schedules with forward_only.
#include <algorithm>
#include <functional>

#include "sim/scenario/pipeline_parts.h"
#include "sim/schedule/activation_offload.h"
#include "sim/schedule/head.h"
#include "sim/schedule/pass_segments.h"
#include "sim/schedule/steps.h"

namespace longhaul {

namespace {

constexpr std::int64_t unbounded = std::int64_t{1} << 40;

/// What the passes of a stage are about, by their number. A group of micro-batches goes through all
/// chunks before the next one; the last group may be smaller than the others.
class Passes {
 public:
  Passes(std::int64_t stages, std::int64_t chunks, std::int64_t micro_batches, std::int64_t group)
      : p_(stages), v_(chunks), m_(micro_batches), g_(group) {}
  [[nodiscard]] std::int64_t count() const { return m_ * v_; }
  [[nodiscard]] std::int64_t micro_batch(std::int64_t k) const {
    return k / round() * g_ + k % round() % size(k);
  }
  [[nodiscard]] std::int64_t forward_chunk(std::int64_t k) const { return k % round() / size(k); }
  [[nodiscard]] std::int64_t backward_chunk(std::int64_t k) const {
    return v_ - 1 - forward_chunk(k);
  }
  /// The forward pass that backward pass k undoes.
  [[nodiscard]] std::int64_t undone(std::int64_t k) const {
    return k / round() * round() + backward_chunk(k) * size(k) + k % round() % size(k);
  }
  /// The same micro-batch in the next chunk.
  [[nodiscard]] std::int64_t next_chunk(std::int64_t k) const { return k + size(k); }
  /// Turns from a forward pass to the backward pass of the same number: slope and start of
  /// warm_up(stage) = start - slope * stage.
  [[nodiscard]] std::int64_t slope() const { return v_ == 1 ? 1 : 2; }
  [[nodiscard]] std::int64_t start() const { return slope() * (p_ - 1) + (v_ - 1) * g_; }
  [[nodiscard]] std::int64_t warm_up(std::int64_t stage) const { return start() - slope() * stage; }
  /// Passes from one that receives an input on the first stage to the one it is for.
  [[nodiscard]] std::int64_t ahead() const { return v_ == 1 ? 1 : g_ - p_ + 1; }
  /// Forward passes that wait for their backward pass, or receive their input, lie within so many
  /// consecutive numbers: a group may be open while the warm-up is filled.
  [[nodiscard]] std::int64_t window() const {
    // At least two slots, so that tensors of one slot are those that all passes share.
    const std::int64_t open = start() + 1 + ahead() + (v_ == 1 ? 0 : round());
    return std::max<std::int64_t>(2, std::min(count(), open));
  }
  /// The same of passes that no backward pass follows: behind those in which the pipeline fills.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> steady_forward_turns() const {
    return {p_, m_ / g_ * round() - 1 - ahead()};
  }
  /// Turns of a stage, from the first to before the second, in which passes repeat round by round:
  /// whole groups, all of whose inputs come in, whose gradients are not yet summed over replicas.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> steady_turns(std::int64_t stage) const {
    const std::int64_t warm_up = this->warm_up(stage);
    const std::int64_t whole = m_ / g_ * round();
    const std::int64_t forward = whole == count() ? count() - 1 : whole - 1 - ahead();
    const std::int64_t backward = whole == count() ? count() - period() : whole;
    return {warm_up + 1, std::min(forward, backward + warm_up)};
  }
  [[nodiscard]] std::int64_t period() const { return v_ == 1 ? 1 : round(); }

 private:
  [[nodiscard]] std::int64_t round() const { return g_ * v_; }
  /// Micro-batches of the group that a pass belongs to.
  [[nodiscard]] std::int64_t size(std::int64_t k) const {
    return std::min(g_, m_ - k / round() * g_);
  }
  std::int64_t p_, v_, m_, g_;
};

// What tables of passes say of one that is `ahead` passes further.
Index further(Index index, std::int64_t ahead) {
  for (Lookup& lookup : index.lookups) {
    lookup.constant += ahead;
  }
  return index;
}

class PipelineStep {
 public:
  explicit PipelineStep(const Scenario& scenario);
  Program program();

 private:
  // Indices of a turn's forward pass f and of its backward pass b, `ahead` passes further.
  [[nodiscard]] Index forward_pass(std::int64_t ahead = 0) const;
  [[nodiscard]] Index backward_pass(std::int64_t ahead = 0) const;
  template <class Entry>
  [[nodiscard]] Index of_forward(std::int64_t ahead, const Entry& entry) const;
  template <class Entry>
  [[nodiscard]] Index of_backward(std::int64_t ahead, const Entry& entry) const;
  template <class Entry>
  [[nodiscard]] Index of_stage_forward(const Entry& entry) const;
  template <class Entry>
  [[nodiscard]] Index of_stage_backward(const Entry& entry) const;
  template <class Entry>
  [[nodiscard]] Lookup table_of_stages(const Entry& entry) const;
  [[nodiscard]] Index forward_part() const;
  [[nodiscard]] Index backward_part() const;
  [[nodiscard]] std::int64_t activation_for(std::int64_t stage, std::int64_t pass) const;
  [[nodiscard]] std::int64_t gradient_for(std::int64_t stage, std::int64_t pass) const;

  [[nodiscard]] TensorRef hidden(Index slot);
  [[nodiscard]] TensorRef input_of_forward(std::int64_t ahead = 0);
  [[nodiscard]] TensorRef top_of_forward();
  [[nodiscard]] TensorRef top_of_backward();
  [[nodiscard]] TensorRef gradient(std::int64_t ahead = 0);
  [[nodiscard]] TensorRef gradient_at(Index slot);
  [[nodiscard]] TensorRef dropout_mask(Index slot);
  [[nodiscard]] Index top(Index slot, bool backward) const;

  // The layers of a pass, in its order. A part of the model is chunk c of stage r: c * stages + r.
  enum class Way { forward, backward };
  using ByPart = std::function<std::int64_t(std::int64_t part)>;
  [[nodiscard]] Index of_part(Way way, const ByPart& entry) const;
  [[nodiscard]] std::int64_t parts() const { return p_ * v_; }
  [[nodiscard]] std::int64_t layer_at(Way way, std::int64_t part, std::int64_t place) const;
  [[nodiscard]] bool is_mixture(Way way, std::int64_t part, std::int64_t place) const;
  [[nodiscard]] std::int64_t others_before(std::int64_t part, std::int64_t layer) const;
  [[nodiscard]] std::vector<PassSegment> segments(Way way) const;
  struct PassLayer {
    Index in_part;  ///< counted from the part's first layer
    Index weight;   ///< counted among the stage's layers
    Index turn;     ///< counted in the order of the pass
    Index buffer;   ///< of tensors that wait in host memory: where they are on the GPU
    bool mixture = false;
    bool recomputes = false;
  };
  void each_layer(const std::string& name, Way way,
                  const std::function<void(const PassLayer&)>& body);
  void segment_layers(Way way, const PassSegment& segment, LoopId loop,
                      const std::function<void(const PassLayer&)>& body);
  void enter(Way way, const std::vector<std::int64_t>& places, bool mixture);
  [[nodiscard]] Index weight_of(Way way, const std::vector<std::int64_t>& places) const;
  void gather_first(Way way);

  // Saved tensors that wait in host memory. On the GPU forward passes have slots 0 and 2 for them,
  // backward passes 1 and 3, layers in turn; stacks that copy and do nothing else have one of each.
  [[nodiscard]] bool sends() const {
    return trains_ && scenario_.plan.offloads(Offload::activations);
  }
  [[nodiscard]] bool fetches_ahead() const {
    return sends() && !scenario_.stack().synchronous_offload;
  }
  [[nodiscard]] std::int64_t buffers() const { return fetches_ahead() ? 4 : 2; }
  [[nodiscard]] Index buffer_of(Way way, const std::vector<std::int64_t>& places,
                                const Index& step) const;
  [[nodiscard]] Index in_part_of(Way way, const std::vector<std::int64_t>& places) const;
  [[nodiscard]] Index undone_slot(std::int64_t size, const Index& in_part) const;
  [[nodiscard]] TensorRef input_on_host(const Index& place);
  void send_input(const TensorRef& input, const Index& place);
  void send_saved(SavedKind kind, const TensorRef& input, const Index& place, bool inputs_only);
  void fetch_saved(SavedKind kind, const Index& in_part, const Index& buffer,
                   std::int64_t ahead = 0);
  void fetch_first(std::int64_t ahead);
  void fetch_first_of(SavedKind kind, std::int64_t ahead);
  [[nodiscard]] bool recomputes(std::int64_t layer_of_part) const {
    const std::int64_t some = scenario_.plan.recompute_layers;
    return some == 0 || layer_of_part < some;
  }
  [[nodiscard]] bool saves_nothing() const {
    return !trains_ || (block_.keeps_inputs_only() && recomputes(chunk_layers_ - 1));
  }

  void begin_turns();
  void backward_turns();
  void answer();
  template <class Body>
  void when(std::initializer_list<Condition> conditions, const Body& body);
  void exchange(Stream stream, const std::string& label, std::optional<TensorRef> sent, int to,
                std::optional<TensorRef> received, int from);
  [[nodiscard]] TensorRef slice(const char* name);
  [[nodiscard]] TensorRef cut(const TensorRef& whole);
  void wait(Stream stream);
  void wait_for_inputs();
  void wait_for_gradients();

  void read_data();
  void forward();
  void forward_pass_of_stage();
  void forward_layer(const PassLayer& layer);
  [[nodiscard]] Index cache_of(const PassLayer& layer) const;
  void backward();
  void backward_layer(const PassLayer& layer);
  void backward_pass_of_stage();
  void head_and_loss();
  void leave_model();
  void reduce_when_last(
      const std::function<void(bool last, Parameters::Summed which)>& reduce);

  void receive_first_inputs();
  void pass_on_activations();
  void pass_on_interleaved_activations();
  void receive_first_gradient();
  void pass_on_gradients();
  void pass_on_interleaved_gradients();

  // Saved activations: slots for every pass and layer, or one for the layer that is recomputed.
  [[nodiscard]] std::int64_t saved_slots() const {
    return saves_nothing() ? 1 : sends() ? buffers() : passes_.window() * chunk_layers_;
  }

  const Scenario& scenario_;
  bool trains_;
  ProgramBuilder build_;
  TransformerBlock block_;
  Parameters parameters_;
  ModelEnds ends_;
  Stages stages_;
  std::int64_t p_, v_, m_;
  Passes passes_;
  std::int64_t chunk_layers_;
  bool tied_, whole_model_;
  bool scatters_;  ///< messages are slices, of one tensor rank each
  GroupId row_;
  LoopId turns_;
  /// Of dense layers and of mixtures: where the forward loop left the activations.
  LayerState saved_[2];
  ActivationOffload activations_;
};

PipelineStep::PipelineStep(const Scenario& scenario)
    : scenario_(scenario),
      trains_(scenario.workload.phase == Phase::train),
      build_(trains_ ? "training step" : "forward step"),
      block_((build_.program().mesh = mesh_of(scenario), scenario)),
      parameters_(build_, scenario, block_.shapes(), trains_),
      ends_(scenario, block_, parameters_),
      stages_(scenario),
      p_(scenario.plan.pipeline),
      v_(scenario.plan.virtual_pipeline),
      m_(scenario.micro_batches()),
      passes_(p_, v_, m_, virtual_group_of(scenario.plan, m_)),
      chunk_layers_(stages_.most_layers_of_a_part()),
      tied_(scenario.model.tied_embeddings),
      whole_model_(has_ends(scenario.model)),
      scatters_(v_ == 1 && scenario.stack().scatters_messages && !scenario.plan.sequence_parallel &&
                scenario.plan.tensor > 1 && block_.shapes().tokens % scenario.plan.tensor == 0),
      row_(*build_.group("pipeline", {Axis::pipeline})),
      activations_(build_, passes_.window() * chunk_layers_) {
  build_.program().attention = attention_geometry(scenario);
}

Program PipelineStep::program() {
  if (trains_) {
    parameters_.zero_gradients();
    parameters_.gather_updated_weights();
  }
  parameters_.gather_stage();
  begin_turns();
  when({{forward_pass(), 0, passes_.count() - 1}}, [&] { forward(); });
  if (trains_) {
    backward_turns();
  }
  build_.end_loop(turns_);
  if (trains_) {
    parameters_.optimize();
  }
  if (trains_ && whole_model_) {
    ends_.end_step(build_);
  }
  return build_.finish();
}

void PipelineStep::backward_turns() {
  when({{backward_pass(), -1, -1}, {Index::coordinate(Axis::pipeline), 0, p_ - 2}},
       [&] { receive_first_gradient(); });
  when({{backward_pass(), 0, unbounded}}, [&] { backward(); });
  if (fetches_ahead()) {
    // Beside the forward pass of the next turn; what the last stage undoes is that pass itself.
    when({{backward_pass(1), 0, passes_.count() - 1}, {Index::coordinate(Axis::pipeline), 0, p_ - 2}},
         [&] { fetch_first(1); });
  }
}

// Between warm-up and cool-down all turns do the same, interleaved after every round of chunks; the
// last turns differ, because they receive nothing more and sum the gradients over replicas.
void PipelineStep::begin_turns() {
  const std::int64_t longest = trains_ ? passes_.warm_up(0) : 0;
  turns_ = build_.begin_loop("turns", passes_.count() + longest, true);
  Loop& loop = build_.program().loops[turns_.index];
  loop.period = passes_.period();
  for (std::int64_t stage = 0; stage < p_; ++stage) {
    if (!trains_) {
      loop.stage_uniform.push_back(passes_.steady_forward_turns());
      continue;
    }
    loop.stage_counts.push_back(passes_.count() + passes_.warm_up(stage));
    loop.stage_uniform.push_back(passes_.steady_turns(stage));
  }
}

Index PipelineStep::forward_pass(std::int64_t ahead) const {
  return Index::counter(turns_, 1, ahead);
}

Index PipelineStep::backward_pass(std::int64_t ahead) const {
  Index pass = Index::counter(turns_, 1, ahead - passes_.start());
  pass.axis = Axis::pipeline;
  pass.axis_coefficient = passes_.slope();
  return pass;
}

// Looks up what `entry` says of pass f + ahead.
template <class Entry>
Index PipelineStep::of_forward(std::int64_t ahead, const Entry& entry) const {
  std::vector<std::int64_t> table;
  for (std::int64_t k = 0; k < passes_.count(); ++k) {
    table.push_back(entry(k));
  }
  Lookup lookup;
  lookup.table = std::make_shared<const std::vector<std::int64_t>>(std::move(table));
  lookup.constant = ahead;
  lookup.loop = turns_;
  Index index;
  index.lookups.push_back(std::move(lookup));
  return index;
}

template <class Entry>
Index PipelineStep::of_backward(std::int64_t ahead, const Entry& entry) const {
  Index index = of_forward(ahead - passes_.start(), entry);
  index.lookups[0].axis = Axis::pipeline;
  index.lookups[0].axis_coefficient = passes_.slope();
  return index;
}

// What `entry` says of a stage and the pass of a turn.
template <class Entry>
Lookup PipelineStep::table_of_stages(const Entry& entry) const {
  std::vector<std::int64_t> table;
  for (std::int64_t stage = 0; stage < p_; ++stage) {
    for (std::int64_t k = 0; k < passes_.count(); ++k) {
      table.push_back(entry(stage, k));
    }
  }
  Lookup lookup;
  lookup.table = std::make_shared<const std::vector<std::int64_t>>(std::move(table));
  lookup.loop = turns_;
  lookup.axis = Axis::pipeline;
  lookup.axis_coefficient = passes_.count();
  return lookup;
}

template <class Entry>
Index PipelineStep::of_stage_forward(const Entry& entry) const {
  Index index;
  index.lookups.push_back(table_of_stages(entry));
  return index;
}

template <class Entry>
Index PipelineStep::of_stage_backward(const Entry& entry) const {
  Index index = of_stage_forward(entry);
  index.lookups[0].constant = -passes_.start();
  index.lookups[0].axis_coefficient += passes_.slope();
  return index;
}

// Which part of the model a pass is on, counted through all stages and chunks.
Index PipelineStep::forward_part() const {
  Index part = of_forward(0, [&](std::int64_t k) { return passes_.forward_chunk(k) * p_; });
  part.axis = Axis::pipeline;
  part.axis_coefficient = 1;
  return part;
}

Index PipelineStep::backward_part() const {
  Index part = of_backward(0, [&](std::int64_t k) { return passes_.backward_chunk(k) * p_; });
  part.axis = Axis::pipeline;
  part.axis_coefficient = 1;
  return part;
}

// The forward pass whose input a stage receives behind its pass k; -1: it receives none. The first
// stage is p - 1 passes ahead of the last, whose outputs it takes up.
std::int64_t PipelineStep::activation_for(std::int64_t stage, std::int64_t pass) const {
  if (stage > 0) {
    return pass + 1 < passes_.count() ? pass + 1 : -1;
  }
  const std::int64_t sent = pass - (p_ - 1);
  return sent >= 0 && passes_.forward_chunk(sent) < v_ - 1 ? passes_.next_chunk(sent) : -1;
}

// The same of backward passes, in which the last stage is ahead of the first.
std::int64_t PipelineStep::gradient_for(std::int64_t stage, std::int64_t pass) const {
  if (stage < p_ - 1) {
    return pass + 1 < passes_.count() ? pass + 1 : -1;
  }
  const std::int64_t sent = pass - (p_ - 1);
  return sent >= 0 && passes_.backward_chunk(sent) > 0 ? passes_.next_chunk(sent) : -1;
}

TensorRef PipelineStep::hidden(Index slot) {
  TensorSpec spec = block_.stream_spec();
  spec.slots = passes_.window() * (chunk_layers_ + 1);
  return build_.tensor("hidden", spec, slot);
}

// The residual streams of a pass lie in consecutive slots, its input in the first.
TensorRef PipelineStep::input_of_forward(std::int64_t ahead) {
  return hidden(of_forward(ahead, [&](std::int64_t k) {
    return k % passes_.window() * (chunk_layers_ + 1);
  }));
}

// `slot` and as many further as the chunk of a forward or backward pass has layers.
Index PipelineStep::top(Index slot, bool backward) const {
  return plus(std::move(slot), of_part(backward ? Way::backward : Way::forward, [&](std::int64_t part) {
                return stages_.layers_of_part(part);
              }));
}

// Looks up what `entry` says of the part of the model that a pass is on.
Index PipelineStep::of_part(Way way, const ByPart& entry) const {
  std::vector<std::int64_t> entries;
  for (std::int64_t part = 0; part < parts(); ++part) {
    entries.push_back(entry(part));
  }
  if (std::count(entries.begin(), entries.end(), entries[0]) == parts()) {
    return Index::of(entries[0]);
  }
  const bool backward = way == Way::backward;
  const auto of_pass = [&](std::int64_t stage, std::int64_t k) {
    const std::int64_t chunk = backward ? passes_.backward_chunk(k) : passes_.forward_chunk(k);
    return entries[static_cast<std::size_t>(chunk * p_ + stage)];
  };
  return backward ? of_stage_backward(of_pass) : of_stage_forward(of_pass);
}

// Which layer of its part a pass comes to as its `place`-th.
std::int64_t PipelineStep::layer_at(Way way, std::int64_t part, std::int64_t place) const {
  return way == Way::forward ? place : stages_.layers_of_part(part) - 1 - place;
}

bool PipelineStep::is_mixture(Way way, std::int64_t part, std::int64_t place) const {
  std::int64_t layer = layer_at(way, part, place);
  for (std::int64_t before = 0; before < part; ++before) {
    layer += stages_.layers_of_part(before);
  }
  return is_expert_layer(scenario_.model, layer);
}

// Layers of the other kind that a stage holds before this one.
std::int64_t PipelineStep::others_before(std::int64_t part, std::int64_t layer) const {
  const bool mixture = is_mixture(Way::forward, part, layer);
  std::int64_t others = 0;
  for (std::int64_t mine = part % p_; mine <= part; mine += p_) {
    const std::int64_t end = mine == part ? layer : stages_.layers_of_part(mine);
    for (std::int64_t i = 0; i < end; ++i) {
      others += is_mixture(Way::forward, mine, i) != mixture ? 1 : 0;
    }
  }
  return others;
}

std::vector<PassSegment> PipelineStep::segments(Way way) const {
  std::vector<std::vector<LayerTraits>> all;
  const auto ahead = parameters_.gathers_ahead();
  for (std::int64_t part = 0; part < parts(); ++part) {
    const std::int64_t count = stages_.layers_of_part(part);
    std::vector<LayerTraits>& layers = all.emplace_back();
    for (std::int64_t i = 0; i < count; ++i) {
      LayerTraits traits{is_mixture(way, part, i), recomputes(layer_at(way, part, i)), {}};
      if (ahead && i + *ahead < count) {
        traits.gathers = is_mixture(way, part, i + *ahead);
      }
      if (way == Way::backward && fetches_ahead() && i + 1 < count) {
        traits.fetches = {is_mixture(way, part, i + 1), recomputes(layer_at(way, part, i + 1))};
      }
      layers.push_back(traits);
    }
  }
  return pass_segments(all);
}

// A loop for each segment. Where chunks of one stage differ, it has turns for the largest, of which
// the smaller ones leave out the last.
void PipelineStep::each_layer(const std::string& name, Way way,
                              const std::function<void(const PassLayer&)>& body) {
  gather_first(way);
  for (const PassSegment& segment : segments(way)) {
    const auto full = [&](std::int64_t count) { return count == segment.most; };
    const bool even = std::all_of(segment.counts.begin(), segment.counts.end(), full);
    const bool by_stage = v_ == 1 || even;
    const LoopId loop = build_.begin_loop(name, segment.most, by_stage);
    if (!even && by_stage) {
      build_.program().loops[loop.index].stage_counts = segment.counts;
    }
    if (!by_stage) {
      const Index left = plus(of_part(way, [&](std::int64_t part) {
                                return segment.counts[static_cast<std::size_t>(part)] - 1;
                              }),
                              Index::counter(loop, -1));
      build_.begin_when({left, 0, unbounded});
    }
    segment_layers(way, segment, loop, body);
    if (!by_stage) {
      build_.end_when();
    }
    build_.end_loop(loop);
  }
}

// Says to the parameters which layers are at hand: of each part that of this place in the pass, or
// none (-1).
void PipelineStep::enter(Way way, const std::vector<std::int64_t>& places, bool mixture) {
  parameters_.enter({mixture, of_part(way, [&](std::int64_t part) {
                       const std::int64_t place = places[static_cast<std::size_t>(part)];
                       return place < 0 ? 0 : -others_before(part, layer_at(way, part, place));
                     })});
}

// The weights of these layers among those of their stage.
Index PipelineStep::weight_of(Way way, const std::vector<std::int64_t>& places) const {
  return of_part(way, [&](std::int64_t part) {
    const std::int64_t place = places[static_cast<std::size_t>(part)];
    return place < 0 ? 0 : stages_.layers_before(part) + layer_at(way, part, place);
  });
}

// Before a pass: the layers that are gathered ahead of the first.
void PipelineStep::gather_first(Way way) {
  const std::int64_t ahead = parameters_.gathers_ahead().value_or(0);
  for (std::int64_t i = 0; i < ahead; ++i) {
    for (const bool mixture : {false, true}) {
      std::vector<std::int64_t> places;
      for (std::int64_t part = 0; part < parts(); ++part) {
        const bool has = i < stages_.layers_of_part(part) && is_mixture(way, part, i) == mixture;
        places.push_back(has ? i : -1);
      }
      if (std::count(places.begin(), places.end(), i) == 0) {
        continue;
      }
      const Index has = of_part(
          way, [&](std::int64_t part) { return places[static_cast<std::size_t>(part)] == i ? 1 : 0; });
      enter(way, places, mixture);
      when({{has, 1, 1}}, [&] { parameters_.gather_layer(weight_of(way, places), Index::of(i)); });
    }
  }
}

// Where the layers stand in their parts.
Index PipelineStep::in_part_of(Way way, const std::vector<std::int64_t>& places) const {
  return of_part(way, [&](std::int64_t part) {
    const std::int64_t place = places[static_cast<std::size_t>(part)];
    return place < 0 ? 0 : layer_at(way, part, place);
  });
}

Index PipelineStep::buffer_of(Way way, const std::vector<std::int64_t>& places,
                              const Index& step) const {
  const std::int64_t first = way == Way::forward ? 0 : 1;
  if (!fetches_ahead()) {
    return Index::of(first);
  }
  Index buffer = plus(of_part(way,
                              [&](std::int64_t part) {
                                const std::int64_t place = places[static_cast<std::size_t>(part)];
                                return place < 0 ? 0 : 2 * place + first;
                              }),
                      step);
  buffer.modulus = buffers();
  return buffer;
}

void PipelineStep::segment_layers(Way way, const PassSegment& segment, LoopId loop,
                                  const std::function<void(const PassLayer&)>& body) {
  const auto places = [&](std::int64_t ahead) {
    std::vector<std::int64_t> first;
    for (std::size_t part = 0; part < segment.counts.size(); ++part) {
      first.push_back(segment.counts[part] > 0 ? segment.offsets[part] + ahead : -1);
    }
    return first;
  };
  const Index step = Index::counter(loop, way == Way::forward ? 1 : -1);
  PassLayer layer;
  layer.turn = plus(of_part(way,
                            [&](std::int64_t part) {
                              return segment.offsets[static_cast<std::size_t>(part)];
                            }),
                    Index::counter(loop));
  if (segment.traits.gathers) {
    const std::int64_t ahead = *parameters_.gathers_ahead();
    enter(way, places(ahead), *segment.traits.gathers);
    parameters_.gather_layer(plus(weight_of(way, places(ahead)), step),
                             plus(layer.turn, Index::of(ahead)));
  }
  if (segment.traits.fetches) {
    build_.part(Part::backward);
    fetch_saved({segment.traits.fetches->first, segment.traits.fetches->second},
                plus(in_part_of(way, places(1)), step),
                buffer_of(way, places(1), Index::counter(loop, 2)));
  }
  enter(way, places(0), segment.traits.mixture);
  layer.in_part = plus(in_part_of(way, places(0)), step);
  layer.buffer = buffer_of(way, places(0), Index::counter(loop, 2));
  layer.weight = plus(weight_of(way, places(0)), step);
  layer.mixture = segment.traits.mixture;
  layer.recomputes = segment.traits.recomputes;
  if (parameters_.gathers_ahead()) {
    parameters_.take_out_layer(layer.weight, layer.turn);
  }
  body(layer);
}

TensorRef PipelineStep::top_of_forward() { return hidden(top(input_of_forward().slot, false)); }

TensorRef PipelineStep::top_of_backward() {
  return hidden(top(of_backward(0, [&](std::int64_t k) {
                      return passes_.undone(k) % passes_.window() * (chunk_layers_ + 1);
                    }),
                    true));
}

// The gradient of the residual stream: that of a pass, and those that come in for later ones while
// one goes out.
TensorRef PipelineStep::gradient(std::int64_t ahead) {
  Index slot = backward_pass(ahead);
  slot.modulus = passes_.ahead() + 1;
  return gradient_at(slot);
}

TensorRef PipelineStep::gradient_at(Index slot) {
  TensorSpec spec = block_.stream_spec();
  spec.slots = passes_.ahead() + 1;
  return build_.tensor("d_hidden", spec, slot);
}

TensorRef PipelineStep::dropout_mask(Index slot) {
  TensorSpec spec = block_.mask_spec();
  spec.slots = passes_.window();
  return build_.tensor("embedding_dropout_mask", spec, slot);
}

template <class Body>
void PipelineStep::when(std::initializer_list<Condition> conditions, const Body& body) {
  for (const Condition& condition : conditions) {
    build_.begin_when(condition);
  }
  body();
  for (std::size_t i = 0; i < conditions.size(); ++i) {
    build_.end_when();
  }
}

// A tensor rank's slice of the tokens of a message.
TensorRef PipelineStep::slice(const char* name) {
  TensorSpec spec = block_.stream_spec();
  spec.shape[1] /= scenario_.plan.tensor;
  spec.shards[1].push_back({Axis::tensor, SequenceOrder::contiguous});
  spec.category = MemoryCategory::communication;
  return build_.fresh(name, spec);
}

// What is sent of a tensor that all tensor ranks hold: a view, which takes no time.
TensorRef PipelineStep::cut(const TensorRef& whole) {
  const TensorRef sent = slice("sent_slice");
  const std::int64_t length = build_.of(sent).shape[1];
  const Index begin = times(Index::coordinate(Axis::tensor), length);
  const TensorRef part = ProgramBuilder::slice(whole, 1, begin, length);
  build_.compute(Op::copy, "slice of a message", {part}, {sent}).fused = true;
  return sent;
}

// Emits an exchange; what is received is allocated, what is sent released once it is away. Stacks that
// scatter send a slice from each tensor rank and gather what came (arXiv 2104.04473, section 4.1).
void PipelineStep::exchange(Stream stream, const std::string& label, std::optional<TensorRef> sent,
                            int to, std::optional<TensorRef> received, int from) {
  std::vector<TensorRef> reads, writes;
  if (received) {
    build_.allocate(*received);
    writes.push_back(scatters_ ? slice("received_slice") : *received);
  }
  if (sent) {
    reads.push_back(scatters_ ? cut(*sent) : *sent);
  }
  Instruction& made = build_.collective(Op::exchange, stream, row_, label, reads, writes);
  made.to.assign(reads.size(), to);
  made.from.assign(writes.size(), from);
  if (v_ == 1) {
    wait(stream);
    if (scenario_.stack().waits_for_messages) {
      build_.host_waits("host waits for pipeline neighbours");
    }
  }
  if (sent) {
    build_.release({*sent});
  }
  if (sent && scatters_) {
    build_.release({reads[0]});
  }
  if (received && scatters_) {
    build_
        .collective(Op::all_gather, Stream::tensor, *build_.group("tensor", {Axis::tensor}),
                    "gather message", {writes[0]}, {*received})
        .dim = 1;
    build_.release({writes[0]});
  }
}

void PipelineStep::wait(Stream stream) {
  build_.compute(Op::wait, "wait for pipeline neighbours", {}, {}).awaited = stream;
}

// Interleaved: the exchange that was started a turn before. What comes around to the first stage
// comes long before it is needed if groups are larger than the pipeline: it is waited for by itself.
void PipelineStep::wait_for_inputs() {
  if (v_ > 1) {
    when({{Index::coordinate(Axis::pipeline), passes_.ahead() > 1 ? 1 : 0, p_ - 1}},
         [&] { wait(Stream::pipeline); });
  }
}

void PipelineStep::wait_for_gradients() {
  when({{Index::coordinate(Axis::pipeline), 0, passes_.ahead() > 1 ? p_ - 2 : p_ - 1}},
       [&] { wait(Stream::pipeline_back); });
}

// The first part of the model reads tokens, the last one labels, those between read nothing.
void PipelineStep::read_data() {
  if (!trains_ || !whole_model_ || !ends_.holds_host()) {
    return;
  }
  for (const std::int64_t part : {std::int64_t{0}, p_ * v_ - 1}) {
    when({{forward_part(), part, part}}, [&] { ends_.read_batch(build_); });
  }
}

void PipelineStep::forward() {
  read_data();
  build_.part(Part::forward);
  receive_first_inputs();
  wait_for_inputs();
  forward_pass_of_stage();
  if (!trains_) {
    answer();
  }
  v_ == 1 ? pass_on_activations() : pass_on_interleaved_activations();
}

void PipelineStep::forward_pass_of_stage() {
  when({{forward_part(), 0, 0}}, [&] {
    const TensorRef input = input_of_forward();
    build_.allocate(input);
    const Index micro_batch = of_forward(0, [&](std::int64_t k) { return passes_.micro_batch(k); });
    if (whole_model_) {
      parameters_.gather_root(Section::bottom);
      ends_.embed(build_, ends_.ids(build_, "tokens", micro_batch), input);
    } else {
      ends_.come_in(build_, "x", input, micro_batch);
    }
    if (block_.drops() && whole_model_) {
      Index slot = forward_pass();
      slot.modulus = passes_.window();
      build_.allocate(dropout_mask(slot));
    }
  });
  each_layer("layers forward", Way::forward, [&](const PassLayer& layer) { forward_layer(layer); });
}

// Without a backward pass the end of the model follows its last layer at once.
void PipelineStep::answer() {
  when({{forward_part(), parts() - 1, parts() - 1}}, [&] {
    parameters_.gather_root(Section::top);
    const TensorRef output = top_of_forward();
    if (whole_model_) {
      ends_.logits_only(build_, output);
    } else {
      ends_.go_out(build_, "y", output,
                   of_forward(0, [&](std::int64_t k) { return passes_.micro_batch(k); }));
    }
    build_.release({output});
  });
}

// Among the caches of a stage's layers, micro-batch by micro-batch.
Index PipelineStep::cache_of(const PassLayer& layer) const {
  return plus(of_stage_forward([&](std::int64_t stage, std::int64_t k) {
                const auto& held = stages_.layers()[static_cast<std::size_t>(stage)];
                return passes_.micro_batch(k) * static_cast<std::int64_t>(held.size());
              }),
              layer.weight);
}

TensorRef PipelineStep::input_on_host(const Index& place) {
  TensorSpec spec = block_.stream_spec();
  spec.slots = passes_.window() * chunk_layers_;
  spec.in_host_memory = true;
  return build_.tensor("hidden_on_host", spec, place);
}

void PipelineStep::send_input(const TensorRef& input, const Index& place) {
  const TensorRef away = input_on_host(place);
  build_.allocate(away);
  build_.host_work(Op::to_host, "send layer input", {input}, {away});
  if (scenario_.stack().synchronous_offload) {
    build_.wait_for("wait for the copy", Stream::copy);
  }
}

// Behind a layer: what it has left on the GPU.
void PipelineStep::send_saved(SavedKind kind, const TensorRef& input, const Index& place,
                              bool inputs_only) {
  if (!inputs_only) {
    activations_.send(kind, input.tensor, place);
    if (scenario_.stack().synchronous_offload) {
      build_.wait_for("wait for the copy", Stream::copy);
    }
  }
  build_.release({input});
}

// Of the forward pass that this backward pass undoes, whose layers have `size` slots a pass.
Index PipelineStep::undone_slot(std::int64_t size, const Index& in_part) const {
  return plus(of_backward(0,
                          [&](std::int64_t k) {
                            return passes_.undone(k) % passes_.window() * size;
                          }),
              in_part);
}

// For this backward pass, or one that is `ahead` passes further.
void PipelineStep::fetch_saved(SavedKind kind, const Index& in_part, const Index& buffer,
                               std::int64_t ahead) {
  const TensorRef input = hidden(further(undone_slot(chunk_layers_ + 1, in_part), ahead));
  const Index place = further(undone_slot(chunk_layers_, in_part), ahead);
  const TensorRef away = input_on_host(place);
  build_.allocate(input);
  build_.host_work(Op::from_host, "fetch layer input", {away}, {input});
  build_.release({away});
  activations_.fetch(kind, further(buffer, ahead), place);
}

// What the first layer of a backward pass needs, whichever it is on a stage and chunk.
void PipelineStep::fetch_first(std::int64_t ahead) {
  build_.part(Part::backward);
  for (const bool mixture : {false, true}) {
    for (const bool recomputed : {false, true}) {
      fetch_first_of({mixture, recomputed}, ahead);
    }
  }
}

void PipelineStep::fetch_first_of(SavedKind kind, std::int64_t ahead) {
  std::vector<std::int64_t> places;
  for (std::int64_t part = 0; part < parts(); ++part) {
    const bool has = stages_.layers_of_part(part) > 0 &&
                     is_mixture(Way::backward, part, 0) == kind.mixture &&
                     recomputes(layer_at(Way::backward, part, 0)) == kind.recomputes;
    places.push_back(has ? 0 : -1);
  }
  if (std::count(places.begin(), places.end(), 0) == 0) {
    return;
  }
  const Index has = of_part(Way::backward, [&](std::int64_t part) {
    return places[static_cast<std::size_t>(part)] + 1;
  });
  when({{further(has, ahead), 1, 1}}, [&] {
    fetch_saved(kind, in_part_of(Way::backward, places),
                buffer_of(Way::backward, places, Index::of(0)), ahead);
  });
}

void PipelineStep::forward_layer(const PassLayer& layer) {
  const TensorRef input = hidden(plus(input_of_forward().slot, layer.in_part));
  TensorRef output = input;
  output.slot.constant += 1;
  const Index kept = plus(
      of_forward(0, [&](std::int64_t k) { return k % passes_.window() * chunk_layers_; }),
      layer.in_part);
  const Index slot = saves_nothing() ? Index::of(0) : sends() ? layer.buffer : kept;
  LayerState& saved = saved_[layer.mixture ? 1 : 0];
  const bool keeps_nothing = !trains_ || (layer.recomputes && block_.keeps_inputs_only());
  const LayerWeights weights = parameters_.layer(layer.weight, layer.turn);
  if (sends()) {
    send_input(input, kept);
  }
  activations_.begin();
  saved = block_.forward(build_, weights, input, output,
                         saved_slots(), slot, trains_ ? layer.weight : cache_of(layer),
                         keeps_nothing ? ForwardPass::passes_by : ForwardPass::keeps);
  if (!trains_) {
    block_.release_state(build_, saved);
    build_.release({input});
  } else if (layer.recomputes) {
    block_.drop(build_, saved, saved_slots(), slot);
  }
  if (sends()) {
    send_saved({layer.mixture, layer.recomputes}, input, kept, keeps_nothing);
  }
}

void PipelineStep::backward() {
  build_.part(Part::backward);
  if (v_ == 1) {
    when({{forward_pass(), m_, unbounded}, {Index::coordinate(Axis::pipeline), 0, p_ - 2}}, [&] {
      exchange(Stream::pipeline, "receive gradient", std::nullopt, 0, gradient(), -1);
    });
  } else {
    wait_for_gradients();
  }
  if (fetches_ahead()) {
    when({{Index::coordinate(Axis::pipeline), p_ - 1, p_ - 1}}, [&] { fetch_first(0); });
  }
  head_and_loss();
  backward_pass_of_stage();
  leave_model();
  parameters_.drop_leaf_gradients();
  v_ == 1 ? pass_on_gradients() : pass_on_interleaved_gradients();
}

// ZeRO 0 and 1 sum gradients over replicas in the last micro-batch of each chunk, as Megatron-LM
// does when it overlaps the sums with the backward pass.
void PipelineStep::reduce_when_last(
    const std::function<void(bool last, Parameters::Summed which)>& reduce) {
  if (parameters_.has(Parameters::Summed::every_time)) {
    reduce(false, Parameters::Summed::every_time);
  }
  if (!parameters_.has(Parameters::Summed::once)) {
    return;
  }
  const Index last =
      of_backward(0, [&](std::int64_t k) { return passes_.micro_batch(k) == m_ - 1 ? 1 : 0; });
  when({{last, 1, 1}}, [&] { reduce(true, Parameters::Summed::once); });
}

// The forward pass on the last part of the model was the one just before.
void PipelineStep::head_and_loss() {
  when({{backward_part(), p_ * v_ - 1, p_ * v_ - 1}}, [&] {
    build_.part(Part::forward);
    const Index micro_batch =
        of_backward(0, [&](std::int64_t k) { return passes_.micro_batch(k); });
    const TensorRef output = top_of_backward();
    const TensorRef d = gradient();
    parameters_.gather_root(Section::top);
    if (tied_) {
      parameters_.prepare_copy();
    }
    parameters_.prepare_gradients(Section::top, Index::of(0), Index::of(0));
    if (whole_model_) {
      ends_.loss_and_back(build_, output, ends_.ids(build_, "labels", micro_batch), d.slot);
    } else {
      ends_.go_out(build_, "y", output, micro_batch);
      build_.part(Part::backward);
      build_.allocate(d);
      ends_.come_in(build_, "dy", d, micro_batch);
    }
    build_.release({output});
    parameters_.accumulate_gradients(Section::top, Index::of(0));
    parameters_.accumulate_copy();
    reduce_when_last([&](bool last, Parameters::Summed which) {
      parameters_.reduce_gradients(Section::top, Index::of(0), Index::of(0), last, which);
      parameters_.reduce_copy(last, which);
    });
    build_.part(Part::backward);
  });
}

void PipelineStep::backward_pass_of_stage() {
  each_layer("layers backward", Way::backward,
             [&](const PassLayer& layer) { backward_layer(layer); });
}

void PipelineStep::backward_layer(const PassLayer& layer) {
  const TensorRef input = hidden(undone_slot(chunk_layers_ + 1, layer.in_part));
  const Index slot = sends() ? layer.buffer : undone_slot(chunk_layers_, layer.in_part);
  Index turn = layer.turn;
  turn.modulus = 2;
  const LayerWeights weights = parameters_.layer(layer.weight, turn);
  if (sends() && !fetches_ahead()) {
    build_.part(Part::backward);
    fetch_saved({layer.mixture, layer.recomputes}, layer.in_part, layer.buffer);
  }
  LayerState state = at_slot(build_, saved_[layer.mixture ? 1 : 0], input, slot);
  if (layer.recomputes) {
    block_.restore(build_, weights, state, saved_slots(), saves_nothing() ? Index::of(0) : slot,
                   layer.weight);
  }
  build_.part(Part::backward);
  parameters_.prepare_gradients(Section::layers, layer.weight, turn);
  block_.backward(build_, weights, state, gradient(), layer.recomputes,
                  parameters_.fresh_gradients());
  build_.release({input});
  parameters_.accumulate_gradients(Section::layers, layer.weight);
  reduce_when_last([&](bool last, Parameters::Summed which) {
    parameters_.reduce_gradients(Section::layers, layer.weight, turn, last, which);
  });
}

// The gradient of the model's input.
void PipelineStep::leave_model() {
  when({{backward_part(), 0, 0}}, [&] {
    build_.part(Part::backward);
    const Index micro_batch =
        of_backward(0, [&](std::int64_t k) { return passes_.micro_batch(k); });
    if (block_.drops() && whole_model_) {
      build_.release({dropout_mask(of_backward(
          0, [&](std::int64_t k) { return passes_.undone(k) % passes_.window(); }))});
    }
    parameters_.prepare_gradients(Section::bottom, Index::of(0), Index::of(0));
    if (whole_model_) {
      ends_.embed_backward(build_, ends_.ids(build_, "tokens", micro_batch), gradient());
    } else {
      ends_.go_out(build_, "dx", gradient(), micro_batch);
    }
    build_.release({gradient()});
    parameters_.accumulate_gradients(Section::bottom, Index::of(0));
    reduce_when_last([&](bool last, Parameters::Summed which) {
      parameters_.reduce_gradients(Section::bottom, Index::of(0), Index::of(0), last, which);
    });
  });
  build_.part(Part::backward);
}

// 1F1B: before each forward pass of the warm-up, and the first after it. Without backward passes:
// before each. Interleaved: before the
// first of all; each pass then receives the next one's input.
void PipelineStep::receive_first_inputs() {
  const Condition each = trains_ ? Condition{backward_pass(), -unbounded, 0}
                                 : Condition{forward_pass(), 0, unbounded};
  const Condition early = v_ == 1 ? each : Condition{forward_pass(), 0, 0};
  when({early, {Index::coordinate(Axis::pipeline), 1, p_ - 1}}, [&] {
    exchange(Stream::pipeline, "receive activation", std::nullopt, 0, input_of_forward(), 1);
  });
}

// Megatron-LM's send_forward in the warm-up, then send_forward_recv_backward; both wait.
void PipelineStep::pass_on_activations() {
  const Condition not_last{Index::coordinate(Axis::pipeline), 0, p_ - 2};
  if (!trains_) {
    when({not_last}, [&] {
      exchange(Stream::pipeline, "send activation", top_of_forward(), 1, std::nullopt, 0);
    });
    return;
  }
  when({not_last, {backward_pass(), -unbounded, -1}}, [&] {
    exchange(Stream::pipeline, "send activation", top_of_forward(), 1, std::nullopt, 0);
  });
  when({not_last, {backward_pass(), 0, unbounded}}, [&] {
    exchange(Stream::pipeline, "send activation, receive gradient", top_of_forward(), 1, gradient(),
             -1);
  });
}

// send_backward_recv_forward while there is a forward pass to come, then send_backward; both wait.
void PipelineStep::pass_on_gradients() {
  const Condition not_first{Index::coordinate(Axis::pipeline), 1, p_ - 1};
  when({not_first, {forward_pass(), 0, m_ - 2}}, [&] {
    exchange(Stream::pipeline, "send gradient, receive activation", gradient(), -1,
             input_of_forward(1), 1);
  });
  when({not_first, {forward_pass(), m_ - 1, unbounded}}, [&] {
    exchange(Stream::pipeline, "send gradient", gradient(), -1, std::nullopt, 0);
  });
}

// send_forward_recv_forward, which goes on beside the backward pass: the next forward pass waits.
// The last part of the model sends nothing, the first receives nothing.
void PipelineStep::pass_on_interleaved_activations() {
  const Condition sends{forward_part(), 0, p_ * v_ - 2};
  const Condition last_part{forward_part(), p_ * v_ - 1, p_ * v_ - 1};
  const Index next = of_stage_forward(
      [&](std::int64_t stage, std::int64_t k) { return activation_for(stage, k); });
  const Condition receives{next, 0, unbounded};
  const TensorRef received = hidden(of_stage_forward([&](std::int64_t stage, std::int64_t k) {
    return std::max<std::int64_t>(0, activation_for(stage, k)) % passes_.window() *
           (chunk_layers_ + 1);
  }));
  when({sends, receives}, [&] {
    exchange(Stream::pipeline, "send and receive activations", top_of_forward(), 1, received, 1);
  });
  when({sends, {next, -1, -1}}, [&] {
    exchange(Stream::pipeline, "send activation", top_of_forward(), 1, std::nullopt, 0);
  });
  when({last_part, receives}, [&] {
    exchange(Stream::pipeline, "receive activation", std::nullopt, 0, received, 1);
  });
}

// Interleaved: of the first backward pass, posted when the warm-up ends.
void PipelineStep::receive_first_gradient() {
  if (v_ > 1) {
    build_.part(Part::backward);
    exchange(Stream::pipeline_back, "receive gradient", std::nullopt, 0, gradient(1), -1);
  }
}

void PipelineStep::pass_on_interleaved_gradients() {
  const Condition sends{backward_part(), 1, unbounded};
  const Index next = of_stage_backward(
      [&](std::int64_t stage, std::int64_t k) { return gradient_for(stage, k); });
  const Condition receives{next, 0, unbounded};
  const TensorRef received = gradient_at(of_stage_backward([&](std::int64_t stage, std::int64_t k) {
    return std::max<std::int64_t>(0, gradient_for(stage, k)) % (passes_.ahead() + 1);
  }));
  const Stream back = Stream::pipeline_back;
  when({sends, receives}, [&] {
    exchange(back, "send and receive gradients", gradient(), -1, received, -1);
  });
  when({sends, {next, -1, -1}}, [&] {
    exchange(back, "send gradient", gradient(), -1, std::nullopt, 0);
  });
  when({{backward_part(), 0, 0}, receives}, [&] {
    exchange(back, "receive gradient", std::nullopt, 0, received, -1);
  });
}

}  // namespace

Program lower_pipeline_step(const Scenario& scenario) { return PipelineStep(scenario).program(); }

}  // namespace longhaul
