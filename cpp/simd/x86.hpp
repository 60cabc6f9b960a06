// What all levels of x86-64 share.
#pragma once

#include <immintrin.h>

#include "simd/generic.hpp"

namespace dlcore {

template <class Set>
struct x86_operations : generic_operations<Set> {
  static void stream_fence() { _mm_sfence(); }

  // Flush to zero, denormals are zero.
  static constexpr unsigned flushing = 0x8040;
  static unsigned control_word() { return _mm_getcsr(); }
  static void set_control_word(unsigned word) { _mm_setcsr(word); }
};

}  // namespace dlcore
