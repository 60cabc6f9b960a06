// The only place that opens OpenMP.
//
// Work is cut into chunks whose size does not depend on the number of threads, so results do not
// either. Each thread begins with its own share, the same one in every call, whose data its caches
// may still hold; a thread that is done claims chunks of the others, so that one whose core is
// taken by another process holds up a chunk, not its half of the work. A thread that does not get
// to run at all still holds up the end of the region: then the next ones go without it for a while.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "simd/vec.hpp"

#if defined(_OPENMP)
#include <omp.h>
#include <pthread.h>
#endif

namespace dlcore {

inline std::ptrdiff_t ceil_div(std::ptrdiff_t a, std::ptrdiff_t b) { return (a + b - 1) / b; }

// The least size of a chunk, a multiple of `grain`, with which n elements make no more chunks than
// the largest size would: two equal chunks where that would leave a large one and a rest.
inline std::ptrdiff_t even_chunk(std::ptrdiff_t n, std::ptrdiff_t largest, std::ptrdiff_t grain) {
  const std::ptrdiff_t chunks = std::max<std::ptrdiff_t>(1, ceil_div(n, largest));
  return std::max(grain, ceil_div(ceil_div(n, chunks), grain) * grain);
}

struct thread_settings {
  std::atomic<int> threads{1};
  // After fork, libgomp's pool is gone but not known to be gone: a region would hang (GCC bug
  // 58378).
  std::atomic<bool> forked{false};

  static thread_settings& get() {
    static thread_settings settings;
    return settings;
  }

 private:
  thread_settings() {
#if defined(_OPENMP)
    pthread_atfork(nullptr, nullptr, [] { get().forked.store(true, std::memory_order_relaxed); });
#endif
  }
};

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

// A function that lives elsewhere, called by its address: what is around it is compiled once.
template <class Signature>
class function_ref;
template <class Result, class... Args>
class function_ref<Result(Args...)> {
 public:
  template <class F>
  function_ref(const F& f)
      : object_(&f), call_([](const void* object, Args... args) -> Result {
          return (*static_cast<const F*>(object))(args...);
        }) {}
  Result operator()(Args... args) const { return call_(object_, args...); }

 private:
  const void* object_;
  Result (*call_)(const void*, Args...);
};

// Calls run(i) for each i in [0, chunks), on several threads where the whole, which takes about
// `nanoseconds` on one, pays for them. `run` must not throw. before(t, threads): how many chunks
// are the shares of the threads below t.
inline void parallel_for(std::ptrdiff_t chunks, double nanoseconds,
                         function_ref<void(std::ptrdiff_t)> run,
                         function_ref<std::ptrdiff_t(int, int)> before) {
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
#pragma omp parallel num_threads(threads)
    {
      const int mine = omp_get_thread_num();
      for (int t = 0; t < threads; ++t) {
        share& s = shares[(mine + t) % threads];
        for (std::ptrdiff_t i; (i = s.next.fetch_add(1, std::memory_order_relaxed)) < s.end;)
          run(i);
      }
      stream_fence();
      if (mine == 0) idle = crowding::now();
    }
    crowd.learn(begin, idle, crowding::now(), nanoseconds / double(chunks));
    return;
  }
#else
  (void)nanoseconds, (void)before;
#endif
  for (std::ptrdiff_t i = 0; i < chunks; ++i) run(i);
  stream_fence();
}
// Equal shares.
inline void parallel_for(std::ptrdiff_t chunks, double nanoseconds,
                         function_ref<void(std::ptrdiff_t)> run) {
  parallel_for(chunks, nanoseconds, run, [&](int t, int threads) { return chunks * t / threads; });
}

// Shares of chunks that cost differently.
class dealt {
 public:
  std::ptrdiff_t count() const { return std::ptrdiff_t(before_.size()); }
  void add(double cost) {
    before_.push_back(total_);
    total_ += cost;
  }
  // The chunks before a share of the total.
  std::ptrdiff_t operator()(int t, int threads) const {
    if (t == threads) return count();
    const double share = total_ * t / threads;
    return std::lower_bound(before_.begin(), before_.end(), share) - before_.begin();
  }

 private:
  std::vector<double> before_;  // the costs of the chunks before each
  double total_ = 0;
};

// Adds neighbours, then neighbours of the sums, ...: the error grows with log n. Overwrites x.
inline double tree_sum(double* x, std::ptrdiff_t n) {
  if (n == 0) return 0;
  for (; n > 1; n = (n + 1) / 2) {
    for (std::ptrdiff_t i = 0; i < n / 2; ++i) x[i] = x[2 * i] + x[2 * i + 1];
    if (n % 2) x[n / 2] = x[n - 1];
  }
  return x[0];
}

}  // namespace dlcore
