// Parameters whose states live in host memory: gradients go there, the host's processor takes the
// optimizer's step, weights come back (ZeRO-Offload, arXiv 2101.06840); parameters that stay there
// are fetched for each use (ZeRO-Infinity, arXiv 2104.07857). docs/models/offload.md.
#include "sim/schedule/parameters.h"

#include <algorithm>

namespace longhaul {

// Below ZeRO 2 the gradients stay on the GPU until the optimizer's step; this is where they go then.
void Parameters::store_on_host(Stored& stored) {
  if (!host_optimizer_ || host_gradients()) {
    return;
  }
  TensorSpec spec = stage_ > 0 ? shard_spec(stored) : full_spec(stored);
  spec.type = scenario_.precision.gradients;
  spec.category = MemoryCategory::gradients;
  spec.in_host_memory = true;
  stored.host_gradient = build_.tensor("host_grad." + stored.shape.name, spec);
}

// The gradients of a step's only micro-batch are written, not added.
void Parameters::zero_on_host(const Some& stored, Index layer) const {
  if (!stored.empty() && scenario_.micro_batches() > 1) {
    TensorRef Stored::*sums = waits_for_sending() ? &Stored::held : &Stored::gradient;
    build_.host_work(Op::host_zero, "zero gradients", {}, refs_of_layer(stored, sums, layer));
  }
}

// ZeRO 2 and 3: a layer's gradients are summed over replicas and leave at once. Two layers' sums may
// be on their way.
void Parameters::sum_and_send(const Some& stored, const std::vector<TensorRef>& local, Index turn,
                              Index layer) const {
  std::vector<TensorRef> sums = local;
  if (shards_ > 1) {
    for (std::size_t i = 0; i < stored.size(); ++i) {
      TensorSpec spec = shard_spec(*stored[i]);
      spec.type = scenario_.precision.gradients;
      spec.category = MemoryCategory::gradients;
      spec.slots = 2;
      spec.persistent = false;
      sums[i] = build_.fresh("scattered_grad." + stored[i]->shape.name, spec, turn);
    }
    build_
        .collective(Op::reduce_scatter, Stream::data, *shard_group(), "sum and scatter gradients",
                    local, sums)
        .dim = cut_;
    if (hybrid_) {
      build_.collective(Op::all_reduce, Stream::outer, groups_of_shards(),
                        "sum gradients over zero groups", sums, sums);
    }
  }
  send(stored, sums, layer);
  if (shards_ > 1) {
    for (const TensorRef& sum : sums) {
      build_.release({sum});
    }
  }
}

void Parameters::send(const Some& stored, const std::vector<TensorRef>& sums, Index layer) const {
  if (waits_for_sending()) {
    send_and_wait(stored, sums, layer);
    return;
  }
  Instruction& sent = build_.host_work(Op::to_host, "send gradients", sums,
                                       refs_of_layer(stored, &Stored::gradient, layer));
  sent.accumulate = scenario_.micro_batches() > 1;
  sent.pageable = scenario_.offload_is_pageable();
}

// DeepSpeed's stage 3 (deepspeed/runtime/zero/stage3.py, partition_grads): the sums go into a buffer
// of their own type in host memory and come back from it, in a step's last micro-batch they leave
// once more in fp32; each of these copies holds up the host, which launches nothing meanwhile.
void Parameters::send_and_wait(const Some& stored, const std::vector<TensorRef>& sums,
                               Index layer) const {
  const std::vector<TensorRef> held = refs_of_layer(stored, &Stored::held, layer);
  const auto copy = [&](Op op, const char* label, const std::vector<TensorRef>& from,
                        const std::vector<TensorRef>& to) -> Instruction& {
    Instruction& made = build_.host_work(op, label, from, to);
    made.stream = Stream::copy;
    made.pageable = scenario_.offload_is_pageable();
    return made;
  };
  copy(Op::to_host, "send gradients", sums, held).accumulate = scenario_.micro_batches() > 1;
  copy(Op::from_host, "take sums back", held, sums);
  if (last_) {
    copy(Op::to_host, "send gradients in fp32", sums,
         refs_of_layer(stored, &Stored::gradient, layer));
  }
  build_.wait_for("wait for gradients to leave", Stream::copy);
}

std::vector<TensorRef> Parameters::gradients_on_host(const Some& stored, Index slot) const {
  const std::vector<TensorRef> gradients = refs_of_layer(stored, &Stored::gradient, slot);
  if (host_gradients()) {
    return gradients;
  }
  const std::vector<TensorRef> sent = refs_of_layer(stored, &Stored::host_gradient, slot);
  build_.host_work(Op::to_host, "send gradients", gradients, sent);
  return sent;
}

// Where the processor leaves a new weight: the parameter itself if it lives there, the master copy if
// it has the weight's type, else one of two buffers.
TensorRef Parameters::updated_on_host(const Stored& stored, Index slot) const {
  const Index place = place_of_layer(stored, slot);
  if (host_parameters_) {
    return build_.at(stored.shard, place);
  }
  if (build_.of(stored.master).type == build_.of(stored.shard).type) {
    return build_.at(stored.master, place);
  }
  TensorSpec spec = stage_ > 0 ? shard_spec(stored) : full_spec(stored);
  spec.slots = 2;
  spec.stage_slots = {};
  spec.persistent = false;
  spec.in_host_memory = true;
  Index turn = place;
  turn.modulus = 2;
  return build_.fresh("host_weight." + stored.shape.name, spec, turn);
}

// A pass over the gradients: loss scale and clipping.
void Parameters::scale_on_host(const std::vector<TensorRef>& gradients) const {
  build_.host_work(Op::host_copy, "scale gradients", gradients, gradients);
}

// New weights as they travel from a stack that works serially: stage 3's are cast in host memory
// first, into memory that is taken from the system for it, others' travel as masters.
std::vector<TensorRef> Parameters::cast_on_host(const Some& stored, Index slot) const {
  std::vector<TensorRef> masters = refs_of_layer(stored, &Stored::master, slot);
  if (stage_ < 3) {
    return masters;
  }
  std::vector<TensorRef> cast;
  for (const Stored* each : stored) {
    cast.push_back(updated_on_host(*each, slot));
  }
  const bool same = std::equal(masters.begin(), masters.end(), cast.begin(),
                               [](const TensorRef& master, const TensorRef& weight) {
                                 return master.tensor == weight.tensor;
                               });
  if (!same) {
    build_.host_work(Op::host_copy, "cast weights", masters, cast);
  }
  return cast;
}

// A layer's gradients are there, the processor updates weight after weight, and they come back; the
// three run beside each other for layers that follow each other, unless the stack works serially.
void Parameters::optimize_on_host(const Some& stored, Index slot) const {
  if (stored.empty()) {
    return;
  }
  const std::vector<TensorRef> gradients = gradients_on_host(stored, slot);
  const bool serial = serial_on_host();
  if (serial) {
    scale_on_host(gradients);
  }
  std::vector<TensorRef> updated;
  for (std::size_t i = 0; i < stored.size(); ++i) {
    const Stored& each = *stored[i];
    const auto here = [&](const TensorRef& ref) {
      return build_.at(ref, place_of_layer(each, slot));
    };
    std::vector<TensorRef> writes{here(each.master), here(each.moment1), here(each.moment2)};
    if (!serial) {
      updated.push_back(updated_on_host(each, slot));
      if (updated.back().tensor != each.master.tensor) {
        writes.push_back(updated.back());
      }
    }
    build_.host_work(
        Op::host_adam, "adam " + each.shape.name,
        {here(each.master), gradients[i], here(each.moment1), here(each.moment2)}, writes);
  }
  if (serial) {
    updated = cast_on_host(stored, slot);
  }
  if (!host_parameters_) {
    bring_back(stored, updated, slot);
  }
}

void Parameters::bring_back(const Some& stored, const std::vector<TensorRef>& updated,
                            Index slot) const {
  const std::vector<TensorRef> landing =
      gathers_behind() ? hold_updated(stored) : refs_of_layer(stored, &Stored::shard, slot);
  Instruction& back = build_.host_work(Op::from_host, "bring back weights", updated, landing);
  if (serial_on_host()) {
    back.stream = Stream::processor;
    back.pageable = stage_ == 3;
  }
  for (const TensorRef& ref : updated) {
    build_.release({ref});  // the buffers: other tensors are persistent
  }
  if (gathers_behind()) {
    share_updated(stored, landing, slot);
  }
}

// This rank's shards, for as long as they are gathered.
std::vector<TensorRef> Parameters::fetch_shards(const Some& stored, Index layer) const {
  std::vector<TensorRef> fetched;
  for (const Stored* each : stored) {
    TensorSpec spec = shard_spec(*each);
    spec.type = build_.of(each->shard).type;
    spec.category = MemoryCategory::communication;
    spec.slots = 1;
    spec.persistent = false;
    fetched.push_back(build_.fresh("fetched." + each->shape.name, spec));
  }
  build_.host_work(Op::from_host, "fetch weights", refs_of_layer(stored, &Stored::shard, layer),
                   fetched);
  return fetched;
}

}  // namespace longhaul
