// What all levels of x86-64 share.
#pragma once

#include <immintrin.h>

#include "simd/generic.hpp"

namespace dlcore {

template <class Set>
struct x86_operations : generic_operations<Set> {
  static void stream_fence() { _mm_sfence(); }

  static unsigned flush_subnormals() {
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
  }
  static void restore_subnormals(unsigned before) { _mm_setcsr(before); }
};

}  // namespace dlcore
