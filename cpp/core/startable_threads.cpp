#include "core/startable_threads.hpp"

#include <pthread.h>

#include <vector>

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace dlcore {

namespace {

struct trial {
  pthread_t thread;
  pthread_mutex_t* all_started;
  long id;
};

void* run_trial(void* argument) {
  trial& own = *static_cast<trial*>(argument);
#if defined(__linux__)
  own.id = syscall(SYS_gettid);
#endif
  pthread_mutex_lock(own.all_started);
  pthread_mutex_unlock(own.all_started);
  return nullptr;
}

// A thread that was joined is counted until the system has put it away.
void wait_until_gone([[maybe_unused]] long id) {
#if defined(__linux__)
  while (syscall(SYS_tgkill, getpid(), id, 0) == 0) sched_yield();
#endif
}

}  // namespace

int startable_threads(int wanted) {
  pthread_mutex_t all_started = PTHREAD_MUTEX_INITIALIZER;
  std::vector<trial> trials(wanted);  // of a fixed size: threads hold pointers into it
  int started = 0;
  pthread_mutex_lock(&all_started);
  for (trial& next : trials) {
    next.all_started = &all_started;
    if (pthread_create(&next.thread, nullptr, run_trial, &next) != 0) break;
    ++started;
  }
  pthread_mutex_unlock(&all_started);
  for (int i = 0; i < started; ++i) pthread_join(trials[i].thread, nullptr);
  for (int i = 0; i < started; ++i) wait_until_gone(trials[i].id);
  pthread_mutex_destroy(&all_started);
  return started;
}

}  // namespace dlcore
