#include "tests/kernels/interleaver.h"

#include <thread>

namespace longhaul::kernels {

namespace {
thread_local int self_index = -1;
thread_local std::unique_lock<std::mutex>* self_lock = nullptr;
}  // namespace

void Interleaver::run(const std::vector<std::function<void()>>& bodies) {
  const int count = static_cast<int>(bodies.size());
  awake_ = std::vector<std::condition_variable>(bodies.size());
  ready_.assign(bodies.size(), [] { return true; });
  running_ = count;
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    for (int i = 0; i < count; ++i) {
      threads.emplace_back([this, i, &bodies] { start(i, bodies[i]); });
    }
    draw_next();
  }
  for (std::thread& thread : threads) thread.join();
  if (error_) std::rethrow_exception(error_);
}

void Interleaver::start(int self, const std::function<void()>& body) {
  std::unique_lock lock(mutex_);
  self_index = self;
  self_lock = &lock;
  try {
    wait_for_turn(self);
    body();
  } catch (const Stopped&) {
  } catch (...) {
    if (!error_) error_ = std::current_exception();
    stopped_ = true;
  }
  ready_[self] = nullptr;
  --running_;
  draw_next();
}

void Interleaver::pause(const std::function<bool()>& ready) {
  ready_[self_index] = ready;
  draw_next();
  wait_for_turn(self_index);
}

void Interleaver::wait_for_turn(int self) {
  awake_[self].wait(*self_lock, [&] { return stopped_ || current_ == self; });
  if (stopped_) throw Stopped{};
}

void Interleaver::draw_next() {
  std::vector<int> able;
  for (int i = 0; i < static_cast<int>(ready_.size()) && !stopped_; ++i) {
    if (ready_[i] && ready_[i]()) able.push_back(i);
  }
  if (!able.empty()) {
    current_ = able[draw(static_cast<int>(able.size()))];
    awake_[current_].notify_one();
    return;
  }
  if (running_ > 0 && !stopped_) {
    stopped_ = true;
    error_ = std::make_exception_ptr(Deadlock("all threads wait"));
  }
  for (std::condition_variable& waiting : awake_) waiting.notify_one();
}

}  // namespace longhaul::kernels
