#include <cmath>
#include <limits>

#include "simd/columns.hpp"
#include "simd/math.hpp"
#include "simd/sums.hpp"
#include "tests/check.hpp"

namespace {

using namespace dlcore;

// Elements that tell lanes apart.
template <class T>
void fill(T* x, std::ptrdiff_t n) {
  for (std::ptrdiff_t i = 0; i < n; ++i) x[i] = T(i) * T(0.75) - T(3);
}

template <class T>
void parts_touch_what_they_name() {
  constexpr std::ptrdiff_t w = vec<T>::size;
  T from[w], to[w + 1];
  fill(from, w);
  for (std::ptrdiff_t n = 0; n < w; ++n) {
    const vec<T> x = load_part<T>(from, n, T(7));
    for (std::ptrdiff_t i = 0; i < w; ++i) CHECK(x.v[i] == (i < n ? from[i] : T(7)));
    for (T& t : to) t = T(9);
    store_part<T>(to, load<T>(from), n);
    for (std::ptrdiff_t i = 0; i <= w; ++i) CHECK(to[i] == (i < n ? from[i] : T(9)));
    const vec<T> first = first_lanes<T>(load<T>(from), n);
    for (std::ptrdiff_t i = 0; i < w; ++i) CHECK(first.v[i] == (i < n ? from[i] : T(0)));
  }
}

template <class T>
void operations_of_lanes() {
  constexpr std::ptrdiff_t w = vec<T>::size;
  constexpr T nan = std::numeric_limits<T>::quiet_NaN();
  T from[w];
  fill(from, w);
  const vec<T> x = load<T>(from), two = T(2), not_a_number = nan;
  for (std::ptrdiff_t i = 0; i < w; ++i) {
    const T e = from[i], product = e * T(2) + T(2);  // exact
    CHECK((fma<T>(x, two, two)).v[i] == product);
    CHECK((max<T>(x, two)).v[i] == std::max(e, T(2)));
    CHECK((min<T>(x, two)).v[i] == std::min(e, T(2)));
    CHECK(abs<T>(x).v[i] == std::abs(e));
    CHECK(sqrt<T>(x * x).v[i] == std::abs(e));
    CHECK(std::abs(root<T>(x * x).v[i] - std::abs(e)) <=
          std::abs(e) * 2 * std::numeric_limits<T>::epsilon());
    CHECK(std::abs(quotient<T>(two, x).v[i] - T(2) / e) <=
              std::abs(T(2) / e) * 2 * std::numeric_limits<T>::epsilon() ||
          e == 0);
    CHECK((max<T>(x, not_a_number)).v[i] == e);
    CHECK(std::isnan((max<T>(not_a_number, x)).v[i]));
  }
  CHECK(!any(x != x));
  CHECK(any(x == vec<T>(from[w - 1])));
  CHECK(!all_at_least<T>(vec<T>(T(-4)), x));
  CHECK(all_at_least<T>(x, vec<T>(T(-4))));
}

// Where multiply-adds are one operation they are rounded once, emulated ones too: sums near halfway
// between two numbers, and what cancels.
template <class T>
void multiply_adds() {
  constexpr std::ptrdiff_t w = vec<T>::size;
  std::uint64_t state = 1;
  const auto draw = [&] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return T(std::int64_t(state >> 40)) * T(0.0009765625) - T(8192);
  };
  T a[w], b[w], c[w];
  for (int turn = 0; turn < 20000; ++turn) {
    for (std::ptrdiff_t i = 0; i < w; ++i) {
      a[i] = draw(), b[i] = draw(), c[i] = draw();
      if (turn % 4 == 1) c[i] = -a[i] * b[i];
      if (turn % 4 == 2) c[i] = std::ldexp(c[i], 24);
      if (turn % 4 == 3) a[i] = T(1), b[i] = std::ldexp(T(1), -24);
    }
    const vec<T> sum = fma<T>(load<T>(a), load<T>(b), load<T>(c));
    for (std::ptrdiff_t i = 0; i < w; ++i) {
      const T expected = has_fma ? std::fma(a[i], b[i], c[i]) : a[i] * b[i] + c[i];
      CHECK(sum.v[i] == expected);
    }
  }
}

