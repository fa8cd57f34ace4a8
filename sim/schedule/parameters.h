// Where parameters, gradients and optimizer states live and how they are reduced and gathered:
// ZeRO stages 0-3 (arXiv 1910.02054) over data and, if asked, context ranks.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sim/schedule/stages.h"
#include "sim/schedule/transformer_block.h"

namespace longhaul {

/// Where a weight is used: before the layers (embedding), in them, or after (final norm, head).
enum class Section { bottom, layers, top };

/// The order in which a pass goes through the layers.
enum class LayerOrder { first_to_last, last_to_first };

/// Layers of one kind that follow each other.
struct LayerRun {
  bool mixture = false;
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t others_before = 0;  ///< layers of the other kind before the first
};

/// A model's layers, first to last: one run unless some layers have experts and some do not.
std::vector<LayerRun> layer_runs(const Model& model);

/// Layers of one kind on a rank: what to add to a layer's number on the rank for its place among those
/// of its kind.
struct LayersAtHand {
  bool mixture = false;
  Index to_kind = Index::of(0);
};

/// The weights of a model under a plan: storage, gathering (ZeRO 3), gradient reduction, Adam.
/// Biases, the small norms of heads and a learned position table are stored, reduced and updated
/// with the rest; their arithmetic is part of the kernels next to them.
class Parameters {
 public:
  Parameters(ProgramBuilder& build, const Scenario& scenario, const Shapes& shapes, bool training)
      : Parameters(build, scenario, shapes, training, false) {}

  /// Emits `body` for every layer, as a loop. `layer` counts layers, `turn` is 0, 1, 0, ... in the
  /// order of the pass (gradient buffers; gathered weights count on by Scenario::prefetch()). Under
  /// ZeRO 3 the weights of the next layers are gathered while a layer runs (FSDP's prefetch), so
  /// the last layers are written out behind the loop; so is the first layer of a backward pass that
  /// fetches the next layer's offloaded input. A loop for each run of equal layers.
  void each_layer(const std::string& name, LayerOrder order,
                  const std::function<void(Index layer, Index turn)>& body) const;
  /// The same with the first `split` layers and the others in loops of their own: the body is told
  /// which it runs for.
  void each_layer(const std::string& name, LayerOrder order, std::int64_t split,
                  const std::function<void(Index layer, Index turn, bool below)>& body) const;
  /// Layer weights for layer `layer`; `turn` chooses the buffers that hold gathered weights and
  /// fresh gradients (two of each, used in turn).
  [[nodiscard]] LayerWeights layer(Index layer, Index turn) const;
  /// Weights outside the layers: "embedding", "norm_final", "head".
  [[nodiscard]] Weight root(const std::string& name) const;

