// Arrays of any strides, read and written as runs of contiguous elements.
//
// Kernels see contiguous elements alone. Where an operand is not contiguous (or not aligned to its
// elements), a tile of it at a time is copied to a buffer on the stack and back, so that the result
// has the bits that a contiguous copy would give.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd/vec.hpp"

namespace dlcore {

inline constexpr int max_dims = 64;  // NumPy's own limit

struct view {
  char* data = nullptr;
  int ndim = 0;
  std::array<std::ptrdiff_t, max_dims> shape, strides;  // strides in bytes; entries < ndim are set

  view() = default;
  view(const view& v) { *this = v; }
  view& operator=(const view& v) {  // what is set alone: a small array's call takes no longer
    data = v.data;
    ndim = v.ndim;
    std::copy(v.shape.begin(), v.shape.begin() + ndim, shape.begin());
    std::copy(v.strides.begin(), v.strides.begin() + ndim, strides.begin());
    return *this;
  }

  std::ptrdiff_t size() const {
    std::ptrdiff_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= shape[d];
    return n;
  }
};

// Some views of one shape.
struct views_of_shape {
  view* first;
  std::size_t count;

  views_of_shape(view* first, std::size_t count) : first(first), count(count) {}
  template <std::size_t K>
  views_of_shape(std::array<view, K>& all) : first(all.data()), count(K) {}
  view& operator[](std::size_t k) const { return first[k]; }
  view* begin() const { return first; }
  view* end() const { return first + count; }
};

// Merges the dimensions that can be stepped over as one in all operands.
inline void collapse(views_of_shape operands) {
  view& first = operands[0];
  int last = 0;  // the dimensions below `last`, and `last` itself, are done
  int kept = 0;
  for (int d = 0; d < first.ndim; ++d) {
    if (first.shape[d] == 1) continue;
    bool merges = kept > 0;
    for (view& v : operands) merges = merges && v.strides[last] == v.strides[d] * v.shape[d];
    if (!merges) last = kept++;
    for (view& v : operands) {
      v.shape[last] = merges ? v.shape[last] * v.shape[d] : v.shape[d];
      v.strides[last] = v.strides[d];
    }
  }
  if (kept == 0) {
    kept = 1;
    for (view& v : operands) v.shape[0] = 1, v.strides[0] = 0;
  }
  for (view& v : operands) v.ndim = kept;
}

// Orders the dimensions of all operands by the strides of the last one, largest first, so that it
// is written from front to back. For kernels that treat each element by itself.
inline void order_by_last(views_of_shape operands) {
  const view& out = operands[operands.count - 1];
  for (int i = 1; i < out.ndim; ++i)
    for (int d = i; d > 0 && std::abs(out.strides[d - 1]) < std::abs(out.strides[d]); --d)
      for (view& v : operands) {
        std::swap(v.strides[d - 1], v.strides[d]);
        std::swap(v.shape[d - 1], v.shape[d]);
      }
}

// Calls visit(pointer to the first, byte stride, length) for each innermost run of the elements
// [begin, begin + n) in C order.
template <class F>
inline void for_each_run(const view& v, std::ptrdiff_t begin, std::ptrdiff_t n, const F& visit) {
  const int inner = v.ndim - 1;
  if (inner == 0) {  // without the divisions
    if (n > 0) visit(v.data + begin * v.strides[0], v.strides[0], n);
    return;
  }
  std::array<std::ptrdiff_t, max_dims> index;
  char* row = v.data;
  for (int d = inner; d >= 0; --d) {
    index[d] = begin % v.shape[d];
    begin /= v.shape[d];
    row += index[d] * v.strides[d];
  }
  while (n > 0) {
    const std::ptrdiff_t run = std::min(n, v.shape[inner] - index[inner]);
    visit(row, v.strides[inner], run);
    n -= run;
    row -= index[inner] * v.strides[inner];
    index[inner] = 0;
    for (int d = inner - 1; d >= 0; --d) {
      row += v.strides[d];
      if (++index[d] < v.shape[d]) break;
      row -= index[d] * v.strides[d];
      index[d] = 0;
    }
  }
}

template <class T>
inline void gather(const view& v, std::ptrdiff_t begin, std::ptrdiff_t n, T* to) {
  for_each_run(v, begin, n, [&](const char* p, std::ptrdiff_t stride, std::ptrdiff_t run) {
    if (stride == std::ptrdiff_t(sizeof(T))) {
      std::memcpy(to, p, run * sizeof(T));
    } else {
      for (std::ptrdiff_t i = 0; i < run; ++i) std::memcpy(to + i, p + i * stride, sizeof(T));
    }
    to += run;
  });
}

template <class T>
inline void scatter(const view& v, std::ptrdiff_t begin, std::ptrdiff_t n, const T* from) {
  for_each_run(v, begin, n, [&](char* p, std::ptrdiff_t stride, std::ptrdiff_t run) {
    if (stride == std::ptrdiff_t(sizeof(T))) {
      std::memcpy(p, from, run * sizeof(T));
    } else {
      for (std::ptrdiff_t i = 0; i < run; ++i) std::memcpy(p + i * stride, from + i, sizeof(T));
    }
    from += run;
  });
}

template <class T>
inline bool aligned(const char* p) {
  return reinterpret_cast<std::uintptr_t>(p) % sizeof(T) == 0;
}

// A collapsed view as elements in C order. It refers to the view, which must outlive it.
template <class T>
class sequence {
 public:
  sequence() = default;
  explicit sequence(T* contiguous) : data_(contiguous), contiguous_(true) {}
  // `stream`: written past the caches.
  explicit sequence(const view& v, bool stream = false)
      : view_(&v), data_(reinterpret_cast<T*>(v.data)), stream_(stream) {
    contiguous_ = aligned<T>(v.data);
    std::ptrdiff_t step = sizeof(T);
    for (int d = v.ndim - 1; d >= 0; step *= v.shape[d--])
      contiguous_ = contiguous_ && (v.shape[d] == 1 || v.strides[d] == step);
  }

  // Whether elements are read and written where they are.
  bool direct() const { return contiguous_ && !stream_; }

  // The elements [begin, begin + n): in place, or copied to the buffer.
  const T* read(std::ptrdiff_t begin, std::ptrdiff_t n, T* buffer) const {
    if (contiguous_) return data_ + begin;
    gather(*view_, begin, n, buffer);
    return buffer;
  }
  // Where to write these elements; `finish` brings them home.
  T* write(std::ptrdiff_t begin, T* buffer) const { return direct() ? data_ + begin : buffer; }
  void finish(std::ptrdiff_t begin, std::ptrdiff_t n, const T* buffer) const {
    if (direct()) return;
    if (contiguous_) copy_stream(data_ + begin, buffer, n);
    else scatter(*view_, begin, n, buffer);
  }

 private:
  const view* view_ = nullptr;
  T* data_ = nullptr;
  bool contiguous_ = false, stream_ = false;
};

// The output of a kernel with inputs of n elements: streamed where it is large, unless it is an
// input, which the caches hold then.
template <class T>
inline sequence<T> output_sequence(const view& out, views_of_shape inputs, std::ptrdiff_t n) {
  bool stream = worth_streaming(std::ptrdiff_t((inputs.count + 1) * sizeof(T)) * n);
  for (const view& in : inputs) stream = stream && in.data != out.data;
  return sequence<T>(out, stream);
}

}  // namespace dlcore
