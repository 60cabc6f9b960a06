#include "core/parallel.hpp"

#include <atomic>
#include <chrono>
#include <exception>
#include <limits>
#include <utility>

#include "core/startable_threads.hpp"
#include "simd/vec.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace dlcore {

namespace {

std::int64_t now() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

// What is known of a thread that opens regions.
struct region_opener {
  int threads = 0;              // of the regions, by its own setting
  bool flushes = false;         // subnormal numbers
  int workers = 0;              // that libgomp keeps for it, beside itself
  std::int64_t pool_begin = 0;  // when it got them
  std::int64_t retry = 0;       // before, no more can be had
  watch* watched_by = nullptr;
};
thread_local region_opener opener;

struct process_settings {
  std::atomic<int> threads{0}, by_default{1};
  int openmp_threads = 1;  // what OpenMP has where nobody sets another number
  // In the child of a fork whose pool of threads could not be given back before: libgomp does not
  // know that it is gone, and a region would hang (GCC bug 58378).
  std::atomic<bool> pool_is_lost{false};

  process_settings();
};
process_settings& settings() {
  static process_settings s;
  return s;
}

#if defined(_OPENMP)

// libgomp keeps a pool of threads for each thread that has opened a region. All together have at
// most a few times as many threads as a region; who comes too late has its regions for itself alone
// until another one, whose pool has lasted for a while, gives it back.
class pools {
 public:
  // How many threads the next region of this thread may have, up to `wanted`. Begins at `time`.
  static int reserve(int wanted, std::int64_t time) {
    region_opener& own = opener;
    const int more = wanted - 1 - own.workers;
    if (more <= 0) return wanted;
    if (time < own.retry) return own.workers + 1;
    thread_local end_of_thread counted;
    static_cast<void>(counted);
    // Taken before they are tried, since others do the same meanwhile.
    const int room = regions_kept * wanted - workers_.fetch_add(more, std::memory_order_relaxed);
    const int asked = std::clamp(room, 0, more);
    if (asked == 0) is_refused_.store(true, std::memory_order_relaxed);
    const int started = asked > 0 ? startable_threads(asked) : 0;
    if (started < asked) own.retry = time + retry_after;
    workers_.fetch_sub(more - started, std::memory_order_relaxed);
    own.workers += started;
    own.pool_begin = time;
    return own.workers + 1;
  }

  // After a region that had `threads` of the threads it asked for.
  static void end_region(int threads, int asked, std::int64_t time) {
    region_opener& own = opener;
    if (threads < asked) own.retry = time + retry_after;
    if (threads - 1 != own.workers) keep(threads - 1);
    if (is_refused_.load(std::memory_order_relaxed) && own.workers > 0 &&
        time - own.pool_begin > shortest_life &&
        is_refused_.exchange(false, std::memory_order_relaxed))
      give_back();
  }

  // False within a region.
  static bool give_back() {
    // LLVM's runtime has one pool for all, and makes another one in the child of a fork.
#if !defined(__clang__)
    if (omp_pause_resource_all(omp_pause_hard) != 0) return false;
#endif
    keep(0);
    return true;
  }

  // In the child of a fork.
  static void forget_others() {
    workers_.store(opener.workers, std::memory_order_relaxed);
    is_refused_.store(false, std::memory_order_relaxed);
  }

 private:
  static constexpr int regions_kept = 3;
  static constexpr std::int64_t shortest_life = 100'000'000, retry_after = 1'000'000'000;
  static inline std::atomic<int> workers_{0};
  static inline std::atomic<bool> is_refused_{false};

  static void keep(int workers) {
    workers_.fetch_add(workers - opener.workers, std::memory_order_relaxed);
    opener.workers = workers;
  }
  // libgomp ends the pool of a thread with the thread.
  struct end_of_thread {
    ~end_of_thread() { keep(0); }
  };
};

#endif

process_settings::process_settings() {
#if defined(_OPENMP)
  openmp_threads = omp_get_max_threads();
#if defined(__unix__) || defined(__APPLE__)  // Windows has no fork
  pthread_atfork([] { settings().pool_is_lost = !pools::give_back(); },
                 [] { settings().pool_is_lost = false; }, [] { pools::forget_others(); });
#endif
#endif
}

}  // namespace

bool has_openmp() {
#if defined(_OPENMP)
  return true;
#else
  return false;
#endif
}

int num_threads() {
#if defined(_OPENMP)
  const process_settings& all = settings();
  if (all.pool_is_lost.load(std::memory_order_relaxed)) return 1;
  int n = opener.threads;
  if (n == 0) n = all.threads.load(std::memory_order_relaxed);
  if (n == 0) {
    const int told = omp_get_max_threads();
    n = told == all.openmp_threads ? all.by_default.load(std::memory_order_relaxed) : told;
  }
  return std::min(n, omp_get_thread_limit());
#else
  return 1;
#endif
}

