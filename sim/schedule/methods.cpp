// The plain list of context methods. Adding one: a file with its core and a line here.
#include "sim/schedule/attention.h"

#include "sim/units/check.h"

namespace longhaul {

std::unique_ptr<AttentionCore> make_core(const ContextPlan& context, const Shapes& shapes) {
  if (context.ring == 1) {
    return make_local_attention(shapes);
  }
  if (context.variant == RingVariant::helpers) {
    return make_helper_attention(shapes);
  }
  if (context.variant == RingVariant::materialised) {
    return make_score_ring(shapes);
  }
  switch (context.method) {
    case ContextMethod::ring:
    case ContextMethod::double_ring:
    case ContextMethod::usp: return make_ring_attention(shapes, context);
    case ContextMethod::all_gather: return make_all_gather_attention(shapes, context.order);
    default: break;
  }
  check(false, "check_scenario refuses methods that have no schedule");
  return nullptr;
}

std::unique_ptr<AttentionCore> make_half_core(ContextPlan context, Shapes shapes) {
  shapes.tokens /= 2;
  if (context.order == SequenceOrder::zigzag) {
    context.order = SequenceOrder::contiguous;  // the first of a rank's two chunks
  }
  return make_core(context, shapes);
}

}  // namespace longhaul
