#include <atomic>
#include <chrono>
#include <new>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/parallel.hpp"
#include "simd/vec.hpp"
#include "tests/check.hpp"

using namespace dlcore;

void test_parallel() {
  constexpr std::ptrdiff_t chunks = 100;
  constexpr double long_work = 1e9;  // enough for a region
  for (const int threads : {1, 2, 4}) {
    set_num_threads(threads);
    std::vector<std::atomic<int>> runs(chunks);
    parallel_for(chunks, long_work, [&](std::ptrdiff_t i) { ++runs[i]; });
    for (const auto& r : runs) CHECK(r == 1);

    // The exception that a chunk throws comes out, and the next region works.
    bool caught = false;
    try {
      parallel_for(chunks, long_work, [](std::ptrdiff_t i) {
        if (i % 10 == 7) throw std::bad_alloc();
      });
    } catch (const std::bad_alloc&) {
      caught = true;
    }
    CHECK(caught);
    std::atomic<int> count{0};
    parallel_for(chunks, long_work, [&](std::ptrdiff_t) { ++count; });
    CHECK(count == chunks);

    // All threads compute in the caller's modes, and go back to their own.
    std::atomic<int> flushing{0};
    const auto look = [&](std::ptrdiff_t) { flushing += flushes_subnormals(); };
    {
      const flush_subnormals flushed;
      parallel_for(chunks, long_work, look);
    }
    CHECK(flushing == (can_flush_subnormals ? chunks : 0));
    exchange_flushing(true);
    parallel_for(chunks, long_work, look);
    CHECK(exchange_flushing(false));
    CHECK(flushing == (can_flush_subnormals ? 2 * chunks : 0));
    parallel_for(chunks, long_work, look);
    CHECK(flushing == (can_flush_subnormals ? 2 * chunks : 0));

    // A watch that says no ends a long loop, and no other.
    const auto wait = [&](std::ptrdiff_t) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    };
    int asked = 0;
    const auto goes_on = [&] { return ++asked < 2; };
    {
      const watch watched(0, goes_on);
      parallel_for(chunks, long_work, wait);
    }
    CHECK(asked == 0);
    caught = false;
    try {
      const watch watched(long_work, goes_on);
      parallel_for(10 * chunks, long_work, wait);
    } catch (const interrupted&) {
      caught = true;
    }
    CHECK(caught && asked == 2);
    parallel_for(chunks, long_work, wait);
    CHECK(asked == 2);
  }
  set_num_threads(0);
}
