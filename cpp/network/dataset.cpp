#include "network/dataset.hpp"

#include <algorithm>
#include <cstring>

namespace dlcore {

template <class T>
double matrix_rows<T>::gather(const std::int64_t* indices, std::ptrdiff_t n, rows_of<T> to) const {
  constexpr std::ptrdiff_t w = vec<T>::size;
  const auto row = [&](std::int64_t r) {
    return reinterpret_cast<const T*>(data + r * row_stride);
  };
  largest_of<T> largest;
  const bool has_room = to.step >= ceil_div(width, w) * w;  // for whole registers
  for (std::ptrdiff_t r = 0; r < n; ++r) {
    if (sparse) {
      std::fill_n(to.row(r), width, T(0));
      sparse->visit(reinterpret_cast<const T*>(data), indices[r], [&](const auto& own) {
        for (std::ptrdiff_t i = 0; i < own.size; ++i) to.row(r)[own.columns[i]] += own.values[i];
      });
      largest.take(to.row(r), width);
      continue;
    }
    if (column_stride != sizeof(T)) {
      const char* from = data + indices[r] * row_stride;
      for (std::ptrdiff_t c = 0; c < width; ++c)
        std::memcpy(to.row(r) + c, from + c * column_stride, sizeof(T));
      largest.take(to.row(r), width);
      continue;
    }
    // The processor cannot know where the row after the next ones is.
    const T* ahead = row(indices[std::min(r + 3, n - 1)]);
    prefetch(ahead, 0);
    prefetch(ahead + width - 1, 0);
    const T* from = row(indices[r]);
    std::ptrdiff_t c = 0;
    for (; c + w <= width; c += w) {
      const vec<T> x = load<T>(from + c);
      store<T>(to.row(r) + c, x);
      largest.take(x);
    }
    if (c < width) {
      const vec<T> x = load_part<T>(from + c, width - c);
      if (has_room) store<T>(to.row(r) + c, x);
      else store_part<T>(to.row(r) + c, x, width - c);
      largest.take(x);
    }
  }
  return largest.value();
}

template struct matrix_rows<float>;
template struct matrix_rows<double>;

}  // namespace dlcore