void set_default_num_threads(int n) { settings().by_default = n; }
void set_num_threads(int n) { settings().threads = n; }
int process_num_threads() { return settings().threads; }
int exchange_own_num_threads(int n) { return std::exchange(opener.threads, n); }

int num_processors() {
#if defined(_OPENMP)
  return omp_get_num_procs();
#else
  return 0;
#endif
}

int thread_limit() {
#if defined(_OPENMP)
  const int limit = omp_get_thread_limit();
  return limit < std::numeric_limits<int>::max() ? limit : 0;
#else
  return 0;
#endif
}

bool exchange_flushing(bool flush) { return std::exchange(opener.flushes, flush); }

namespace {
constexpr std::int64_t between_looks = 100'000'000;
}

watch::watch(double nanoseconds, function_ref<bool()> goes_on)
    : goes_on_(goes_on), next_(0), control_word_(0), before_(opener.watched_by) {
  if (!takes_long(nanoseconds)) return;
  next_ = now() + between_looks;
  control_word_ = control_word();
  opener.watched_by = this;
}

watch::~watch() { opener.watched_by = before_; }

void watch::ask() {
  if (now() < next_) return;
  const control_word_scope outside(control_word_);
  if (!goes_on_()) throw interrupted();
  next_ = now() + between_looks;
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
  bool stay_serial(std::int64_t now) const { return now < until_.load(std::memory_order_relaxed); }
  // A region from `begin` to `end`, in which the caller ran the part `ran` of the chunks and had no
  // work from `idle` on. A chunk takes about `chunk`.
  void learn(std::int64_t begin, std::int64_t idle, std::int64_t end, double ran, double chunk) {
    const double waited = end - idle, worked = idle - begin;
    if (waited < 50e3 + 4 * chunk || waited < worked / 4) {
      pause_.store(shortest, std::memory_order_relaxed);
      return;
    }
    // Of many cores one is late, and they are twice as fast as one all the same.
    if (2 * (worked + waited) * ran < worked) return;
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

// Runs the chunks in a region of several threads, of which `begin` is the time.
void region(int threads, std::ptrdiff_t chunks, double nanoseconds, std::int64_t begin,
            function_ref<void(std::ptrdiff_t)> run, function_ref<std::ptrdiff_t(int, int)> before) {
  std::vector<share> shares(threads);
  for (int t = 0; t < threads; ++t) {
    shares[t].next = before(t, threads);
    shares[t].end = before(t + 1, threads);
  }
  first_exception thrown;
  const unsigned modes = control_word();
  watch* const watched_by = opener.watched_by;
  std::int64_t idle = 0;
  std::ptrdiff_t ran = 0;  // by the caller
  int team = 1;
#pragma omp parallel num_threads(threads)
  {
    const int mine = omp_get_thread_num();
    const control_word_scope as_the_caller(modes);
    try {
      for (int t = 0; t < threads && !thrown.is_set(); ++t) {
        share& s = shares[(mine + t) % threads];
        for (std::ptrdiff_t i; (i = s.next.fetch_add(1, std::memory_order_relaxed)) < s.end;) {
          if (thrown.is_set()) break;
          run(i);
          if (mine != 0) continue;
          ++ran;
          if (watched_by) watched_by->ask();
        }
      }
    } catch (...) {
      thrown.take();
    }
    stream_fence();
    if (mine == 0) idle = now(), team = omp_get_num_threads();
  }
  const std::int64_t end = now();
  pools::end_region(team, threads, end);
  thrown.rethrow();
  crowding::get().learn(begin, idle, end, double(ran) / double(chunks),
                        nanoseconds / double(chunks));
}

}  // namespace
#endif

void parallel_for(std::ptrdiff_t chunks, double nanoseconds, function_ref<void(std::ptrdiff_t)> run,
                  [[maybe_unused]] function_ref<std::ptrdiff_t(int, int)> before) {
  if (opener.flushes && can_flush_subnormals && !flushes_subnormals()) {
    const flush_subnormals flushed;
    return parallel_for(chunks, nanoseconds, run, before);
  }
#if defined(_OPENMP)
  if (chunks > 1 && nanoseconds > serial_nanoseconds && !omp_in_parallel()) {
    std::int64_t begin;
    int threads = num_threads();
    if (threads > 1 && !crowding::get().stay_serial(begin = now())) {
      threads = pools::reserve(threads, begin);
      if (threads > 1) return region(threads, chunks, nanoseconds, begin, run, before);
    }
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
  watch* const watched_by = opener.watched_by;
  for (std::ptrdiff_t i = 0; i < chunks; ++i) {
    run(i);
    if (watched_by) watched_by->ask();
  }
}

}  // namespace dlcore
