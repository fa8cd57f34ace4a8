#include "kernels/rmsnorm/launch.h"

#include <algorithm>
#include <type_traits>

#include "kernels/common/require.h"
#include "kernels/rmsnorm/kernel.cuh"

namespace longhaul::kernels {

namespace {

// How a launch cuts the work: rows of up to 1024 elements go to a warp each, longer ones to blocks.
struct RmsNormPlan {
  bool whole_block = false;
  unsigned threads = 128;
  int packs = 1;  ///< per thread: 1, 2 or 4

  int teams_per_block() const { return whole_block ? 1 : static_cast<int>(threads / 32); }
};

RmsNormPlan plan_rmsnorm(int width) {
  require(width > 0 && width % pack_size == 0, "rmsnorm: width not a multiple of 8");
  require(width <= rmsnorm_widest, "rmsnorm: rows too wide for the registers of a block");
  RmsNormPlan plan;
  plan.whole_block = width > 1024;
  if (plan.whole_block) plan.threads = width > 8192 ? 512 : 256;
  const int team = plan.whole_block ? static_cast<int>(plan.threads) : 32;
  const int packs = (width / pack_size + team - 1) / team;
  plan.packs = packs <= 1 ? 1 : packs <= 2 ? 2 : 4;
  return plan;
}

// Calls `use(packs, whole_block)` with the plan's values as compile-time constants.
template <class Use>
void with_rmsnorm_plan(const RmsNormPlan& plan, const Use& use) {
  const auto with_packs = [&](auto whole_block) {
    if (plan.packs == 1) return use(std::integral_constant<int, 1>(), whole_block);
    if (plan.packs == 2) return use(std::integral_constant<int, 2>(), whole_block);
    return use(std::integral_constant<int, 4>(), whole_block);
  };
  return plan.whole_block ? with_packs(std::true_type()) : with_packs(std::false_type());
}

}  // namespace

int rmsnorm_backward_teams(const RmsNormShape& shape, int sms) {
  const RmsNormPlan plan = plan_rmsnorm(shape.width);
  // As many as stay resident: the backward takes up to 64 registers a thread with one pack or two
  // and up to 128 with four (ptxas for sm_80 and sm_90a), of 65536 that a processor has.
  const std::int64_t blocks_per_sm = (plan.packs <= 2 ? 1024 : 512) / plan.threads;
  const std::int64_t teams = plan.teams_per_block();
  const std::int64_t blocks = (shape.rows + teams - 1) / teams;
  return static_cast<int>(std::clamp<std::int64_t>(blocks, 1, blocks_per_sm * sms) * teams);
}

void rmsnorm_forward(const RmsNormShape& shape, const Bfloat16* x, const Bfloat16* weight,
                     Bfloat16* y, float* reciprocal_root, Stream stream) {
  const RmsNormPlan plan = plan_rmsnorm(shape.width);
  const std::int64_t teams = plan.teams_per_block();
  const std::int64_t blocks = std::min<std::int64_t>((shape.rows + teams - 1) / teams, 1 << 30);
  with_rmsnorm_plan(plan, [&](auto packs, auto whole_block) {
    launch(Grid{static_cast<unsigned>(blocks), plan.threads, 0, stream},
           rmsnorm_forward_kernel<decltype(packs)::value, decltype(whole_block)::value>, shape, x,
           weight, y, reciprocal_root);
  });
}

void rmsnorm_backward(const RmsNormShape& shape, const Bfloat16* x, const Bfloat16* weight,
                      const float* reciprocal_root, const Bfloat16* dy, Bfloat16* dx,
                      float* dweight, float* partials, int sms, Stream stream) {
  const RmsNormPlan plan = plan_rmsnorm(shape.width);
  const int teams = rmsnorm_backward_teams(shape, sms);
  const auto blocks = static_cast<unsigned>(teams / plan.teams_per_block());
  with_rmsnorm_plan(plan, [&](auto packs, auto whole_block) {
    launch(Grid{blocks, plan.threads, 0, stream},
           rmsnorm_backward_kernel<decltype(packs)::value, decltype(whole_block)::value>, shape, x,
           weight, reciprocal_root, dy, dx, partials);
  });
  launch(Grid{static_cast<unsigned>((shape.width + 31) / 32), 256, 0, stream}, column_sums_kernel,
         teams, shape.width, static_cast<const float*>(partials), dweight);
}

}  // namespace longhaul::kernels
