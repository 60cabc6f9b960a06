// Memory of our own for whole registers.
//
// Large arrays ask for pages of 2 MB: a product reads panels of many rows far apart, and the
// processor remembers where some 2000 pages lie. A step of 784-1024-1024-10 took 0.94 of the time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>

#include "core/parallel.hpp"
#include "simd/vec.hpp"

namespace dlcore {

// Aligned to a cache line at least; throws std::bad_alloc.
void* allocate_pages(std::size_t bytes);
void release_pages(void* memory, std::size_t bytes) noexcept;

// Room for `size` elements, rounded up to whole registers; their values are anything.
template <class T>
class register_array {
 public:
  register_array() = default;
  explicit register_array(std::ptrdiff_t size)
      : bytes_(std::size_t(ceil_div(size, vec<T>::size)) * sizeof(vec<T>)),
        memory_(static_cast<T*>(allocate_pages(bytes_)), {bytes_}) {}

  T* data() const { return memory_.get(); }
  void fill(T value) { std::fill_n(data(), bytes_ / sizeof(T), value); }
  explicit operator bool() const { return memory_ != nullptr; }

 private:
  struct release {
    std::size_t bytes = 0;
    void operator()(T* memory) const { release_pages(memory, bytes); }
  };
  std::size_t bytes_ = 0;
  std::unique_ptr<T, release> memory_;
};

}  // namespace dlcore
