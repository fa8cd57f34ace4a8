// Cross-entropy, whole and over a cut vocabulary.
#include "kernels/common/device.h"
#include "kernels/common/options.h"
#include "tests/kernels/cross_entropy_cases.h"
#include "tests/kernels/say.h"

namespace longhaul::kernels {
namespace {

bool check(const Device&, const Options& options) {
  bool ok = true;
  for (const auto& [rows, vocabulary] :
       {std::pair{1, 1}, {3, 17}, {1031, 50257}, {513, 128256}, {257, 262144}}) {
    const std::string size = std::to_string(rows) + " x " + std::to_string(vocabulary);
    for (const bool in_place : {false, true}) {
      ok = say("cross_entropy " + size,
               fused_cross_entropy_excess({rows, vocabulary, 1, in_place}, options.seed)) &&
           ok;
    }
    for (const int ranks : {2, 8}) {
      if (vocabulary < ranks * ranks) continue;
      ok = say("cross_entropy " + size + " over " + std::to_string(ranks),
               cut_cross_entropy_excess({rows, vocabulary, ranks}, options.seed)) &&
           ok;
    }
  }
  return ok;
}

}  // namespace
}  // namespace longhaul::kernels

int main(int argc, char** argv) {
  using namespace longhaul::kernels;
  return run_on_device(argc, argv, {8, 0}, check);
}
