#pragma once
// Threads that run one at a time, in an order drawn at random: for tests of barrier protocols.

#include <condition_variable>
#include <functional>
#include <mutex>
#include <random>
#include <stdexcept>
#include <vector>

namespace longhaul::kernels {

/// No thread can go on.
class Deadlock : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Runs bodies as threads of which only one is awake. At every pause() the next is drawn among
/// those whose condition holds; the same seed gives the same order.
class Interleaver {
 public:
  explicit Interleaver(unsigned seed) : random_(seed) {}

  /// Runs all bodies to their end. Throws Deadlock if all that have not ended wait in vain, or what
  /// a body threw.
  void run(const std::vector<std::function<void()>>& bodies);

  /// Called by a body: lets others run, and returns once `ready` holds and this thread is drawn.
  void pause(const std::function<bool()>& ready);
  void pause() {
    pause([] { return true; });
  }

  /// Called by a body: true with probability one half.
  bool coin() { return random_() % 2 == 0; }
  /// Called by a body: a number in [0, count).
  int draw(int count) { return static_cast<int>(random_() % static_cast<unsigned>(count)); }

  /// Bodies that have not ended.
  int running() const { return running_; }

 private:
  struct Stopped {};  // thrown into threads that will never be drawn again

  void start(int self, const std::function<void()>& body);
  void wait_for_turn(int self);
  void draw_next();

  std::mutex mutex_;
  std::vector<std::condition_variable> awake_;
  std::vector<std::function<bool()>> ready_;  // empty: ended
  std::mt19937 random_;
  std::exception_ptr error_;
  int current_ = -1;
  int running_ = 0;
  bool stopped_ = false;
};

}  // namespace longhaul::kernels
