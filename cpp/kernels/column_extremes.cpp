#include <limits>

#include "kernels/column_blocks.hpp"
#include "kernels/column_stats.hpp"

namespace dlcore {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

struct extremes {
  static constexpr std::ptrdiff_t block_rows = 1024;  // of any number they are exact
  using sums = column_extremes;

  static void merge(const extreme_fields& to, const extreme_fields& more, std::ptrdiff_t n) {
    for (std::ptrdiff_t c = 0; c < n; ++c) {
      to.least[c] = std::min(to.least[c], more.least[c]);
      to.largest[c] = std::max(to.largest[c], more.largest[c]);
    }
  }

  template <class T>
  static void take(const block_of_rows<T>& x, const extreme_fields& to) {
    vec<T> least[block_registers<T>], largest[block_registers<T>];
    const std::ptrdiff_t registers = ceil_div(x.columns, vec<T>::size);
    std::fill_n(least, registers, vec<T>(std::numeric_limits<T>::infinity()));
    std::fill_n(largest, registers, vec<T>(-std::numeric_limits<T>::infinity()));
    for (std::ptrdiff_t row = 0; row < x.rows; row += x.rows_at_once()) {
      const std::ptrdiff_t end = std::min(x.rows, row + x.rows_at_once());
      visit_registers<4>(x, [&](auto count, const auto& columns, std::ptrdiff_t k) {
        compare<count.value>(columns, row, end, least + k, largest + k);
      });
    }
    for (std::ptrdiff_t k = 0; k < registers; ++k)
      for (int part = 0; part < wide_parts<T>; ++part) {
        const extreme_fields at = to.from(k * vec<T>::size + part * vec<double>::size);
        store(at.least, widen(least[k], part));
        store(at.largest, widen(largest[k], part));
      }
  }

 private:
  // Of `Count` registers of columns, so many that one comparison need not wait for the last.
  template <int Count, class T, bool Whole>
  static void compare(const register_rows<T, Whole>& x, std::ptrdiff_t row, std::ptrdiff_t end,
                      vec<T>* least, vec<T>* largest) {
    vec<T> low[Count], high[Count];
    // One by one, since GCC keeps what is copied as a whole in memory.
    for (int k = 0; k < Count; ++k) low[k] = least[k], high[k] = largest[k];
    for (; row < end; ++row)
#pragma GCC unroll 4
      for (int k = 0; k < Count; ++k) {
        const auto own = x.right(k * vec<T>::size);
        own.prefetch_row(row);
        const vec<T> v = own.at(row);
        low[k] = min<T>(low[k], v);
        high[k] = max<T>(high[k], v);
      }
    for (int k = 0; k < Count; ++k) least[k] = low[k], largest[k] = high[k];
  }
};

}  // namespace

column_extremes::column_extremes(std::ptrdiff_t n) : columns(n), storage(n) {
  static_cast<extreme_fields&>(*this) = {storage.field[0], storage.field[1]};
  std::fill_n(least, n, infinity);
  std::fill_n(largest, n, -infinity);
}

template <class T>
column_extremes extremes_of_columns(const view& x, chunk_runner run) {
  return sum_columns<extremes, T>(x, 0.04, run);
}

template column_extremes extremes_of_columns<float>(const view&, chunk_runner);
template column_extremes extremes_of_columns<double>(const view&, chunk_runner);

}  // namespace dlcore
