#include "core/startable_threads.hpp"

#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace dlcore {

namespace {

long own_id() {
#if defined(__linux__)
  return syscall(SYS_gettid);
#else
  return 0;
#endif
}

// A thread that was joined is counted until the system has put it away.
void wait_until_gone([[maybe_unused]] long id) {
#if defined(__linux__)
  while (syscall(SYS_tgkill, getpid(), id, 0) == 0) sched_yield();
#endif
}

}  // namespace

int startable_threads(int wanted) {
  std::mutex all_started;
  std::vector<long> ids(wanted);  // of a fixed size: threads write into it
  std::vector<std::thread> started;
  started.reserve(wanted);
  std::unique_lock<std::mutex> held(all_started);
  try {
    for (long& id : ids)
      started.emplace_back([&all_started, &id] {
        id = own_id();
        const std::lock_guard<std::mutex> waited(all_started);
      });
  } catch (const std::exception&) {  // there are no more of them
  }
  held.unlock();
  for (std::thread& thread : started) thread.join();
  for (std::size_t i = 0; i < started.size(); ++i) wait_until_gone(ids[i]);
  return int(started.size());
}

}  // namespace dlcore
