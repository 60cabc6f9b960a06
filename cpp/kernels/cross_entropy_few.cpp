// A register of rows goes from its logits to its gradient at once, in code that knows the number of
// classes: no sweeps over a tile, no loops. On 8192 rows of 10 classes this takes a third of the
// time of the sweeps of cross_entropy.cpp, most of which went to turning rows into lanes.
#include "kernels/cross_entropy_few.hpp"

#include "kernels/elementwise.hpp"
#include "kernels/index_lanes.hpp"
#include "kernels/row_loss.hpp"
#include "simd/columns.hpp"
#include "simd/math.hpp"

namespace dlcore {

namespace {

constexpr std::ptrdiff_t fewest = 2, most = 16;

// Columns c to c + N of w rows: those of a whole piece, or all columns of a row that is shorter.
// The last columns of a row are those of a piece that ends with it.
template <class T, std::ptrdiff_t C, std::ptrdiff_t c = 0, class F>
inline void each_piece(const F& f) {
  constexpr std::ptrdiff_t size = piece_size<T>;
  if constexpr (c < C) {
    constexpr std::ptrdiff_t first = C < size ? 0 : c + size <= C ? c : C - size;
    f(std::integral_constant<std::ptrdiff_t, first>(),
      std::integral_constant<std::ptrdiff_t, (C < size ? C : size)>());
    each_piece<T, C, c + size>(f);
  }
}

// A block of rows, in registers of them.
template <class T>
struct few_rows {
  static constexpr std::ptrdiff_t w = vec<T>::size, most_rows = 64, most_groups = most_rows / w;

  int groups;
  const T* from;
  T* to;  // null: no gradient
  std::ptrdiff_t from_step, to_step;
  T scale;
  index_lanes<T> target[most_groups];
  vec<T> loss[most_groups];
};

// What the exponentials of a register of rows add up to: how many classes equal the largest, the
// sum of the others (see row_sums), and what stands at the label.
template <class T>
struct row_terms {
  vec<T> others = T(0), x_t = T(0), e_t = T(0);
  vec<int_of<T>> ties = int_of<T>(0);