  /// The layers that layer() and what follows are about; each_layer() says so itself.
  void enter(const LayersAtHand& at) const;
  /// ZeRO 3: gathers the weights outside the layers (nothing otherwise); of a pipeline whose stages
  /// gather for every pass, those of the first stage or of the last.
  void gather_root() const;
  void gather_root(Section section) const;
  /// Layers gathered ahead of the one at hand; nothing where passes gather none.
  [[nodiscard]] std::optional<std::int64_t> gathers_ahead() const;
  /// Gathers a layer's weights for a pass, and makes them ready where it begins.
  void gather_layer(Index layer, Index turn) const;
  void take_out_layer(Index layer, Index turn) const;
  /// A pipeline under ZeRO 3 that does not reshard: all of a stage's weights, at the beginning of a
  /// step (nothing otherwise).
  void gather_stage() const;
  /// ZeRO 1 and 2 whose parameter gather is overlapped: the weights that the step before updated,
  /// one layer after another, while the first micro-batch begins (nothing otherwise).
  void gather_updated_weights() const;
  /// Sets summed gradients to zero at the beginning of a step.
  void zero_gradients() const;
  /// Makes room for the gradients of a section, of one layer in Section::layers (ZeRO 2 and 3,
  /// whose full gradients do not stay). Those of a tied head are the embedding's.
  void prepare_gradients(Section section, Index layer, Index turn) const;
  /// Which gradients are meant: those that are summed over replicas in every micro-batch, those that
  /// are summed in the last one alone, or both. A model's experts may differ from the rest.
  enum class Summed { every_time, once, both };
  /// Sums these gradients over replicas, as ZeRO's stage does; `last`: of the step's last
  /// micro-batch.
  void reduce_gradients(Section section, Index layer, Index turn, bool last,
                        Summed which = Summed::both) const;
  /// The same of the head's copy of tied embeddings, which the last stage of a pipeline holds.
  void prepare_copy() const;
  void reduce_copy(bool last, Summed which = Summed::both) const;
  /// Adds up the gradients of tied embeddings on the first and the last stage; optimize() does so unless
  /// it has been done. Where they are summed over replicas behind all else, it leaves that to optimize().
  void sum_copies_early() const;
  /// One Adam step on what this rank owns, and the updated weights back to everyone.
  void optimize() const;
  /// Adds what kernels wrote of these gradients in this micro-batch to their sums, where the stack
  /// keeps the two apart (nothing otherwise): behind the backward pass that wrote them, before
  /// reduce_gradients().
  void accumulate_gradients(Section section, Index layer) const;
  void accumulate_copy() const;
  /// Gives them back, behind the whole backward pass (nothing otherwise).
  void drop_leaf_gradients() const;
  /// True if each micro-batch's gradients are written, not added up: under ZeRO 2 and 3, which sum
  /// them over replicas and add them to this rank's shard at once, where none are held between steps
  /// of one micro-batch, and where the stack adds them up apart.
  [[nodiscard]] bool fresh_gradients() const { return sums_every_time() || leaf_; }
  /// True if gradients are summed over replicas in every micro-batch, not in the last one.
  [[nodiscard]] bool sums_every_time() const { return two_turns() || on_demand_; }
  /// True if some gradients are of this kind.
  [[nodiscard]] bool has(Summed which) const {
    const bool every = which == Summed::every_time;
    return sums_every_time() == every || (experts_ && experts_->sums_every_time() == every);
  }

