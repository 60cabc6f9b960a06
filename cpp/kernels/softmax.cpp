#include "kernels/softmax.hpp"

#include "kernels/row_loss.hpp"
#include "kernels/row_sums.hpp"

namespace dlcore {

namespace {

// How many elements of each row are NaN.
template <class T>
struct nan_count {
  row_values<T>& to;
  vec<int_of<T>> count = int_of<T>(0);

  void flush() {}
  template <class Part, class J>
  void add(const Part&, J, vec<T> x, vec<T>) {
    count -= x != x;
  }
  template <class Part>
  void finish(const Part& part) {
    part.set(to, part.count(count));
  }
};

template <class T>
struct log_of_sum {
  loss_sink<T>& sink;

  template <class Axis>
  void operator()(Axis& axis, std::ptrdiff_t chunk) const {
    constexpr T inf = std::numeric_limits<T>::infinity();
    row_sums<T> sums;
    row_values<T> nans;
    axis.each_group([&](int g) { nans[g] = T(0); });
    sum_rows<T, false>(axis, sums, [&] { return nan_count<T>{nans}; });
    axis.each_group([&](int g) {
      const vec<T> largest = sums.largest[g], none = T(0);
      const mask<T> infinite = abs(largest) == vec<T>(inf);
      const vec<T> value = select<T>(infinite, largest, largest + sums.log(g));
      sink.take(chunk, select<T>(nans[g] == none, value, std::numeric_limits<T>::quiet_NaN()),
                axis.row(g), axis.rows(g));
    });
  }
};

}  // namespace

template <class T>
void softmax(const row_shape& shape, const std::array<row_view, 2>& operands, chunk_runner run) {
  for_rows<T>(shape, operands, 0.6, run, [](auto& axis, std::ptrdiff_t) {
    row_sums<T> sums;
    sum_rows<T, true>(axis, sums, [] { return no_companion(); });
    row_values<T> inverse;
    axis.each_group([&](int g) { inverse[g] = sums.inverse(g); });
    axis.each([&](const auto& part) {
      const vec<T> largest = part.of(sums.largest), r = part.of(inverse);
      const auto again = [&](vec<T> x) { return exp_negative<T>(x - largest); };
      part.write([&](auto j) { return part.kept(j, again) * r; });
    });
  });
}

// dx = y (dy - sum(dy y)); inputs dy, y.
template <class T>
void softmax_backward(const row_shape& shape, const std::array<row_view, 3>& operands,
                      chunk_runner run) {
  for_rows<T>(shape, operands, 0.5, run, [](auto& axis, std::ptrdiff_t) {
    axis.each([](const auto& part) {
      open_sum<T> dot;
      part.sweep([&](auto j) { dot.add(part.in(0, j, T(0)) * part.in(1, j, T(0))); },
                 [&] { dot.flush(); });
      const vec<T> total = part.sum(dot);
      part.write([&](auto j) { return part.in(1, j, T(0)) * (part.in(0, j, T(0)) - total); });
    });
  });
}

template <class T>
void log_softmax(const row_shape& shape, const std::array<row_view, 2>& operands,
                 chunk_runner run) {
  for_rows<T>(shape, operands, 0.6, run, [](auto& axis, std::ptrdiff_t) {
    row_sums<T> sums;
    sum_rows<T, false>(axis, sums, [] { return no_companion(); });
    row_values<T> log;
    axis.each_group([&](int g) { log[g] = sums.log(g); });
    axis.each([&](const auto& part) {
      const vec<T> largest = part.of(sums.largest), l = part.of(log);
      part.write([&](auto j) { return (part.in(0, j, T(0)) - largest) - l; });
    });
  });
}

template <class T>
void logsumexp(const row_shape& shape, const row_view& x, const view& y, chunk_runner run) {
  loss_sink<T> sink{y, {}};
  const std::array<row_view, 2> operands{x, row_view()};
  row_loss<T>(shape, operands, 0.6, run, log_of_sum<T>{sink});
}

// dx = dy - exp(y) sum(dy); inputs dy, y.
template <class T>
void log_softmax_backward(const row_shape& shape, const std::array<row_view, 3>& operands,
                          chunk_runner run) {
  for_rows<T>(shape, operands, 0.8, run, [](auto& axis, std::ptrdiff_t) {
    axis.each([](const auto& part) {
      open_sum<T> sum;
      part.sweep([&](auto j) { sum.add(part.in(0, j, T(0))); }, [&] { sum.flush(); });
      const vec<T> total = part.sum(sum);
      part.write(
          [&](auto j) { return fma<T>(-exp<T>(part.in(1, j, T(0))), total, part.in(0, j, T(0))); });
    });
  });
}

template void softmax<float>(const row_shape&, const std::array<row_view, 2>&, chunk_runner);
template void softmax_backward<float>(const row_shape&, const std::array<row_view, 3>&,
                                      chunk_runner);
template void log_softmax<float>(const row_shape&, const std::array<row_view, 2>&, chunk_runner);
template void logsumexp<float>(const row_shape&, const row_view&, const view&, chunk_runner);
template void logsumexp<double>(const row_shape&, const row_view&, const view&, chunk_runner);
template void log_softmax_backward<float>(const row_shape&, const std::array<row_view, 3>&,
                                          chunk_runner);
template void softmax<double>(const row_shape&, const std::array<row_view, 2>&, chunk_runner);
template void softmax_backward<double>(const row_shape&, const std::array<row_view, 3>&,
                                       chunk_runner);
template void log_softmax<double>(const row_shape&, const std::array<row_view, 2>&, chunk_runner);
template void log_softmax_backward<double>(const row_shape&, const std::array<row_view, 3>&,
                                           chunk_runner);

}  // namespace dlcore