  // Returns the exponential of class c.
  template <class F>
  vec<T> add(vec<T> x, std::ptrdiff_t c, vec<T> largest, vec<int_of<T>> label,
             const F& exponential) {
    const mask<T> is_label = label == vec<int_of<T>>(int_of<T>(c)), is_largest = x == largest;
    const vec<T> e = exponential(x - largest);
    x_t = select<T>(is_label, x, x_t);
    e_t = select<T>(is_label, e, e_t);
    others += select<T>(is_largest, vec<T>(T(0)), e);
    ties -= is_largest;
    return e;
  }
};

// The terms where some exponentials are subnormal, seldom, so once for all numbers of classes. The
// logits become their exponentials.
template <class T>
__attribute__((noinline)) row_terms<T> subnormal_terms(vec<T>* x, std::ptrdiff_t classes,
                                                       vec<T> largest, vec<int_of<T>> label) {
  row_terms<T> terms;
  for (std::ptrdiff_t c = 0; c < classes; ++c)
    x[c] = terms.add(x[c], c, largest, label, exp_negative<T>);
  return terms;
}

// In stages, each over the whole block: the sum of a row and its logarithm wait for one another,
// and those of other rows fill the gaps.
template <class T, std::ptrdiff_t C>
void compute(few_rows<T>& rows) {
  constexpr T inf = std::numeric_limits<T>::infinity();
  constexpr int most = few_rows<T>::most_groups;
  constexpr std::ptrdiff_t w = vec<T>::size;
  const vec<T> zero = T(0);
  vec<T> exponentials[most][C], largest[most], others[most], ties[most], x_t[most], e_t[most];
  for (int g = 0; g < rows.groups; ++g) {
    vec<T> x[C];
    each_piece<T, C>([&](auto first, auto n) {
      vec<T> columns[piece_size<T>];
      load_columns<T, n>(rows.from + g * w * rows.from_step + first, rows.from_step, columns);
      for (std::ptrdiff_t k = 0; k < n; ++k) x[first + k] = columns[k];
    });
    vec<T> highest = -inf, lowest = x[0];
#pragma GCC unroll 16
    for (std::ptrdiff_t c = 0; c < C; ++c) {
      highest = max<T>(highest, x[c]);
      lowest = min<T>(lowest, x[c]);
    }
    row_terms<T> terms;
    if (all_at_least<T>(lowest - highest, float_traits<T>::exp_normal_min)) {
#pragma GCC unroll 16
      for (std::ptrdiff_t c = 0; c < C; ++c)
        exponentials[g][c] = terms.add(x[c], c, highest, rows.target[g].lanes, exp_normal<T>);
    } else {
#pragma GCC unroll 16
      for (std::ptrdiff_t c = 0; c < C; ++c) exponentials[g][c] = x[c];
      terms = subnormal_terms<T>(exponentials[g], C, highest, rows.target[g].lanes);
    }
    others[g] = terms.others + (highest - highest);  // no softmax where it is infinite: NaN
    ties[g] = floating<T>(terms.ties);
    largest[g] = highest, x_t[g] = terms.x_t, e_t[g] = terms.e_t;
  }
  for (int g = 0; g < rows.groups; ++g) {
    const vec<T> log = log1p<T>((ties[g] - vec<T>(T(1))) + others[g]);
    rows.loss[g] = select<T>(rows.target[g].ignored, zero, log + (largest[g] - x_t[g]));
  }
  if (!rows.to) return;
  for (int g = 0; g < rows.groups; ++g) {
    const mask<T> ignored = rows.target[g].ignored;
    const vec<int_of<T>> label = rows.target[g].lanes;
    const vec<T> own = select<T>(ignored, zero, vec<T>(rows.scale));
    const vec<T> inverse = vec<T>(T(1)) / (ties[g] + others[g]), factor = inverse * own;
    const vec<T> at_label =
        select<T>(ignored, zero, own * (((e_t[g] - ties[g]) - others[g]) * inverse));
    vec<T> dx[C];
#pragma GCC unroll 16
    for (std::ptrdiff_t c = 0; c < C; ++c) {
      const mask<T> is_label = label == vec<int_of<T>>(int_of<T>(c));
      const vec<T> slope = select<T>(ignored, zero, exponentials[g][c] * factor);
      dx[c] = select<T>(is_label, at_label, slope);
    }
    each_piece<T, C>([&](auto first, auto n) {
      vec<T> columns[piece_size<T>];
      for (std::ptrdiff_t k = 0; k < piece_size<T>; ++k) columns[k] = dx[first + (k < n ? k : 0)];
      store_columns<T, n>(rows.to + g * w * rows.to_step + first, rows.to_step, columns);
    });
  }
}

template <class T>
using computation = void (*)(few_rows<T>&);

template <class T, std::size_t... C>
constexpr std::array<computation<T>, sizeof...(C)> computations(std::index_sequence<C...>) {
  return {compute<T, std::ptrdiff_t(C) + fewest>...};
}

// Rows that are runs of elements, evenly apart.
template <class T>
struct run_rows {
  T* first = nullptr;
  std::ptrdiff_t step = 0;  // elements

