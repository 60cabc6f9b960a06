#include <atomic>
#include <new>
#include <stdexcept>
#include <vector>

#include "core/parallel.hpp"
#include "tests/check.hpp"

using namespace dlcore;

void test_parallel() {
  constexpr std::ptrdiff_t chunks = 100;
  constexpr double long_work = 1e9;  // enough for a region
  for (const int threads : {1, 2, 4}) {
    thread_settings::get().threads = threads;
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
  }
  thread_settings::get().threads = 1;
}
