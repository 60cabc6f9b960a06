// Memory that kernels use while they run.
#pragma once

#include <cstddef>
#include <memory>

#include "core/parallel.hpp"
#include "simd/vec.hpp"

namespace dlcore {

// Memory of this thread that stays for the next call: one for each Tag and element type.
template <class T, class Tag>
inline T* thread_buffer(std::ptrdiff_t n) {
  thread_local std::unique_ptr<vec<T>[]> memory;
  thread_local std::ptrdiff_t size = 0;
  if (n > size) {
    memory.reset();
    size = 0;
    memory.reset(new vec<T>[ceil_div(n, vec<T>::size)]);
    size = ceil_div(n, vec<T>::size) * vec<T>::size;
  }
  return reinterpret_cast<T*>(memory.get());
}

}  // namespace dlcore