template <class T>
void lanes_between_registers() {
  constexpr std::ptrdiff_t w = vec<T>::size;
  vec<T> x[w];
  for (std::ptrdiff_t i = 0; i < w; ++i)
    for (std::ptrdiff_t j = 0; j < w; ++j) x[i].v[j] = T(i * w + j);
  transpose<T>(x);
  for (std::ptrdiff_t i = 0; i < w; ++i)
    for (std::ptrdiff_t j = 0; j < w; ++j) CHECK(x[i].v[j] == T(j * w + i));

  T from[2 * w], to[w];
  fill(from, 2 * w);
  const vec<T> odd =
      gather_lanes<T>(from, iota<int_of<T>>() * vec<int_of<T>>(int_of<T>(2 * sizeof(T))));
  for (std::ptrdiff_t i = 0; i < w; ++i) CHECK(odd.v[i] == from[2 * i]);

  vec<double> wide[wide_parts<T>];
  double sum = 0;
  T largest = from[0];
  for (int part = 0; part < wide_parts<T>; ++part) {
    wide[part] = widen(load<T>(from), part);
    const vec<double> loaded = load_wide<T>(from, part);
    for (std::ptrdiff_t i = 0; i < vec<double>::size; ++i) {
      CHECK(wide[part].v[i] == double(from[part * vec<double>::size + i]));
      CHECK(loaded.v[i] == wide[part].v[i]);
    }
  }
  store_narrow<T>(to, wide);
  open_sum<T> blocks;
  blocks.add(load<T>(from));
  for (std::ptrdiff_t i = 0; i < w; ++i) {
    CHECK(to[i] == from[i]);
    sum += double(from[i]);
    largest = std::max(largest, from[i]);
  }
  CHECK(reduce_add(load<T>(from)) == T(sum));
  CHECK(reduce_max(load<T>(from)) == largest);
  CHECK(blocks.total() == sum);
}

// The first N columns of w rows of a matrix whose rows are `step` apart, and back: no more is
// written.
template <class T, std::ptrdiff_t N>
void columns_of_rows() {
  constexpr std::ptrdiff_t w = vec<T>::size, step = N + 1;
  T from[w * step], to[w * step];
  fill(from, w * step);
  vec<T> x[piece_size<T>];
  load_columns<T, N>(from, step, x);
  for (std::ptrdiff_t k = 0; k < N; ++k)
    for (std::ptrdiff_t i = 0; i < w; ++i) CHECK(x[k].v[i] == from[i * step + k]);
  for (T& t : to) t = T(99);
  store_columns<T, N>(to, step, x);
  for (std::ptrdiff_t i = 0; i < w; ++i)
    for (std::ptrdiff_t k = 0; k < step; ++k)
      CHECK(to[i * step + k] == (k < N ? from[i * step + k] : T(99)));
}

void unsigned_numbers() {
  using numbers = vec<std::uint32_t>;
  const numbers x = iota<std::uint32_t>() * numbers(0x9e3779b9u) + numbers(0xfffffff0u);
  for (std::ptrdiff_t i = 0; i < numbers::size; ++i) {
    const std::uint32_t own = std::uint32_t(i) * 0x9e3779b9u + 0xfffffff0u;
    CHECK(x.v[i] == own);
    CHECK((x * x).v[i] == own * own);
    CHECK((x >> 15).v[i] == own >> 15);
    CHECK((x ^ (x >> 16)).v[i] == (own ^ own >> 16));
  }
}

template <class I>
void bits_and_lanes() {
  constexpr std::ptrdiff_t w = vec<I>::size;
  constexpr std::uint32_t all = (1u << w) - 1;
  for (std::uint32_t bits = 0; bits <= all; bits += bits < 64 ? 1 : 61) {
    const vec<I> m = lanes_of_bits<I>(bits | ~all);  // bits beyond the lanes do not matter
    for (std::ptrdiff_t i = 0; i < w; ++i) CHECK(m.v[i] == (bits >> i & 1 ? I(-1) : I(0)));
    CHECK(bits_of_lanes<I>(m) == bits);
  }
}

// tests/native/test_math.py holds the errors; here only that each set has the functions right.
template <class T>
void functions() {
  for (double x : {-3.0, -0.5, 0.0, 0.25, 4.0}) {
    const auto near = [](T a, double b) {
      return std::abs(double(a) - b) <= 1e-6 * (1 + std::abs(b));
    };
    CHECK(near(exp(vec<T>(T(x))).v[0], std::exp(x)));
    CHECK(near(expm1(vec<T>(T(x))).v[0], std::expm1(x)));
    CHECK(near(tanh(vec<T>(T(x))).v[0], std::tanh(x)));
    if (x > 0) CHECK(near(log(vec<T>(T(x))).v[0], std::log(x)));
    if (x > -1) CHECK(near(log1p(vec<T>(T(x))).v[0], std::log1p(x)));
  }
}

template <class T>
void all() {
  parts_touch_what_they_name<T>();
  operations_of_lanes<T>();
  multiply_adds<T>();
  lanes_between_registers<T>();
  columns_of_rows<T, 2>();
  columns_of_rows<T, piece_size<T>>();
  functions<T>();
}

}  // namespace

void test_simd() {
  all<float>();
  all<double>();
  unsigned_numbers();
  bits_and_lanes<std::int32_t>();
  bits_and_lanes<std::int64_t>();
}
