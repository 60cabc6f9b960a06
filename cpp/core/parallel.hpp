// The only place that opens OpenMP.
//
// Work is cut into chunks whose size does not depend on the number of threads, so results do not
// either. Each thread begins with its own share, the same one in every call, whose data its caches
// may still hold; a thread that is done claims chunks of the others, so that one whose core is
// taken by another process holds up a chunk, not its half of the work. A thread that does not get
// to run at all still holds up the end of the region: then the next ones go without it for a while.
//
// What is thrown in a region comes out of it. The threads compute in the modes of the caller:
// rounding, traps, subnormal numbers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dlcore {

inline std::ptrdiff_t ceil_div(std::ptrdiff_t a, std::ptrdiff_t b) { return (a + b - 1) / b; }

// The least size of a chunk, a multiple of `grain`, with which n elements make no more chunks than
// the largest size would: two equal chunks where that would leave a large one and a rest.
inline std::ptrdiff_t even_chunk(std::ptrdiff_t n, std::ptrdiff_t largest, std::ptrdiff_t grain) {
  const std::ptrdiff_t chunks = std::max<std::ptrdiff_t>(1, ceil_div(n, largest));
  return std::max(grain, ceil_div(ceil_div(n, chunks), grain) * grain);
}

bool has_openmp();

// ---- how many threads ---------------------------------------------------------------------------

// How many threads a region that this thread opens may have: its own number, else the one that was
// set for the process, else what this thread was told by omp_set_num_threads, as threadpoolctl
// does, else the default; at most OpenMP's limit, and 1 where no region can be opened.
int num_threads();
void set_default_num_threads(int n);
// For the process. 0: none.
void set_num_threads(int n);
int process_num_threads();
// For this thread. 0: none. Returns the number before.
int exchange_own_num_threads(int n);
// The processors that OpenMP found before it bound this thread to one of them, and its limit on
// threads; 0: not known, or none.
int num_processors();
int thread_limit();

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

// ---- modes of this thread -----------------------------------------------------------------------

// Whether regions take subnormal numbers for 0. Returns what was so before.
bool exchange_flushing(bool flush);

// What is thrown out of a region whose watch says no.
struct interrupted {};

// While it lives, the loops of this thread ask every tenth of a second whether they are to go on,
// if the whole takes long: about so many nanoseconds on one thread. For work that may end in the
// middle.
class watch {
 public:
  static bool takes_long(double nanoseconds) { return nanoseconds > 100e6; }

  watch(double nanoseconds, function_ref<bool()> goes_on);
  watch(const watch&) = delete;
  ~watch();
  void ask();

 private:
  function_ref<bool()> goes_on_;
  std::int64_t next_;
  unsigned control_word_;
  watch* before_;
};

// ---- loops --------------------------------------------------------------------------------------

// Calls run(i) for each i in [0, chunks), on several threads where the whole, which takes about
// `nanoseconds` on one, pays for them. Once a call has thrown, no further ones begin, and what it
// threw comes out. before(t, threads): how many chunks are the shares of the threads below t.
void parallel_for(std::ptrdiff_t chunks, double nanoseconds, function_ref<void(std::ptrdiff_t)> run,
                  function_ref<std::ptrdiff_t(int, int)> before);
// Equal shares.
void parallel_for(std::ptrdiff_t chunks, double nanoseconds,
                  function_ref<void(std::ptrdiff_t)> run);
// On the caller's thread.
void serial_for(std::ptrdiff_t chunks, double nanoseconds, function_ref<void(std::ptrdiff_t)> run);

// What kernels over whole arrays leave to the caller: parallel_for, or serial_for within a region.
using chunk_runner = void (*)(std::ptrdiff_t, double, function_ref<void(std::ptrdiff_t)>);

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
