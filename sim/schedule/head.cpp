#include "sim/schedule/head.h"

namespace longhaul {

TensorRef ModelEnds::ids(ProgramBuilder& build, const std::string& name, Index slot) const {
  TensorSpec spec = block_.gathered_spec();
  spec.shape.pop_back();
  spec.shards.pop_back();
  spec.type = DataType::int64;
  spec.slots = micro_batches_of(scenario_);
  spec.persistent = true;
  spec.role = Role::input;
  const bool first = name == "tokens";
  spec.stage_slots = Stages(scenario_).on(first, !first, spec.slots);
  return build.tensor(name, spec, slot);
}

bool ModelEnds::holds_host() const {
  return scenario_.host_time(SoftwareNumber::host_micro_batch) > 0.0 ||
         scenario_.workload.sample_time > Seconds() || scenario_.stack().waits_for_batches;
}

// Without processes of its own for reading, the training loop fetches a batch when it wants one.
void ModelEnds::read_batch(ProgramBuilder& build) const {
  const double fetched =
      scenario_.loader_workers() == 0 ? scenario_.reading_time().value() : 0.0;
  build.host("training loop", scenario_.host_time(SoftwareNumber::host_micro_batch) + fetched,
             false);
  if (scenario_.stack().waits_for_batches) {
    build.host_waits("sizes of the batch read back");
  }
}

// Processes that read ahead deliver so many batches in the time of a step; where that is longer than
// the step, the next one waits for its first.
void ModelEnds::end_step(ProgramBuilder& build) const {
  build.host("end of step", scenario_.host_time(SoftwareNumber::host_step), true);
  const std::int64_t workers = scenario_.loader_workers();
  if (workers > 0) {
    const double batches = static_cast<double>(scenario_.micro_batches()) /
                           static_cast<double>(workers);
    build.host_until("batches from storage", scenario_.reading_time() * batches);
  }
}

TensorRef ModelEnds::outside(ProgramBuilder& build, const std::string& name, Role role,
                             Index slot) const {
  TensorSpec spec = block_.stream_spec();
  spec.slots = micro_batches_of(scenario_);
  spec.persistent = true;
  spec.view = true;
  spec.role = role;
  const bool first = name == "x" || name == "dx";
  spec.stage_slots = Stages(scenario_).on(first, !first, spec.slots);
  return build.tensor(name, spec, slot);
}

void ModelEnds::come_in(ProgramBuilder& build, const std::string& name, TensorRef stream,
                        Index slot) const {
  build
      .compute(Op::copy, "from outside: " + name, {outside(build, name, Role::input, slot)},
               {stream})
      .fused = true;
}

void ModelEnds::go_out(ProgramBuilder& build, const std::string& name, TensorRef stream,
                       Index slot) const {
  build
      .compute(Op::copy, "to outside: " + name, {stream},
               {outside(build, name, Role::output, slot)})
      .fused = true;
}

void ModelEnds::embed(ProgramBuilder& build, TensorRef tokens, TensorRef hidden) const {
  const Weight table = parameters_.root("embedding");
  const auto group = build.group("tensor", {Axis::tensor});
  if (!group) {
    build.compute(Op::embed, "embedding", {tokens, table.value}, {hidden});
    return;
  }
  // Each rank looks up the rows it has; the others' rows are zero in its part of the sum.
  if (!block_.sequence_parallel()) {
    build.compute(Op::embed, "embedding", {tokens, table.value}, {hidden});
    build.collective(Op::all_reduce, Stream::tensor, *group, "sum embedding", {hidden}, {hidden});
    return;
  }
  const TensorRef partial = build.fresh("embedding_output", block_.gathered_spec());
  build.compute(Op::embed, "embedding", {tokens, table.value}, {partial});
  build
      .collective(Op::reduce_scatter, Stream::tensor, *group, "sum and scatter embedding",
                  {partial}, {hidden})
      .dim = 1;
  build.release({partial});
}

void ModelEnds::embed_backward(ProgramBuilder& build, TensorRef tokens, TensorRef d) const {
  const TensorRef all = block_.gather_tokens(build, "d_embedding", d);
  build.compute(Op::embed_backward, "embedding backward", {tokens, all},
                {parameters_.root("embedding").gradient});
  block_.drop_gathered(build, all, d);
}

TensorSpec ModelEnds::logits_spec(DataType type) const {
  TensorSpec spec = block_.gathered_spec();
  const std::int64_t tensor = scenario_.plan.tensor;
  spec.shape[1] = chunk_tokens();
  const std::int64_t share = (scenario_.model.vocab + tensor - 1) / tensor;
  spec.shape[2] = whole_head() ? share * tensor : share;
  if (tensor > 1 && !whole_head()) {
    spec.shards[2] = {{Axis::tensor, SequenceOrder::contiguous}};
  }
  spec.type = type;
  spec.category = MemoryCategory::logits;
  return spec;
}

// Stacks that gather their logits leave every rank with those of the whole sequence: what an
// all-gather delivers piece by piece, and the tensor that puts the pieces in order.
void ModelEnds::show_whole(ProgramBuilder& build, TensorRef logits) const {
  const auto group = build.group("context ranks", {Axis::ulysses, Axis::ring});
  if (!scenario_.stack().gathers_logits || !group) {
    return;
  }
  TensorSpec spec = build.spec_like(logits, MemoryCategory::logits);
  spec.shape[1] *= group_size(build.program().mesh, build.program().group(*group));
  spec.shards[1].clear();
  const TensorRef gathered = build.fresh("logits_gathered", spec);
  build.collective(Op::all_gather, Stream::context, *group, "gather logits", {logits}, {gathered})
      .dim = 1;
  const TensorRef whole = build.fresh("logits_whole", spec);
  build.compute(Op::copy, "logits in order", {gathered}, {whole});
  build.release({whole, gathered});
}

// The same stacks do not split the head over tensor ranks: each multiplies all tokens with it all.
bool ModelEnds::whole_head() const {
  return scenario_.stack().gathers_logits && scenario_.plan.tensor > 1 &&
         scenario_.workload.phase != Phase::prefill;
}

TensorRef ModelEnds::head_to_use(ProgramBuilder& build) const {
  const TensorRef part = parameters_.root("head").value;
  if (!whole_head()) {
    return part;
  }
  const Tensor shard = build.of(part);  // a copy: new tensors move the list
  TensorSpec spec{shard.shape, {}, shard.type, MemoryCategory::parameters};
  spec.shape[0] *= scenario_.plan.tensor;
  const TensorRef head = build.fresh("head_whole", spec);
  build.collective(Op::all_gather, Stream::tensor, *build.group("tensor", {Axis::tensor}),
                   "gather head", {part}, {head});
  return head;
}

void ModelEnds::drop_head(ProgramBuilder& build, TensorRef head) const {
  if (whole_head()) {
    build.release({head});
  }
}

// Of a whole head every rank has the same gradient, over the number of ranks; the sum is scattered.
void ModelEnds::head_gradient(ProgramBuilder& build, TensorRef d_logits, TensorRef tokens,
                              bool accumulate) const {
  const TensorRef gradient = parameters_.root("head").gradient;
  if (scenario_.stack().fp32_head_pieces && scenario_.plan.loss_chunks > 1) {
    head_gradient_of_piece(build, d_logits, tokens, accumulate);
    return;
  }
  if (!whole_head()) {
    build.gemm("LM head wgrad", d_logits, tokens, gradient, true, false, accumulate)
        .full_precision = true;
    return;
  }
  const Tensor shard = build.of(gradient);  // a copy: new tensors move the list
  TensorSpec spec{shard.shape, {}, shard.type, MemoryCategory::gradients};
  spec.shape[0] *= scenario_.plan.tensor;
  const TensorRef whole = build.fresh("d_head_whole", spec);
  build.gemm("LM head wgrad", d_logits, tokens, whole, true, false).full_precision = true;
  Instruction& scatter =
      build.collective(Op::reduce_scatter, Stream::tensor, *build.group("tensor", {Axis::tensor}),
                       "scatter gradient of head", {whole}, {gradient});
  scatter.accumulate = accumulate;
  build.release({whole});
}

// Liger's: a product in the compute type, a copy of it in fp32, which is added to the sum.
void ModelEnds::head_gradient_of_piece(ProgramBuilder& build, TensorRef d_logits, TensorRef tokens,
                                       bool accumulate) const {
  const TensorRef gradient = parameters_.root("head").gradient;
  const Tensor like = build.of(gradient);  // a copy: new tensors move the list
  TensorSpec spec{like.shape, {}, block_.shapes().type, MemoryCategory::gradients};
  const TensorRef product = build.fresh("d_head_of_piece", spec);
  build.gemm("LM head wgrad", d_logits, tokens, product, true, false).full_precision = true;
  spec.type = DataType::fp32;
  const TensorRef wide = build.fresh("d_head_of_piece_fp32", spec);
  build.compute(Op::copy, "head gradient of a piece to fp32", {product}, {wide});
  build.release({product});
  if (accumulate) {
    build.compute(Op::add, "add head gradient of a piece", {gradient, wide}, {gradient});
  } else {
    build.compute(Op::copy, "head gradient of a piece", {wide}, {gradient});
  }
  build.release({wide});
}

void ModelEnds::logits_only(ProgramBuilder& build, TensorRef hidden) const {
  const TensorRef normed = build.fresh("normed_final", block_.stream_spec());
  build.compute(Op::norm, "final norm", {hidden, parameters_.root("norm_final").value}, {normed});
  TensorRef tokens = block_.gather_tokens(build, "normed_final", normed);
  const TensorRef gathered = tokens;
  TensorSpec spec = logits_spec(block_.shapes().type);
  if (scenario_.workload.phase == Phase::prefill) {
    spec.shape[1] = 1;
    spec.shards[1].clear();
    tokens = ProgramBuilder::slice(tokens, 1, Index::of(block_.shapes().tokens - 1), 1);
  }
  const TensorRef logits = build.fresh("logits", spec);
  const TensorRef head = head_to_use(build);
  build.gemm("LM head", tokens, head, logits, false, true).full_precision = true;
  drop_head(build, head);
  if (scenario_.workload.phase != Phase::prefill) {
    show_whole(build, logits);
  }
  block_.drop_gathered(build, gathered, normed);
  build.release({normed, logits});
}

TensorSpec ModelEnds::losses_spec() const {
  TensorSpec spec = block_.gathered_spec();
  spec.shape[1] = chunk_tokens();
  spec.shape.pop_back();
  spec.shards.pop_back();
  spec.type = DataType::fp32;
  spec.category = MemoryCategory::logits;
  return spec;
}

// Writes the gradient of the logits over them. Megatron-LM computes the loss on an fp32 copy, in
// place. Separate PyTorch operators hold three in fp32 in their backward pass: log-probabilities,
// their gradient and that of the logits; the logits themselves are gone by then. Others hold two:
// the copy, and the softmax beside it. Compiled (Megatron-LM's fused loss), what was in place is in a
// tensor of its own beside the copy.
TensorRef ModelEnds::loss(ProgramBuilder& build, TensorRef logits, TensorRef labels) const {
  std::optional<GroupId> group;
  if (!whole_head()) {
    group = build.group("tensor", {Axis::tensor});
  }
  const bool eager = scenario_.stack().eager_loss;
  const bool softmax = scenario_.stack().softmax_copy && !eager;
  const bool copies = scenario_.stack().fp32_logits || eager || softmax;
  const TensorSpec wide = logits_spec(DataType::fp32);
  TensorRef x = logits;
  if (copies) {
    x = build.fresh("logits_fp32", logits_spec(DataType::fp32));
    build.compute(Op::copy, "logits to fp32", {logits}, {x});
  }
  if (eager || softmax) {
    build.release({logits});
    build.fresh(eager ? "log_probabilities" : "softmax", wide);
  }
  if (eager) {
    build.fresh("d_log_probabilities", wide);
  }
  const bool compiled = scenario_.stack().compiled_loss && copies && !eager && !softmax;
  if (compiled) {
    build.fresh("exponentials", wide);
  }
  TensorSpec rows = block_.gathered_spec();
  rows.shape[1] = chunk_tokens();
  rows.shape.insert(rows.shape.begin(), 1);
  rows.shape[3] = 3;
  rows.shards.insert(rows.shards.begin(), std::vector<Shard>{});
  rows.type = DataType::fp32;
  rows.category = MemoryCategory::logits;
  const TensorRef own = build.fresh("loss_statistics", rows);
  TensorRef statistics = own;
  build.compute(Op::loss_statistics, "loss statistics", {x, labels}, {own});
  if (group) {
    rows.shape[0] = scenario_.plan.tensor;
    statistics = build.fresh("loss_statistics_gathered", rows);
    build.collective(Op::all_gather, Stream::tensor, *group, "gather loss statistics", {own},
                     {statistics});
  }
  const TensorRef per_token = build.fresh("loss", losses_spec());
  build.compute(Op::loss, "loss", {x, labels, statistics}, {per_token, x}).scale =
      1.0 / (static_cast<double>(scenario_.workload.global_batch) *
             static_cast<double>(scenario_.workload.sequence_length) *
             static_cast<double>(whole_head() ? scenario_.plan.tensor : 1));
  if (scenario_.stack().reads_loss) {
    build.host_waits("read loss back");
  }
  if (eager) {
    build.release({build.tensor("d_log_probabilities", wide)});
  }
  if (compiled) {
    build.release({build.tensor("exponentials", wide)});
  }
  if (eager || softmax) {
    build.release({build.tensor(eager ? "log_probabilities" : "softmax", wide)});
    build.allocate(logits);
  }
  if (copies) {
    build.compute(Op::copy, "logit gradients to compute type", {x}, {logits});
    build.release({x});
  }
  build.release({per_token, own});
  if (group) {
    build.release({statistics});
  }
  return logits;
}

// Head and loss of these tokens, and back: d (of the same shape) is written, the head's gradient
// written or added to. The logits exist only here.
void ModelEnds::loss_of_tokens(ProgramBuilder& build, TensorRef tokens, TensorRef labels,
                               TensorRef d, bool accumulate) const {
  build.part(Part::forward);
  const TensorRef head = head_to_use(build);
  const TensorRef logits = build.fresh("logits", logits_spec(block_.shapes().type));
  build.gemm("LM head", tokens, head, logits, false, true).full_precision = true;
  show_whole(build, logits);
  const TensorRef d_logits = loss(build, logits, labels);
  build.part(Part::backward);
  if (scenario_.plan.loss_chunks == 1) {
    build.allocate(d);
  }
  build.gemm("LM head dgrad", d_logits, head, d).full_precision = true;
  drop_head(build, head);
  head_gradient(build, d_logits, tokens, accumulate);
  build.release({logits});
}

TensorRef ModelEnds::loss_and_back(ProgramBuilder& build, TensorRef hidden,
                                   TensorRef labels, Index slot) const {
  const Weight norm = parameters_.root("norm_final");
  const TensorRef normed = build.fresh("normed_final", block_.stream_spec());
  build.compute(Op::norm, "final norm", {hidden, norm.value}, {normed});
  const TensorRef tokens = block_.gather_tokens(build, "normed_final", normed);
  const TensorRef partial = build.tensor("d_normed_final", block_.gathered_spec());
  const bool adds = !parameters_.fresh_gradients() || scenario_.model.tied_embeddings;
  const std::int64_t chunks = scenario_.plan.loss_chunks;
  if (chunks == 1) {
    loss_of_tokens(build, tokens, labels, partial, adds);
  } else {
    const auto chunk = [&](const TensorRef& whole, const Index& begin) {
      return ProgramBuilder::slice(whole, 1, begin, chunk_tokens());
    };
    build.allocate(partial);
    // The first piece may write the head's gradient, the others add to it.
    const Index none = Index::of(0);
    loss_of_tokens(build, chunk(tokens, none), chunk(labels, none), chunk(partial, none), adds);
    const LoopId loop = build.begin_loop("pieces of the loss", chunks - 1, true);
    const Index begin = Index::counter(loop, chunk_tokens(), chunk_tokens());
    loss_of_tokens(build, chunk(tokens, begin), chunk(labels, begin), chunk(partial, begin), true);
    build.end_loop(loop);
  }
  const TensorRef d_norm = block_.sum_over_tensor(build, "d_normed_final", partial);
  const TensorRef d = build.fresh("d_hidden", block_.stream_spec(), slot);
  build.compute(Op::norm_backward, "final norm backward", {hidden, norm.value, d_norm},
                {d, norm.gradient});
  block_.drop_gathered(build, tokens, normed);
  build.release({d_norm, normed});
  return d;
}

TensorRef ModelEnds::held_logits(ProgramBuilder& build, std::int64_t slots, Index slot) const {
  TensorSpec spec = logits_spec(block_.shapes().type);
  spec.slots = slots;
  return build.tensor("logits", spec, slot);
}

TensorRef ModelEnds::held_norm(ProgramBuilder& build, std::int64_t slots, Index slot) const {
  TensorSpec spec = block_.stream_spec();
  spec.slots = slots;
  return build.tensor("normed_final", spec, slot);
}

void ModelEnds::loss_and_input_gradient(ProgramBuilder& build, TensorRef hidden, TensorRef labels,
                                        TensorRef d, std::int64_t slots, Index slot) const {
  build.part(Part::forward);
  const Weight norm = parameters_.root("norm_final");
  const TensorRef normed = held_norm(build, slots, slot);
  build.allocate(normed);
  build.compute(Op::norm, "final norm", {hidden, norm.value}, {normed});
  const TensorRef tokens = block_.gather_tokens(build, "normed_final", normed);
  const TensorRef head = parameters_.root("head").value;
  const TensorRef logits = held_logits(build, slots, slot);
  build.allocate(logits);
  build.gemm("LM head", tokens, head, logits, false, true).full_precision = true;
  block_.drop_gathered(build, tokens, normed);
  const TensorRef d_logits = loss(build, logits, labels);
  build.part(Part::backward);
  const TensorRef partial = build.fresh("d_normed_final", block_.gathered_spec());
  build.gemm("LM head dgrad", d_logits, head, partial).full_precision = true;
  const TensorRef d_norm = block_.sum_over_tensor(build, "d_normed_final", partial);
  build.allocate(d);
  build.compute(Op::norm_backward, "final norm backward", {hidden, norm.value, d_norm},
                {d, norm.gradient});
  build.release({d_norm});
}

void ModelEnds::head_weight_gradient(ProgramBuilder& build, std::int64_t slots, Index slot) const {
  const TensorRef normed = held_norm(build, slots, slot);
  const TensorRef d_logits = held_logits(build, slots, slot);
  const TensorRef tokens = block_.gather_tokens(build, "normed_final", normed);
  build.gemm("LM head wgrad", d_logits, tokens, parameters_.root("head").gradient, true, false, true)
      .full_precision = true;
  block_.drop_gathered(build, tokens, normed);
  build.release({d_logits, normed});
}

}  // namespace longhaul
