// Native work that Ctrl-C ends.
#pragma once

#include <atomic>

#include "bindings/arrays.hpp"
#include "core/parallel.hpp"

namespace dlcore {

inline kind kind_of(bool is_double) { return is_double ? kind::float64 : kind::float32; }

// Runs f, which takes about so many nanoseconds, without the GIL. Where it takes long, a signal
// such as Ctrl-C ends it.
template <class F>
void interruptible(double nanoseconds, const F& f) {
  try {
    without_gil released;
    const auto is_quiet = [] { return PyErr_CheckSignals() == 0; };
    const auto goes_on = [&] { return released.with_gil(is_quiet); };
    const watch watched(nanoseconds, goes_on);
    f();
  } catch (const interrupted&) {
    throw py::error_already_set();
  }
}

// Takes an object that one call at a time may use, of which others are told.
class sole_use {
 public:
  sole_use(std::atomic<bool>& taken, const char* message) : taken_(taken) {
    if (taken.exchange(true)) throw std::runtime_error(message);
  }
  sole_use(const sole_use&) = delete;
  ~sole_use() { taken_ = false; }

 private:
  std::atomic<bool>& taken_;
};

}  // namespace dlcore
