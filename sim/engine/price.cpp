#include "sim/engine/price.h"

#include <algorithm>
#include <cmath>

#include "sim/program/attention_calls.h"
#include "sim/units/check.h"

namespace longhaul {

namespace {

KernelType kernel_type(DataType type) {
  switch (type) {
    case DataType::fp8: return KernelType::fp8;
    case DataType::fp32: return KernelType::fp32;
    default: return KernelType::bf16;
  }
}

double elements_of(const Program& program, const TensorRef& ref) {
  const Tensor& tensor = program.tensor(ref.tensor);
  double elements = static_cast<double>(tensor.elements());
  if (ref.slice_dim) {
    const auto dim = static_cast<std::size_t>(*ref.slice_dim);
    // Exact: the whole divides by its dimension.
    elements = elements / static_cast<double>(tensor.shape[dim]) *
               static_cast<double>(ref.slice_length);
  }
  return elements;
}

// Elements of q, k, v, o that the call sees; backward also of their gradients.
double attention_operands(const AttentionShape& shape) {
  const auto channels = static_cast<double>(shape.head_dim + shape.value_dim);
  const double rows = static_cast<double>(shape.queries * shape.heads) +
                      static_cast<double>(shape.keys * shape.kv_heads);
  return static_cast<double>(shape.batch) * rows * channels * (shape.backward ? 2.0 : 1.0);
}

Cause cause_of_stream(Stream stream) {
  switch (stream) {
    case Stream::tensor: return Cause::tensor_parallel;
    case Stream::data: return Cause::data_parallel;
    case Stream::pipeline:
    case Stream::pipeline_back: return Cause::pipeline;
    case Stream::copy:
    case Stream::fetch:
    case Stream::processor: return Cause::offload;
    case Stream::expert: return Cause::expert_parallel;
    default: return Cause::other;
  }
}

}  // namespace

Cause cause_of(const Instruction& instruction) {
  // Between groups: of a ring's attention, or of the sum of gradients.
  const bool outer = instruction.stream == Stream::outer;
  if (is_collective(instruction.op) && outer && instruction.part == Part::gradient_reduction) {
    return Cause::data_parallel;
  }
  const bool message = instruction.op == Op::exchange;
  if ((is_collective(instruction.op) || message) &&
      (outer || instruction.stream == Stream::context)) {
    switch (instruction.op) {
      case Op::exchange:
      case Op::send_receive: return Cause::ring_exchange;
      case Op::all_to_all: return Cause::all_to_all;
      default: return Cause::all_gather;
    }
  }
  switch (instruction.op) {
    case Op::attend:
    case Op::attend_backward:
    case Op::merge_attention:
    case Op::score:
    case Op::softmax:
    case Op::softmax_backward:
    case Op::weigh:
    case Op::attention_delta: return Cause::attention;
    case Op::gemm:
    case Op::grouped_gemm: return Cause::gemm;
    case Op::loss:
    case Op::loss_statistics: return Cause::loss;
    case Op::adam: return Cause::optimizer;
    case Op::host:
      return instruction.not_before > Seconds() ? Cause::data_loading : Cause::host;
    default: break;
  }
  return instruction.stream == Stream::compute && !is_collective(instruction.op)
             ? Cause::memory_bound
             : cause_of_stream(instruction.stream);
}

Bytes bytes_of(const Program& program, const TensorRef& ref) {
  return element_size(program.tensor(ref.tensor).type) * elements_of(program, ref);
}

Bytes collective_bytes(const Program& program, const Instruction& instruction) {
  Bytes read;
  Bytes written;
  for (const TensorRef& ref : instruction.reads) {
    read += bytes_of(program, ref);
  }
  for (const TensorRef& ref : instruction.writes) {
    written += bytes_of(program, ref);
  }
  return std::max(read, written);
}

// A copy moves its operands as the GPU has them: the wider of the two types travels (a gradient is
// cast before it leaves, a weight before it comes back).
Bytes host_bytes(const Program& program, const Instruction& instruction) {
  if (instruction.op == Op::to_host || instruction.op == Op::from_host) {
    return collective_bytes(program, instruction);
  }
  Bytes bytes;
  for (const auto* refs : {&instruction.reads, &instruction.writes}) {
    for (const TensorRef& ref : *refs) {
      bytes += bytes_of(program, ref);
    }
  }
  return bytes * instruction.traffic;
}

Pricer::Pricer(const Program& program, const KernelCosts& kernels)
    : program_(program), kernels_(kernels) {}

const Price& Pricer::price(std::size_t place, std::int64_t query_owner,
                           std::optional<std::int64_t> key_owner) {
  const std::uint64_t key = static_cast<std::uint64_t>(place) << 40 |
                            static_cast<std::uint64_t>(query_owner) << 20 |
                            static_cast<std::uint64_t>(key_owner ? *key_owner + 1 : 0);
  const auto found = known_.find(key);
  if (found != known_.end()) {
    return found->second;
  }
  Price price = compute(program_.code[place], query_owner, key_owner);
  if (program_.code[place].op != Op::host) {
    price.time = price.time * program_.slowdown;
    if (!program_.code[place].fused) {
      price.time = std::max(price.time, program_.gap * program_.code[place].launches);
    }
    price.last_tiles = price.last_tiles * program_.slowdown;
  }
  return known_.emplace(key, price).first->second;
}

Price Pricer::compute(const Instruction& instruction, std::int64_t query_owner,
                      std::optional<std::int64_t> key_owner) {
  if (instruction.fused) {
    return {};
  }
  switch (instruction.op) {
    case Op::attend:
    case Op::attend_backward: return attention(instruction, query_owner, key_owner);
    case Op::merge_attention: return merge(instruction, query_owner, key_owner);
    case Op::gemm:
    case Op::grouped_gemm: return gemm(instruction);
    case Op::score:
    case Op::weigh: return head_products(instruction);
    case Op::host: return {instruction.host_time, 0.0, false, 0};
    default:
      return memory_bound(traffic(instruction) * instruction.traffic, instruction.launches);
  }
}

const KernelTime& Pricer::call_time(const AttentionShape& shape) {
  const auto found = known_calls_.find(shape);
  return found != known_calls_.end()
             ? found->second
             : known_calls_.emplace(shape, kernels_.attention(shape)).first->second;
}

Price Pricer::attention(const Instruction& instruction, std::int64_t query_owner,
                        std::optional<std::int64_t> key_owner) {
  const auto& q = program_.tensor(instruction.reads[0].tensor);
  const auto& k = program_.tensor(instruction.reads[1].tensor);
  check(q.shape.size() == 4 && k.shape.size() == 4, "attention works on [b, s, h, d]");
  Price total;
  double weighted = 0.0;
  const AttentionGeometry geometry = geometry_of(program_, instruction.block);
  for (const AttentionCall& call : attention_calls(geometry, query_owner, key_owner)) {
    AttentionShape shape;
    shape.batch = q.shape[0];
    shape.queries = call.queries;
    shape.keys = call.keys;
    shape.heads = q.shape[2];
    shape.kv_heads = k.shape[2];
    shape.head_dim = q.shape[3];
    shape.value_dim = program_.tensor(instruction.reads[2].tensor).shape[3];
    shape.band = call.band;
    shape.backward = instruction.op == Op::attend_backward;
    shape.type = kernel_type(q.type);
    shape.dropout = program_.attention.dropout;
    shape.block = program_.attention.ring > 1 && instruction.block && instruction.block->key_owner;
    const KernelTime& time = call_time(shape);
    total.time += time.time;
    weighted += time.time.value() * time.relative_spread;
    total.extrapolated = total.extrapolated || time.extrapolated;
    const auto scratch = static_cast<std::int64_t>(kernels_.attention_workspace(shape).value());
    total.workspace = std::max(total.workspace, scratch);
    total.time += copies_around(shape, instruction) + query_sum(shape, instruction);
    total.last_tiles = time.last_tiles;
  }
  total.relative_spread = total.time.value() > 0 ? weighted / total.time.value() : 0.0;
  return total;
}

// What the stack moves around a call beyond what the kernel does: copies of its operands.
Seconds Pricer::copies_around(const AttentionShape& shape, const Instruction& instruction) const {
  if (instruction.traffic <= 1.0) {
    return Seconds();
  }
  const Bytes operands = Bytes::of(element_size(program_.tensor(instruction.reads[0].tensor).type)
                                       .value() * attention_operands(shape));
  return memory_bound(operands * (instruction.traffic - 1.0), 1.0).time;
}

// Where kernels give dq in the type of q and its sum over blocks is wider: read it, then write the sum
// or add to it.
Seconds Pricer::query_sum(const AttentionShape& shape, const Instruction& instruction) const {
  if (!program_.separate_query_sums || !shape.backward) {
    return Seconds();
  }
  const double given = element_size(program_.tensor(instruction.reads[0].tensor).type).value();
  const double summed = element_size(program_.tensor(instruction.writes[0].tensor).type).value();
  if (summed <= given) {
    return Seconds();
  }
  const double elements = static_cast<double>(shape.batch * shape.queries * shape.heads) *
                          static_cast<double>(shape.head_dim);
  const double passes = instruction.accumulate ? 2.0 : 1.0;
  return memory_bound(Bytes::of(elements * (given + passes * summed)), 1.0).time;
}

// Rows of an odd number of elements begin at addresses that are no multiple of 4 bytes.
bool Pricer::has_odd_rows(const Instruction& instruction) const {
  const auto odd = [&](const TensorRef& ref) {
    return program_.tensor(ref.tensor).shape.back() % 2 != 0;
  };
  return odd(instruction.reads[0]) || odd(instruction.reads[1]) || odd(instruction.writes[0]);
}

// A reads m*k, B k*n, C m*n elements, whatever the shapes and transposes: k^2 = A*B/C.
Price Pricer::gemm(const Instruction& instruction) const {
  GemmShape shape;
  if (instruction.op == Op::grouped_gemm) {
    shape.count = program_.tensor(instruction.reads[0].tensor).shape[0];
  }
  const auto count = static_cast<double>(shape.count);
  const double a = elements_of(program_, instruction.reads[0]) / count;
  const double b = elements_of(program_, instruction.reads[1]) / count;
  const double c = elements_of(program_, instruction.writes[0]) / count;
  const double k = std::sqrt(a / c * b);
  shape.k = std::llround(k);
  shape.m = std::llround(a / k);
  shape.n = std::llround(b / k);
  check(static_cast<double>(shape.m) * static_cast<double>(shape.n) == c,
        "the operands of a gemm must be a matrix product");
  shape.type =
      kernel_type(instruction.full_precision ? program_.tensor(instruction.reads[0].tensor).type
                                             : program_.product_type);
  shape.odd_rows = !program_.pads_rows && has_odd_rows(instruction);
  shape.zeros = program_.unset_weights;
  const KernelTime time = kernels_.gemm(shape);
  Price price{time.time, time.relative_spread, time.extrapolated, 0};
  if (shape.type == KernelType::fp8) {
    price.time += memory_bound(cast_bytes(instruction, a, b), 1.0).time;
  }
  price.time += kernels_.gemm_sum(sum_bytes(instruction));
  if (instruction.op == Op::grouped_gemm) {
    price.time += program_.grouped_product * count;
  }
  return price;
}

// Measured products write 2 bytes an element once. An output of another size, or one that is added
// to, moves more: the weight gradients of a stack that sums them in fp32 8 bytes in all.
Bytes Pricer::sum_bytes(const Instruction& instruction) const {
  const Bytes output = bytes_of(program_, instruction.writes[0]);
  const Bytes measured = Bytes::of(2.0 * elements_of(program_, instruction.writes[0]));
  return output * (instruction.accumulate ? 2.0 : 1.0) - measured;
}

// A product for each sequence and head, as torch.matmul batches them: scores of s rows with n columns
// and d channels make [s, d] x [d, n], and [s, n] x [n, d] or its transpose back.
Price Pricer::head_products(const Instruction& instruction) const {
  const bool scores = instruction.op == Op::score;
  const TensorRef& square = scores ? instruction.writes[0] : instruction.reads[0];
  const Tensor& rows = program_.tensor(
      (scores || instruction.transpose_a ? instruction.reads[scores ? 0 : 1] : instruction.writes[0])
          .tensor);
  GemmShape shape;
  shape.count = rows.shape[0] * rows.shape[2];
  const std::int64_t s = rows.shape[1];
  const std::int64_t d = rows.shape[3];
  const auto n = static_cast<std::int64_t>(elements_of(program_, square)) / (shape.count * s);
  check(elements_of(program_, square) == static_cast<double>(shape.count * s * n),
        "scores belong to the rows of a product of heads");
  shape.m = scores || !instruction.transpose_a ? s : n;
  shape.n = scores ? n : d;
  shape.k = scores ? d : instruction.transpose_a ? s : n;
  shape.type = kernel_type(rows.type);
  const KernelTime time = kernels_.gemm(shape);
  return {time.time, time.relative_spread, time.extrapolated, 0};
}

// Transformer Engine's cast_transpose: an operand is read in bf16 (2 bytes per element) and written
// in fp8 twice, as it stands and transposed (1 and 1). Measured fp8 products include the cast of A;
// what they leave out is A's transpose, kept for the weight gradient, and in the forward product the
// weight. The weight gradient finds both of its operands ready.
Bytes Pricer::cast_bytes(const Instruction& instruction, double a, double b) const {
  if (instruction.transpose_a) {
    return Bytes();
  }
  return Bytes::of(instruction.transpose_b ? a : a + 4.0 * b * instruction.weight_casts);
}

// Only the rows that the block's calls cover are combined: read both, write one. A stack that slices
// its sums for that writes a slice of its own, which another kernel reads and writes to its place.
Price Pricer::merge(const Instruction& instruction, std::int64_t query_owner,
                    std::optional<std::int64_t> key_owner) const {
  std::int64_t rows = 0;
  bool sliced = false;
  const AttentionGeometry geometry = geometry_of(program_, instruction.block);
  for (const AttentionCall& call : attention_calls(geometry, query_owner, key_owner)) {
    rows = std::max(rows, call.queries);
    sliced = sliced || (call.band.upper && *call.band.upper < 0);  // striped: the first row is left out
  }
  if (rows == 0) {
    return {};
  }
  const std::int64_t all = program_.tensor(instruction.reads[0].tensor).shape[1];
  const double passes = program_.sliced_merges && (sliced || rows < all) ? 4.0 : 2.0;
  const double share = static_cast<double>(rows) / static_cast<double>(all);
  Bytes bytes;
  for (const TensorRef& ref : instruction.reads) {
    bytes += bytes_of(program_, ref);
  }
  for (const TensorRef& ref : instruction.writes) {
    bytes += passes * bytes_of(program_, ref);
  }
  return memory_bound(bytes * (share * instruction.traffic), instruction.launches);
}

Price Pricer::memory_bound(Bytes bytes, double launches) const {
  const int kernels = std::max(1, static_cast<int>(std::lround(launches)));
  const KernelTime time = kernels_.memory_bound({bytes, kernels});
  return {time.time, time.relative_spread, time.extrapolated, 0};
}

// Bytes a memory-bound kernel must move: everything read and written once; sums read what they
// add to. Embedding lookups touch only the rows of their tokens.
Bytes Pricer::traffic(const Instruction& instruction) const {
  if (instruction.op == Op::embed) {
    return 2.0 * bytes_of(program_, instruction.writes[0]);
  }
  if (instruction.op == Op::embed_backward) {
    const Bytes gradient = bytes_of(program_, instruction.reads[1]);
    const Tensor& table = program_.tensor(instruction.writes[0].tensor);
    const Tensor& incoming = program_.tensor(instruction.reads[1].tensor);
    return gradient + gradient * (2.0 * (element_size(table.type) / element_size(incoming.type)));
  }
  Bytes bytes;
  for (const TensorRef& ref : instruction.reads) {
    bytes += bytes_of(program_, ref);
  }
  for (const TensorRef& ref : instruction.writes) {
    bytes += (instruction.accumulate ? 2.0 : 1.0) * bytes_of(program_, ref);
  }
  return bytes;
}

}  // namespace longhaul
