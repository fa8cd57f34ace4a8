#include "sim/reference/kernels.h"

namespace longhaul {

const Tensor& Call::read_tensor(std::size_t i) const {
  return program.tensor(instruction.reads[i].tensor);
}

const Tensor& Call::written_tensor(std::size_t i) const {
  return program.tensor(instruction.writes[i].tensor);
}

Accumulation accumulation(const Instruction& instruction, std::size_t write) {
  const bool flag = instruction.accumulate;
  switch (instruction.op) {
    case Op::add:
    case Op::gemm:
    case Op::grouped_gemm:
    case Op::weigh:
    case Op::to_host:
    case Op::all_reduce:
    case Op::reduce_scatter: return flag ? Accumulation::sum : Accumulation::none;
    case Op::norm_backward: return flag || write == 1 ? Accumulation::sum : Accumulation::none;
    case Op::attend_backward: return flag && write == 0 ? Accumulation::sum : Accumulation::none;
    case Op::embed_backward: return Accumulation::sum;
    case Op::attend:
    case Op::merge_attention: return flag ? Accumulation::combine : Accumulation::none;
    default: break;
  }
  if (flag) {
    throw ReferenceError("has no accumulating form");
  }
  return Accumulation::none;
}

void compute(Call& call) {
  switch (call.instruction.op) {
    case Op::zero:
    case Op::host_zero:
    case Op::host: return;  // writes hold zeros
    case Op::copy:
    case Op::to_host:
    case Op::from_host:
    case Op::host_copy: return compute_copies(call);
    case Op::add: return compute_add(call);
    case Op::gemm: return compute_gemm(call);
    case Op::grouped_gemm: return compute_grouped_gemm(call);
    case Op::norm: return compute_norm(call);
    case Op::norm_backward: return compute_norm_backward(call);
    case Op::rope: return compute_rope(call, false);
    case Op::rope_backward: return compute_rope(call, true);
    case Op::split_qkv: return compute_split_qkv(call);
    case Op::merge_qkv: return compute_merge_qkv(call);
    case Op::split_columns: return compute_split_columns(call);
    case Op::join_columns: return compute_join_columns(call);
    case Op::repeat_heads: return compute_repeat_heads(call);
    case Op::sum_heads: return compute_sum_heads(call);
    case Op::reorder: return compute_reorder(call);
    case Op::attend: return compute_attend(call);
    case Op::merge_attention: return compute_merge_attention(call);
    case Op::attention_delta: return compute_attention_delta(call);
    case Op::attend_backward: return compute_attend_backward(call);
    case Op::score: return compute_score(call);
    case Op::softmax: return compute_softmax(call);
    case Op::softmax_backward: return compute_softmax_backward(call);
    case Op::weigh: return compute_weigh(call);
    case Op::swiglu: return compute_swiglu(call);
    case Op::swiglu_backward: return compute_swiglu_backward(call);
    case Op::gelu: return compute_gelu(call);
    case Op::gelu_backward: return compute_gelu_backward(call);
    case Op::route: return compute_route(call);
    case Op::route_backward: return compute_route_backward(call);
    case Op::dispatch: return compute_dispatch(call);
    case Op::combine: return compute_combine(call);
    case Op::embed: return compute_embed(call);
    case Op::embed_backward: return compute_embed_backward(call);
    case Op::loss_statistics: return compute_loss_statistics(call);
    case Op::loss: return compute_loss(call);
    case Op::adam:
    case Op::host_adam: return compute_adam(call);
    default: throw ReferenceError("is no op of one rank");
  }
}

}  // namespace longhaul
