#include "core/parallel.hpp"

#include <chrono>
#include <cstdint>
#include <exception>

#include "simd/vec.hpp"

#if defined(_OPENMP)
#include <omp.h>
#include <pthread.h>
#endif

namespace dlcore {

thread_settings& thread_settings::get() {
  static thread_settings settings;
  return settings;
}

thread_settings::thread_settings() {
#if defined(_OPENMP)
  pthread_atfork(nullptr, nullptr, [] { get().forked.store(true, std::memory_order_relaxed); });
#endif
}

bool has_openmp() {
#if defined(_OPENMP)
  return true;
#else
  return false;
#endif
}

#if defined(_OPENMP)
namespace {

// Opening a region costs some 2 to 5 us; below this estimate of the serial time it does not pay.
inline constexpr double serial_nanoseconds = 9e3;

// Whether the other cores are taken: the caller of a region had to wait for its end much longer
// than a chunk takes. One core is then as much as there is to have; every so often, and less often
// the longer it lasts, a region tries the others again.
class crowding {
 public:
  static crowding& get() {
    static crowding c;
    return c;
  }
  static std::int64_t now() {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  }
  bool stay_serial(std::int64_t now) const { return now < until_.load(std::memory_order_relaxed); }
  // A region from `begin` to `end`, in which the caller had no work from `idle` on. A chunk takes
  // about `chunk`.
  void learn(std::int64_t begin, std::int64_t idle, std::int64_t end, double chunk) {
    const std::int64_t waited = end - idle;
    if (double(waited) < 50e3 + 4 * chunk || waited < (idle - begin) / 4) {
      pause_.store(shortest, std::memory_order_relaxed);
      return;
    }
    const std::int64_t pause = pause_.load(std::memory_order_relaxed);
    until_.store(end + pause, std::memory_order_relaxed);
    pause_.store(std::min(2 * pause, longest), std::memory_order_relaxed);
  }

 private:
  static constexpr std::int64_t shortest = 1'000'000, longest = 16'000'000;
  std::atomic<std::int64_t> until_{0}, pause_{shortest};
};

// A thread's chunks, on a cache line of their own.
struct alignas(64) share {
  std::atomic<std::ptrdiff_t> next{0};
  std::ptrdiff_t end = 0;
};

// What was thrown first by the chunks of a region.
class first_exception {
 public:
  bool is_set() const { return set_.load(std::memory_order_relaxed); }
  // In a handler.
  void take() noexcept {
    if (!set_.exchange(true, std::memory_order_relaxed)) exception_ = std::current_exception();
  }
  // After the region.
  void rethrow() const {
    if (exception_) std::rethrow_exception(exception_);
  }

 private:
  std::atomic<bool> set_{false};
  std::exception_ptr exception_;
};

}  // namespace
#endif

void parallel_for(std::ptrdiff_t chunks, [[maybe_unused]] double nanoseconds,
                  function_ref<void(std::ptrdiff_t)> run,
                  [[maybe_unused]] function_ref<std::ptrdiff_t(int, int)> before) {
#if defined(_OPENMP)
  const thread_settings& settings = thread_settings::get();
  const int threads = settings.threads.load(std::memory_order_relaxed);
  crowding& crowd = crowding::get();
  std::int64_t begin;
  if (threads > 1 && chunks > 1 && nanoseconds > serial_nanoseconds && !omp_in_parallel() &&
      !settings.forked.load(std::memory_order_relaxed) &&
      !crowd.stay_serial(begin = crowding::now())) {
    std::int64_t idle = 0;
    std::vector<share> shares(threads);
    for (int t = 0; t < threads; ++t) {
      shares[t].next = before(t, threads);
      shares[t].end = before(t + 1, threads);
    }
    first_exception thrown;
#pragma omp parallel num_threads(threads)
    {
      const int mine = omp_get_thread_num();
      try {
        for (int t = 0; t < threads && !thrown.is_set(); ++t) {
          share& s = shares[(mine + t) % threads];
          for (std::ptrdiff_t i; (i = s.next.fetch_add(1, std::memory_order_relaxed)) < s.end;) {
            if (thrown.is_set()) break;
            run(i);
          }
        }
      } catch (...) {
        thrown.take();
      }
      stream_fence();
      if (mine == 0) idle = crowding::now();
    }
    thrown.rethrow();
    crowd.learn(begin, idle, crowding::now(), nanoseconds / double(chunks));
    return;
  }
#endif
  serial_for(chunks, nanoseconds, run);
  stream_fence();
}

void parallel_for(std::ptrdiff_t chunks, double nanoseconds,
                  function_ref<void(std::ptrdiff_t)> run) {
  parallel_for(chunks, nanoseconds, run, [&](int t, int threads) { return chunks * t / threads; });
}

void serial_for(std::ptrdiff_t chunks, double, function_ref<void(std::ptrdiff_t)> run) {
  for (std::ptrdiff_t i = 0; i < chunks; ++i) run(i);
}

}  // namespace dlcore
