// The plain list of context methods. Adding one: a file with its core and a line here.
#include "sim/schedule/attention.h"

#include "sim/input/diagnostic.h"

namespace longhaul {

std::unique_ptr<AttentionCore> make_core(const Scenario& scenario, const Shapes& shapes) {
  const ContextPlan& context = scenario.plan.context;
  if (context.ring == 1) {
    return make_local_attention(shapes);
  }
  switch (context.method) {
    case ContextMethod::ring:
    case ContextMethod::usp: return make_ring_attention(shapes);
    case ContextMethod::all_gather: return make_all_gather_attention(shapes, context.order);
    default: break;
  }
  Diagnostics diagnostics;
  diagnostics.error({}, "no-schedule-yet", "this context method has no schedule yet",
                    "choose ring, ulysses, usp or all_gather");
  throw InputError(diagnostics);
}

}  // namespace longhaul
