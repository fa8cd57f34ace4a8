#include "kernels/vendor/cudnn_attention.h"

#include <utility>

#include "kernels/common/device_buffer.h"
#include "kernels/vendor/attention_plan.h"

namespace longhaul::kernels::vendor {

namespace {

class Handle {
 public:
  Handle() { check_cudnn(cudnn().create(&raw_), "opening a handle"); }
  ~Handle() { cudnn().destroy(raw_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  cudnnHandle_t raw() const { return raw_; }

 private:
  cudnnHandle_t raw_ = nullptr;
};

}  // namespace

std::string cudnn_version() {
  const std::size_t version = cudnn().version();  // 91900 is 9.19.0
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

struct CudnnAttention::State {
  explicit State(const flash::AttentionShape& shape)
      : plan(shape, handle.raw()), workspace(static_cast<std::size_t>(plan.workspace_bytes())) {}

  Handle handle;
  AttentionPlan plan;
  DeviceBuffer<char> workspace;
};

struct CudnnAttention::Call::State {
  const CudnnAttention::State& attention;
  Descriptor arguments;
};

CudnnAttention::CudnnAttention(const flash::AttentionShape& shape)
    : state_(std::make_unique<State>(shape)) {}
CudnnAttention::~CudnnAttention() = default;
CudnnAttention::CudnnAttention(CudnnAttention&&) noexcept = default;
CudnnAttention& CudnnAttention::operator=(CudnnAttention&&) noexcept = default;

CudnnAttention::Call::Call(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudnnAttention::Call::~Call() = default;
CudnnAttention::Call::Call(Call&&) noexcept = default;
CudnnAttention::Call& CudnnAttention::Call::operator=(Call&&) noexcept = default;

CudnnAttention::Call CudnnAttention::on(const flash::ForwardTensors& tensors) const {
  Descriptor arguments =
      packed_arguments(arguments_of(tensors, state_->plan.scalars()), state_->workspace.data());
  return Call(std::make_unique<Call::State>(Call::State{*state_, std::move(arguments)}));
}

void CudnnAttention::Call::launch(cudaStream_t stream) const {
  const CudnnAttention::State& attention = state_->attention;
  check_cudnn(cudnn().set_stream(attention.handle.raw(), stream), "setting the stream");
  check_cudnn(cudnn().execute(attention.handle.raw(), attention.plan.descriptor().raw(),
                              state_->arguments.raw()),
              "queueing attention");
}

std::int64_t CudnnAttention::workspace_bytes() const { return state_->plan.workspace_bytes(); }
std::int64_t CudnnAttention::engine() const { return state_->plan.engine(); }

}  // namespace longhaul::kernels::vendor
