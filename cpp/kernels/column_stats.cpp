#include "kernels/column_stats.hpp"

#include <limits>

#include "kernels/column_blocks.hpp"

namespace dlcore {

namespace {

// What a block of rows of one register of columns adds up to; sums in double, in parts.
template <class T>
struct column_lanes {
  static constexpr int parts = wide_parts<T>;
  vec<double> count[parts], shift[parts], sum[parts], squares[parts];
  vec<T> least, largest;
};

// With the shift an element of the block, the variance loses at most a factor of block_rows ULP.
struct moments {
  static constexpr std::ptrdiff_t block_rows = 256;
  using sums = column_sums;

  // Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample
  // variances.
  static void merge(const column_fields& to, const column_fields& more, std::ptrdiff_t n) {
    using V = vec<double>;
    const V zero = 0.0, one = 1.0;
    for (std::ptrdiff_t i = 0; i < n; i += V::size) {
      const std::ptrdiff_t lanes = n - i;
      const auto get = [&](const double* p) {
        return lanes >= V::size ? load(p + i) : load_part(p + i, lanes);
      };
      const auto put = [&](double* p, V x) {
        if (lanes >= V::size) store(p + i, x);
        else store_part(p + i, x, lanes);
      };
      const V na = get(to.count), nb = get(more.count), n_both = na + nb;
      const mask<double> none = nb == zero, first = na == zero;
      const V shift = get(to.shift), offset = get(to.offset);
      const V other_shift = get(more.shift), other_offset = get(more.offset);
      const V share = nb / select<double>(n_both == zero, one, n_both);
      const V delta = (other_shift - shift) + (other_offset - offset);
      // Infinite values: the mean is what adding them gives, where delta would turn it into NaN.
      const mask<double> finite = delta - delta == zero;
      const auto choose = [&](V own, V merged, V other) {
        return select<double>(none, own, select<double>(first, other, merged));
      };
      const V squares = get(to.squares), other_squares = get(more.squares);
      const V least = get(to.least), other_least = get(more.least);
      const V largest = get(to.largest), other_largest = get(more.largest);
      put(to.count, n_both);
      put(to.shift, choose(shift, shift, other_shift));
      put(to.offset, choose(offset, offset + select<double>(finite, delta * share, other_offset),
                            other_offset));
      put(to.squares,
          choose(squares, squares + other_squares + delta * delta * (na * share), other_squares));
      put(to.least, choose(least, min<double>(least, other_least), other_least));
      put(to.largest, choose(largest, max<double>(largest, other_largest), other_largest));
    }
  }

  template <class T>
  static void take(const block_of_rows<T>& x, const column_fields& to) {
    constexpr int at_once = 2;  // as many as the accumulators find registers for
    column_lanes<T> lanes[block_registers<T>];
    visit_registers<1>(
        x, [&](auto, const auto& columns, std::ptrdiff_t k) { begin(columns, x.rows, lanes[k]); });
    // First as if there were no NaN, which shows in the sum.
    for (std::ptrdiff_t row = 0; row < x.rows; row += x.rows_at_once()) {
      const std::ptrdiff_t end = std::min(x.rows, row + x.rows_at_once());
      visit_registers<at_once>(x, [&](auto count, const auto& columns, std::ptrdiff_t k) {
        add<count.value>(columns, row, end, lanes + k);
      });
    }
    visit_registers<1>(x, [&](auto, const auto& columns, std::ptrdiff_t k) {
      if (has_nan(lanes[k])) add_numbers(columns, x.rows, lanes[k]);
      keep(lanes[k], to.from(k * vec<T>::size));
    });
  }

 private:
  // The shift: the first finite element of each column.
  template <class T, bool Whole>
  static void begin(const register_rows<T, Whole>& x, std::ptrdiff_t rows, column_lanes<T>& s) {
    constexpr T inf = std::numeric_limits<T>::infinity();
    const vec<T> zero = T(0);
    vec<T> shift = zero;
    mask<T> found = int_of<T>(0);
    for (std::ptrdiff_t r = 0; r < rows; ++r) {
      const vec<T> v = x.at(r);
      const mask<T> take = (v - v == zero) & ~found;
      shift = select<T>(take, v, shift);
      found = found | take;
      if (!any(~found)) break;
    }
    for (int part = 0; part < wide_parts<T>; ++part) {
      s.count[part] = double(rows), s.shift[part] = widen(shift, part);
      s.sum[part] = s.squares[part] = 0.0;
    }
    s.least = inf;
    s.largest = -inf;
  }