 private:
  /// `routed`: of the routed experts alone, whose states are shared over Axis::expert_data.
  Parameters(ProgramBuilder& build, const Scenario& scenario, const Shapes& shapes, bool training,
             bool routed);
  struct Stored {
    WeightShape shape;
    Section section = Section::layers;
    [[nodiscard]] bool of_layer() const { return section == Section::layers; }
    TensorRef full;      ///< what kernels read
    TensorRef shard;     ///< what this rank owns (ZeRO 3: the parameter)
    TensorRef local;     ///< gradient as kernels write it, or their sum
    TensorRef leaf;      ///< gradient of one micro-batch, where it is held apart
    TensorRef gradient;  ///< summed over replicas (ZeRO >= 1: this rank's shard)
    TensorRef master, moment1, moment2;
    TensorRef host_gradient;  ///< its copy in host memory, where the optimizer works there
    TensorRef held;           ///< sums in host memory from which `gradient` there is cast
  };
  /// A weight, of one layer or outside them, and the rank that alone holds its optimizer's states.
  struct Owned {
    std::size_t stored = 0;   ///< index into stored_
    std::int64_t stage = 0;
    std::int64_t slot = 0;    ///< of the weight on its stage
    std::int64_t whole = 0;   ///< of the weight in the whole model
    std::int64_t owner = 0;   ///< member of the group that shares the states
    std::int64_t place = 0;   ///< slot of its states on the owner
  };
  /// Several weights, of the layers or outside them.
  using Some = std::vector<const Stored*>;
  void choose_shards();
  void choose_expert_shards();
  void store_all();
  void store_layers();
  void store_live();
  void store(const WeightShape& shape, Section section);
  void store_gradient(Stored& stored);
  void store_optimizer(Stored& stored);
  [[nodiscard]] TensorSpec full_spec(const Stored& stored) const;
  [[nodiscard]] TensorSpec shard_spec(const Stored& stored) const;
  [[nodiscard]] std::int64_t layers_of(LayerKind kind) const;
  void over_layers(const std::string& name, LayerOrder order,
                   const std::function<void(Index layer)>& body) const;
  // What layers of a pass that follow each other must have in common to share a loop: their run, its
  // being among the first ones, the run of the layer that is gathered meanwhile; where activations
  // come back from host memory, of what kind those of the next one are (mixture, among the first).
  struct PassPlace {
    std::size_t run = 0;
    bool below = false;
    std::optional<std::size_t> gathers = std::nullopt;
    std::optional<std::pair<bool, bool>> fetches = std::nullopt;
    bool alone = false;  ///< written out behind the loops
    bool operator==(const PassPlace&) const = default;
  };
  [[nodiscard]] std::vector<PassPlace> places_of_pass(LayerOrder order, std::int64_t split) const;
  void at_place(const PassPlace& place, LayerOrder order, Index layer, Index turn,
                const std::function<void(Index, Index, bool)>& body) const;
  [[nodiscard]] bool fetches_in(LayerOrder order) const;
  void enter_run(std::size_t run) const;
  void gather(const Some& stored, const std::string& label, Index layer, Index turn) const;
  void gather_outside(const Some& root, const std::string& label) const;
  void pass_over(const std::string& label, const std::vector<TensorRef>& tensors,
                 std::int64_t passes) const;
  [[nodiscard]] std::vector<TensorRef> pack_gradients(const Some& stored,
                                                      const std::vector<TensorRef>& local) const;
  void zero(const Some& stored, Index slot) const;
  [[nodiscard]] Some copy() const;
  [[nodiscard]] std::vector<std::vector<std::int64_t>> holders(const Stored& stored) const;
  void store_leaf(Stored& stored);
  void accumulate_some(const Some& stored, Index layer) const;
  void drop_some(const Some& stored, Index layer) const;
  void prepare_some(const Some& stored, Index layer, Index turn) const;
  void reduce_some(const Some& stored, Index layer, Index turn) const;
  void sum_copies() const;
  void on_stage(const Condition& where, const std::function<void()>& act) const;
  void at_bottom(const std::function<void(const Some&)>& act) const;
  void on_top(const std::function<void(const Some&)>& act) const;
  void over_stage_layers(const std::string& name, bool mixture,
                         const std::function<void(Index)>& body) const;
  // Owners of whole weights, in sim/schedule/owners.cpp.
  void deal_to_owners();
  void deal_stage(std::int64_t stage);
  void store_owned(Stored& stored, std::size_t index);
  void optimize_owned() const;
  void update_owned() const;
  void broadcast_owned() const;
  // Offload, in sim/schedule/offload.cpp.
  void store_on_host(Stored& stored);
  void zero_on_host(const Some& stored, Index layer) const;
  void sum_and_send(const Some& stored, const std::vector<TensorRef>& local, Index turn,
                    Index layer) const;
  void send(const Some& stored, const std::vector<TensorRef>& sums, Index layer) const;
  void send_and_wait(const Some& stored, const std::vector<TensorRef>& sums, Index layer) const;
  void scale_on_host(const std::vector<TensorRef>& gradients) const;
  [[nodiscard]] std::vector<TensorRef> cast_on_host(const Some& stored, Index slot) const;
  void optimize_on_host(const Some& stored, Index slot) const;
  [[nodiscard]] std::vector<TensorRef> gradients_on_host(const Some& stored, Index slot) const;
  [[nodiscard]] TensorRef updated_on_host(const Stored& stored, Index slot) const;
  void bring_back(const Some& stored, const std::vector<TensorRef>& updated, Index slot) const;
  [[nodiscard]] std::vector<TensorRef> fetch_shards(const Some& stored, Index layer) const;
  void sum_whole(GroupId group, const std::vector<TensorRef>& local) const;
  void sum_over_replicas(const Some& stored, Index local_slot, Index layer) const;
  void scatter_sums(GroupId group, const Some& stored, const std::vector<TensorRef>& local,
                    const std::vector<TensorRef>& sums) const;
  void sum_hybrid(GroupId group, const Some& stored, const std::vector<TensorRef>& local,
                  const std::vector<TensorRef>& gradients) const;
  void sum_norms_over_tensor(const Some& stored, Index slot) const;
  void reduce_now(Section section, Index layer, Index turn) const;
  void reduce_rest() const;
  void optimize_some(const Some& stored, Index slot) const;
  void gather_updated(const Some& stored, Index slot) const;
  [[nodiscard]] std::vector<TensorRef> hold_updated(const Some& stored) const;
  void share_updated(const Some& stored, const std::vector<TensorRef>& updated, Index slot) const;
  void copy_pieces(const std::vector<TensorRef>& gathered) const;
  [[nodiscard]] Weight weight(const Stored& stored, Index layer, Index turn) const;
  [[nodiscard]] Some some(Section section) const;
  [[nodiscard]] std::vector<TensorRef> refs(const Some& stored, TensorRef Stored::*which,
                                            Index slot) const;
  [[nodiscard]] std::vector<TensorRef> refs_of_layer(const Some& stored,
                                                     TensorRef Stored::*which, Index layer) const;
  [[nodiscard]] Index place_of_layer(const Stored& stored, Index layer) const;
  [[nodiscard]] std::optional<GroupId> shard_group() const;
  [[nodiscard]] GroupId groups_of_shards() const;
  /// True if full gradients are held for two layers in turn (ZeRO 2, 3).
  [[nodiscard]] bool two_turns() const {
    return stage_ >= 2 && ((shards_ > 1 && !stays_whole()) || host_gradients());
  }
  /// True if a pipeline's stages keep whole gradients until the last micro-batch, as they keep whole
  /// weights: FSDP under torch.distributed.pipelining, whose stages set requires_gradient_sync for
  /// the last backward pass alone.
  [[nodiscard]] bool stays_whole() const { return !stages_.one() && stage_ == 3 && !reshards_; }
  /// True if gradients leave for host memory layer by layer, where they are summed.
  [[nodiscard]] bool host_gradients() const {
    return host_optimizer_ && stage_ >= 2 && !scenario_.stack().late_gradient_offload;
  }
  /// True if the backward pass waits until they have left, as they do twice: in their own type, and
  /// the step's sums in fp32.
  [[nodiscard]] bool waits_for_sending() const {
    return host_gradients() && stage_ == 3 && stages_.one() &&
           scenario_.stack().blocking_gradient_offload;
  }
  /// True if the host takes its step pass after pass, and copies back behind them.
  [[nodiscard]] bool serial_on_host() const {
    return host_optimizer_ && scenario_.stack().serial_host_optimizer;
  }
  /// True if everyone's updated shards are gathered into full weights behind the optimizer.
  [[nodiscard]] bool gathers_behind() const {
    return shards_ > 1 && stage_ < 3 && !gathers_late();
  }
  /// True if parameters are held in fp32 and cast for each use.
  [[nodiscard]] bool casts() const {
    return gathers() && training_ && scenario_.precision.states == States::fp32;
  }
  /// True if the optimizer works on the parameters themselves.
  [[nodiscard]] bool updates_in_place() const {
    const bool same = casts() || (scenario_.precision.states == States::compute &&
                                  (stage_ == 3 || shards_ == 1));
    return same && (!host_optimizer_ || host_parameters_);
  }
  /// True if gradients are summed over replicas behind the step's last backward pass.
  [[nodiscard]] bool reduces_now(bool last, Summed which) const {
    return sums_every_time() ? which != Summed::once
                             : which != Summed::every_time && last && overlaps_;
  }
  [[nodiscard]] bool reduces_at_end() const { return !sums_every_time() && !overlaps_; }
  /// True if the backward pass stands still while ZeRO 2 sums a layer's gradients: not overlapped,
  /// DeepSpeed sums them on the stream that computes them.
  [[nodiscard]] bool holds_up_backward() const {
    return stage_ == 2 && shards_ > 1 && two_turns() && !overlaps_;
  }
  [[nodiscard]] bool decide_on_demand() const;
  [[nodiscard]] std::vector<TensorRef> cast_shards(
      const Some& stored, const std::vector<TensorRef>& shards) const;
  void hold_sums(const Some& stored, Index slot) const;
  /// True if kernels read weights that were gathered for them.
  [[nodiscard]] bool gathers() const { return stage_ == 3 && (shards_ > 1 || host_parameters_); }
  /// True if this pass gathers: backward finds what forward left where weights are not resharded.
  /// Layers of a run that are written out behind its loops.
  [[nodiscard]] std::int64_t written_out(LayerOrder order) const;
  [[nodiscard]] bool gathers_in(LayerOrder order) const {
    return gathers_any() && (reshards_ || order == LayerOrder::first_to_last);
  }
  /// The same of these weights or of the routed experts', whose states have owners of their own.
  [[nodiscard]] bool gathers_any() const {
    return gathers() || (experts_ && experts_->gathers());
  }
  [[nodiscard]] TensorSpec gathered_spec(const Stored& stored) const;
  /// True if what is gathered at a time is bounded by a number of elements, whatever the layers.
  [[nodiscard]] bool bounds_live() const {
    return gathers() && reshards_ && !routed_ && stages_.one() && !has_experts(scenario_.model) &&
           scenario_.stack().live_parameters > 0;
  }
  [[nodiscard]] bool is_smaller_kind(LayerKind kind) const;
  [[nodiscard]] Index gathered_slot(const Stored& stored, Index layer, Index turn) const;
  [[nodiscard]] std::vector<TensorRef> gathered_refs(const Some& stored, Index layer,
                                                     Index turn) const;
  /// True if updated weights are gathered at the beginning of the next step.
  [[nodiscard]] bool gathers_late() const { return shards_ > 1 && stage_ < 3 && late_gather_; }