  run_rows(const row_view& v) {
    if (!v.rows.data) return;
    first = reinterpret_cast<T*>(v.rows.data);
    step = v.rows.ndim == 0 ? 0 : v.rows.strides[0] / std::ptrdiff_t(sizeof(T));
  }
  static bool fit(const row_view& v) {
    return v.rows.ndim <= 1 && v.class_stride == sizeof(T) && aligned<T>(v.rows.data) &&
           (v.rows.ndim == 0 || v.rows.strides[0] % std::ptrdiff_t(sizeof(T)) == 0);
  }
};

}  // namespace

template <class T>
bool has_few_classes(const row_shape& shape, const std::array<row_view, 2>& operands,
                     const row_loss_options<T>& options) {
  return shape.classes >= fewest && shape.classes <= most && shape.rows > 0 &&
         !options.class_weight && options.label_smoothing == 0 && run_rows<T>::fit(operands[0]) &&
         (!operands[1].rows.data || run_rows<T>::fit(operands[1]));
}

template <class T>
double cross_entropy_few(const row_shape& shape, const std::array<row_view, 2>& operands,
                         const index_view& target, const row_loss_options<T>& options,
                         const view& losses, chunk_runner run) {
  static constexpr auto by_classes = computations<T>(std::make_index_sequence<most - fewest + 1>());
  constexpr std::ptrdiff_t w = vec<T>::size, block = few_rows<T>::most_rows;
  const std::ptrdiff_t classes = shape.classes, size = shape.chunk();
  const computation<T> compute_rows = by_classes[classes - fewest];
  const run_rows<T> x(operands[0]), dx(operands[1]);
  const std::ptrdiff_t ahead = bytes_ahead(std::ptrdiff_t(2 * sizeof(T)) * shape.rows * classes);
  loss_sink<T> sink{losses, {}};
  sink.sums.assign(shape.chunks(), {});
  run(shape.chunks(), nanoseconds<T>(0.25, shape.rows * classes), [&](std::ptrdiff_t chunk) {
    few_rows<T> rows;
    rows.scale = T(options.scale);
    std::int64_t labels[block] = {};
    T padded[w * most];
    const std::ptrdiff_t end = std::min(shape.rows, (chunk + 1) * size);
    // m rows, whole registers of them but for the last.
    const auto run_block = [&](std::ptrdiff_t row, std::ptrdiff_t m) {
      rows.groups = int(ceil_div(m, w));
      for (int g = 0; g < rows.groups; ++g)
        rows.target[g].read(labels + g * w, options.ignore_index, nullptr);
      compute_rows(rows);
      for (int g = 0; g < rows.groups; ++g)
        sink.take(chunk, rows.loss[g], row + g * w, std::min(w, m - g * w));
    };
    for (std::ptrdiff_t row = chunk * size; row < end; row += block) {
      const std::ptrdiff_t n = std::min(block, end - row), whole = n / w * w;
      target.read(row, n, labels);
      const T* from = x.first + row * x.step;
      T* to = dx.first ? dx.first + row * dx.step : nullptr;
      for (std::ptrdiff_t b = 0; ahead && b < n * classes; b += 64 / sizeof(T))
        prefetch(from + b, ahead);
      rows.from = from, rows.from_step = x.step;
      rows.to = to, rows.to_step = dx.step;
      run_block(row, whole);
      if (whole == n) continue;
      // The lanes without a row are rows of 0.
      std::memset(padded, 0, sizeof padded);
      for (std::ptrdiff_t i = whole; i < n; ++i)
        std::memcpy(padded + (i - whole) * classes, from + i * x.step, classes * sizeof(T));
      std::copy(labels + whole, labels + n, labels);
      rows.from = padded, rows.from_step = classes;
      rows.to = to ? padded : nullptr, rows.to_step = classes;
      run_block(row + whole, n - whole);
      for (std::ptrdiff_t i = whole; to && i < n; ++i)
        std::memcpy(to + i * dx.step, padded + (i - whole) * classes, classes * sizeof(T));
    }
  });
  return sink.total();
}

template bool has_few_classes<float>(const row_shape&, const std::array<row_view, 2>&,
                                     const row_loss_options<float>&);
template double cross_entropy_few<float>(const row_shape&, const std::array<row_view, 2>&,
                                         const index_view&, const row_loss_options<float>&,
                                         const view&, chunk_runner);
template bool has_few_classes<double>(const row_shape&, const std::array<row_view, 2>&,
                                      const row_loss_options<double>&);
template double cross_entropy_few<double>(const row_shape&, const std::array<row_view, 2>&,
                                          const index_view&, const row_loss_options<double>&,
                                          const view&, chunk_runner);

}  // namespace dlcore