  // The distance from the shift is a multiply-add where there is one: it has the same bits, and of
  // the units that AMD's processors have for additions the conversions and the sums take enough
  // (0.82 of the time).
  static vec<double> distance(vec<double> x, vec<double> minus_shift) {
    const vec<double> one = 1.0;
    return has_fma ? fma<double>(x, one, minus_shift) : x + minus_shift;
  }

  template <int Count, class T, bool Whole>
  static void add(const register_rows<T, Whole>& x, std::ptrdiff_t row, std::ptrdiff_t end,
                  column_lanes<T>* s) {
    constexpr int parts = wide_parts<T>;
    // Apart, since GCC keeps what is copied as a whole in memory.
    vec<double> minus_shift[Count][parts], sum[Count][parts], squares[Count][parts];
    vec<T> least[Count], largest[Count];
    for (int k = 0; k < Count; ++k) {
      for (int part = 0; part < parts; ++part) {
        minus_shift[k][part] = -s[k].shift[part];
        sum[k][part] = s[k].sum[part];
        squares[k][part] = s[k].squares[part];
      }
      least[k] = s[k].least;
      largest[k] = s[k].largest;
    }
    for (; row < end; ++row)
#pragma GCC unroll 2
      for (int k = 0; k < Count; ++k) {
        const auto own = x.right(k * vec<T>::size);
        own.prefetch_row(row);
#pragma GCC unroll 2
        for (int part = 0; part < parts; ++part) {
          const vec<double> d = distance(own.wide(row, part), minus_shift[k][part]);
          sum[k][part] += d;
          squares[k][part] = fma<double>(d, d, squares[k][part]);
        }
        const vec<T> v = own.at(row);
        least[k] = min<T>(least[k], v);
        largest[k] = max<T>(largest[k], v);
      }
    for (int k = 0; k < Count; ++k) {
      for (int part = 0; part < parts; ++part) {
        s[k].sum[part] = sum[k][part];
        s[k].squares[part] = squares[k][part];
      }
      s[k].least = least[k];
      s[k].largest = largest[k];
    }
  }

  template <class T>
  static bool has_nan(const column_lanes<T>& s) {
    bool nan = false;
    for (int part = 0; part < wide_parts<T>; ++part) nan = nan || any(s.sum[part] != s.sum[part]);
    return nan;
  }

  // Again, without NaN.
  template <class T, bool Whole>
  static void add_numbers(const register_rows<T, Whole>& x, std::ptrdiff_t rows,
                          column_lanes<T>& s) {
    constexpr int parts = wide_parts<T>;
    const vec<double> zero = 0.0, one = 1.0;
    for (int part = 0; part < parts; ++part) s.count[part] = s.sum[part] = s.squares[part] = zero;
    for (std::ptrdiff_t r = 0; r < rows; ++r) {
      const vec<T> v = x.at(r);
      for (int part = 0; part < parts; ++part) {
        const vec<double> wide = widen(v, part), d = wide - s.shift[part];
        const mask<double> number = wide == wide;
        s.count[part] += select<double>(number, one, zero);
        s.sum[part] += select<double>(number, d, zero);
        s.squares[part] += select<double>(number, d * d, zero);
      }
    }
  }

  // The sums of one register of columns as statistics.
  template <class T>
  static void keep(const column_lanes<T>& s, const column_fields& to) {
    const vec<double> zero = 0.0, one = 1.0;
    for (int part = 0; part < wide_parts<T>; ++part) {
      const column_fields at = to.from(part * vec<double>::size);
      const vec<double> count = s.count[part], sum = s.sum[part];
      const vec<double> offset = sum / select<double>(count == zero, one, count);
      store(at.count, count);
      store(at.shift, s.shift[part]);
      store(at.offset, offset);
      // Not below 0 by rounding; NaN stays.
      store(at.squares, max<double>(s.squares[part] - sum * offset, zero));
      store(at.least, widen(s.least, part));
      store(at.largest, widen(s.largest, part));
    }
  }
};

}  // namespace

template <class T>
column_sums column_statistics(const view& x, chunk_runner run) {
  return sum_columns<moments, T>(x, 0.1, run);
}

template column_sums column_statistics<float>(const view&, chunk_runner);
template column_sums column_statistics<double>(const view&, chunk_runner);

}  // namespace dlcore