  ProgramBuilder& build_;
  const Scenario& scenario_;
  Stages stages_;
  Shapes shapes_;
  bool training_;
  int stage_ = 0;
  std::int64_t shards_ = 1;       ///< ranks a state is cut over
  std::vector<Axis> shard_axes_;  ///< fastest first
  std::vector<Axis> other_axes_;  ///< further axes to sum gradients over
  bool reshards_ = true;          ///< gathered weights are dropped after forward (ZeRO 3)
  std::int64_t ahead_ = 1;        ///< layers gathered ahead (ZeRO 3)
  bool late_gather_ = false;      ///< of updated weights, behind the next forward (ZeRO 1, 2)
  bool overlaps_ = true;          ///< gradients are reduced behind the backward pass (ZeRO 0, 1)
  bool routed_ = false;           ///< these are the routed experts
  int cut_ = 0;                   ///< dimension along which states are cut
  std::unique_ptr<Parameters> experts_;  ///< the routed experts, in models that have them
  mutable LayersAtHand at_;              ///< the layers that are being emitted
  mutable bool copies_summed_ = false;   ///< of tied embeddings
  mutable bool last_ = false;            ///< so is the step's last micro-batch
  bool host_optimizer_ = false;   ///< the optimizer's states are in host memory
  bool host_parameters_ = false;  ///< so are the parameters (ZeRO 3)
  bool hybrid_ = false;           ///< several groups hold the same shards (Plan::zero_group)
  bool leaf_ = false;             ///< a micro-batch's gradients are held apart until it is over
  bool adds_at_once_ = false;     ///< or, of the sums' type, until they are added
  bool on_demand_ = false;        ///< gradients are held from backward to the optimizer only
  bool owners_ = false;           ///< states are dealt weight by weight (ZeRO 1)
  std::vector<Axis> owner_axes_;  ///< along which
  std::vector<Owned> owned_;      ///< stage by stage
  std::vector<Stored> stored_;
};

}  // namespace longhaul
