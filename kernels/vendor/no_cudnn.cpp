// In place of cudnn_attention.cpp where the build found no cudnn.h.
#include "kernels/vendor/cudnn_attention.h"

namespace longhaul::kernels::vendor {

namespace {

[[noreturn]] void missing() { throw CudnnMissing("no cuDNN: built without cudnn.h"); }

}  // namespace

struct CudnnAttention::State {};
struct CudnnAttention::Call::State {};

std::string cudnn_version() { missing(); }

CudnnAttention::CudnnAttention(const flash::AttentionShape&) { missing(); }
CudnnAttention::~CudnnAttention() = default;
CudnnAttention::CudnnAttention(CudnnAttention&&) noexcept = default;
CudnnAttention& CudnnAttention::operator=(CudnnAttention&&) noexcept = default;

CudnnAttention::Call::~Call() = default;
CudnnAttention::Call::Call(Call&&) noexcept = default;
CudnnAttention::Call& CudnnAttention::Call::operator=(Call&&) noexcept = default;

CudnnAttention::Call CudnnAttention::on(const flash::ForwardTensors&) const { missing(); }
void CudnnAttention::Call::launch(cudaStream_t) const { missing(); }
std::int64_t CudnnAttention::workspace_bytes() const { missing(); }
std::int64_t CudnnAttention::engine() const { missing(); }

}  // namespace longhaul::kernels::vendor
