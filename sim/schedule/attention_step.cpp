// One layer's attention over the whole sequence: what kernel benchmarks of context parallelism run.
#include <algorithm>

#include "sim/schedule/attention.h"
#include "sim/schedule/steps.h"

namespace longhaul {

namespace {

TensorRef held(ProgramBuilder& build, const std::string& name, TensorSpec spec, Role role) {
  spec.persistent = true;
  spec.role = role;
  return build.tensor(name, spec);
}

// The host's time for the kernel's calls comes last, so that a step ends when both host and GPU are
// done: benchmarks repeat it, and the slower of the two sets their pace.
void call_kernels(ProgramBuilder& build, const Scenario& scenario) {
  const ContextPlan& context = scenario.plan.context;
  const bool in_steps = context.method != ContextMethod::all_gather;
  const auto calls = static_cast<double>(in_steps ? std::max<std::int64_t>(1, context.ring) : 1);
  const Pass pass = scenario.workload.pass;
  for (const AttentionCallHabit& habit : scenario.stack().attention_calls) {
    if (habit.kernel == scenario.attention_kernel) {
      const double forward = pass == Pass::backward ? 0.0 : habit.forward.value();
      const double backward = pass == Pass::forward ? 0.0 : habit.backward.value();
      build.host("calls of the attention kernel",
                 calls * (forward + backward) / scenario.host_speed, false);
    }
  }
}

}  // namespace

Program lower_attention_step(const Scenario& scenario) {
  ProgramBuilder build("attention");
  build.program().mesh = mesh_of(scenario);
  const Shapes shapes(scenario);
  const ContextAttention attention(scenario, shapes);
  build.program().attention = attention_geometry(scenario);
  const TensorSpec query = shapes.heads_spec(shapes.heads);
  const TensorSpec key = shapes.heads_spec(shapes.kv_heads);
  const TensorSpec output = shapes.heads_spec(shapes.heads, shapes.value_dim);
  const TensorSpec value = shapes.heads_spec(shapes.kv_heads, shapes.value_dim);
  const TensorRef q = held(build, "q", query, Role::input);
  const TensorRef k = held(build, "k", key, Role::input);
  const TensorRef v = held(build, "v", value, Role::input);
  const TensorRef o = held(build, "o", output, Role::output);
  const Pass pass = scenario.workload.pass;
  AttentionState state;
  if (pass == Pass::backward) {
    state = attention.given(build, q, k, v, o);
  } else {
    build.part(Part::forward);
    state = attention.forward(build, q, k, v, o, 1, Index::of(0), Index::of(0));
  }
  if (pass != Pass::forward) {
    build.part(Part::backward);
    const TensorRef d_o = held(build, "do", output, Role::input);
    attention.backward(build, state, d_o, held(build, "dq", query, Role::output),
                       held(build, "dk", key, Role::output), held(build, "dv", value, Role::output));
  }
  if (attention.is_chunked()) {
    if (pass == Pass::forward) {
      attention.release_chunks(build, state);
    }
    return build.finish();
  }
  attention.forget(build, state);
  if (attention.exchanges()) {
    build.release({state.q, state.k, state.v});
  }
  call_kernels(build, scenario);
  return build.finish();
}

}  // namespace longhaul
