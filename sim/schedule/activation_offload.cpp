#include "sim/schedule/activation_offload.h"

#include <algorithm>

namespace longhaul {

// The code since begin() says it: what it allocates and does not release.
std::vector<TensorRef> ActivationOffload::held_since_begin(TensorId stays) const {
  std::vector<TensorRef> held;
  const auto same = [](const TensorRef& ref) {
    return [&ref](const TensorRef& other) { return other.tensor.index == ref.tensor.index; };
  };
  const std::vector<Instruction>& code = build_.program().code;
  for (std::size_t i = begin_; i < code.size(); ++i) {
    if (code[i].op == Op::allocate) {
      for (const TensorRef& ref : code[i].writes) {
        if (ref.tensor.index != stays.index) {
          held.push_back(ref);
        }
      }
    } else if (code[i].op == Op::release) {
      for (const TensorRef& ref : code[i].reads) {
        const auto found = std::find_if(held.begin(), held.end(), same(ref));
        if (found != held.end()) {
          held.erase(found);
        }
      }
    }
  }
  return held;
}

bool ActivationOffload::is_written(const TensorRef& ref) const {
  const std::vector<Instruction>& code = build_.program().code;
  for (std::size_t i = begin_; i < code.size(); ++i) {
    const auto writes = [&](const TensorRef& other) { return other.tensor.index == ref.tensor.index; };
    if (code[i].op != Op::allocate &&
        std::any_of(code[i].writes.begin(), code[i].writes.end(), writes)) {
      return true;
    }
  }
  return false;
}

TensorRef ActivationOffload::on_host(const TensorRef& ref, const Index& place) {
  TensorSpec spec = build_.spec_like(ref);
  spec.slots = layers_;
  spec.in_host_memory = true;
  const std::string name = build_.of(ref).name + "_on_host";  // a copy: new tensors move the list
  return build_.tensor(name, spec, place);
}

void ActivationOffload::send(SavedKind kind, TensorId stays, const Index& place) {
  const std::vector<TensorRef> held = held_since_begin(stays);
  sent(kind) = held;
  if (held.empty()) {
    return;
  }
  std::vector<TensorRef> hosts;
  for (const TensorRef& ref : held) {
    if (!is_written(ref)) {  // bytes that a stack holds and nobody reads
      build_.compute(Op::zero, "saved copy", {}, {ref}).fused = true;
    }
    hosts.push_back(on_host(ref, place));
    build_.allocate(hosts.back());
  }
  build_.host_work(Op::to_host, "send activations", held, hosts);
  for (const TensorRef& ref : held) {
    build_.release({ref});
  }
}

void ActivationOffload::fetch(SavedKind kind, const Index& slot, const Index& place) {
  if (sent(kind).empty()) {
    return;
  }
  std::vector<TensorRef> back, hosts;
  for (TensorRef ref : sent(kind)) {
    if (build_.of(ref).slots > 1) {
      ref.slot = slot;
    }
    hosts.push_back(on_host(ref, place));
    build_.allocate(ref);
    back.push_back(std::move(ref));
  }
  build_.host_work(Op::from_host, "fetch activations", hosts, back);
  for (const TensorRef& host : hosts) {
    build_.release({host});
  }
}

}  // namespace longhaul
