#include "kernels/sparse_rows.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace dlcore {

template <class I>
row_order order_of_rows(const I* starts, std::ptrdiff_t rows, const I* columns, std::ptrdiff_t size,
                        std::ptrdiff_t width, std::ptrdiff_t& bad) {
  bool ascends = starts[0] >= 0 && starts[rows] <= size;
  for (std::ptrdiff_t r = 0; r < rows; ++r) ascends &= starts[r] <= starts[r + 1];
  if (!ascends) return row_order::bad_starts;
  bool sorted = true;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    std::ptrdiff_t before = -1;
    bool fits = true;
    for (std::ptrdiff_t i = starts[r]; i < starts[r + 1]; ++i) {
      const std::ptrdiff_t column = columns[i];
      fits &= std::size_t(column) < std::size_t(width);
      sorted &= column > before;
      before = column;
    }
    if (fits) continue;
    bad = *std::find_if(columns + starts[r], columns + starts[r + 1], [&](I column) {
      return std::size_t(std::ptrdiff_t(column)) >= std::size_t(width);
    });
    return row_order::bad_column;
  }
  return sorted ? row_order::ascending : row_order::other;
}

template <class T, class I>
std::ptrdiff_t sort_rows(const T* values, const I* columns, const I* starts, std::ptrdiff_t rows,
                         T* sorted_values, I* sorted_columns, I* sorted_starts) {
  std::vector<std::pair<I, I>> row;  // columns, each with the place of its value
  std::ptrdiff_t count = 0;
  sorted_starts[0] = 0;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    row.clear();
    for (I i = starts[r]; i < starts[r + 1]; ++i) row.emplace_back(columns[i], i);
    std::sort(row.begin(), row.end());  // values of one column stay in their order
    const std::ptrdiff_t first = count;
    for (const auto& [column, place] : row) {
      if (count > first && sorted_columns[count - 1] == column) {
        sorted_values[count - 1] += values[place];
        continue;
      }
      sorted_columns[count] = column;
      sorted_values[count++] = values[place];
    }
    sorted_starts[r + 1] = I(count);
  }
  return count;
}

#define DLCORE_INSTANTIATE(I)                                                                     \
  template row_order order_of_rows(const I*, std::ptrdiff_t, const I*, std::ptrdiff_t,            \
                                   std::ptrdiff_t, std::ptrdiff_t&);                              \
  template std::ptrdiff_t sort_rows(const float*, const I*, const I*, std::ptrdiff_t, float*, I*, \
                                    I*);                                                          \
  template std::ptrdiff_t sort_rows(const double*, const I*, const I*, std::ptrdiff_t, double*,   \
                                    I*, I*);
DLCORE_INSTANTIATE(std::int32_t)
DLCORE_INSTANTIATE(std::int64_t)
#undef DLCORE_INSTANTIATE

}  // namespace dlcore
