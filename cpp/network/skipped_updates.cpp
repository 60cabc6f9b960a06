#include "network/skipped_updates.hpp"

#include <algorithm>
#include <cmath>

namespace dlcore {

namespace {

// Updates between two looks at whether parameters still move.
constexpr std::ptrdiff_t between_looks = 8;

// f(registers) of the same elements of several arrays, which are written.
template <class T, std::size_t K, class F>
void each_register(T* const (&arrays)[K], std::ptrdiff_t n, const F& f) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  for (std::ptrdiff_t i = 0; i < n; i += w) {
    vec<T> x[K];
    for (std::size_t k = 0; k < K; ++k) x[k] = load_up_to<T>(arrays[k] + i, n - i);
    f(x);
    for (std::size_t k = 0; k < K; ++k) store_up_to(arrays[k] + i, x[k], n - i);
  }
}

}  // namespace

template <class T>
bool skipped_updates<T>::suits(const optimizer& by, const trained_parameter<T>& p) {
  const optimizer::group& group = by.groups[p.group];
  if (p.average || group.weight_decay != 0 || group.penalty != 0) return false;
  if (const auto* s = std::get_if<sgd>(&group.options)) return s->l1 == 0 && s->momentum < 1;
  const adam& a = std::get<adam>(group.options);
  // Of a mean that fades no faster than the root of the mean of squares, steps do not end.
  return a.l1 == 0 && !p.state[2] && a.beta1 * a.beta1 < 0.99 * a.beta2 &&
         a.lr * a.decoupled_decay < 0.5;
}

template <class T>
void skipped_updates<T>::record(const optimizer& by, std::size_t group) {
  options_ = by.groups[group].options;
  step own{};
  own.shrink = 1, own.shrinks = steps_.empty() ? 0 : steps_.back().shrinks;
  if (const auto* s = std::get_if<sgd>(&options_)) {
    own.rate = T(s->lr);
    own.momentum = s->first ? T(0) : T(s->momentum);  // a buffer that begins is 0
  } else {
    const adam& a = std::get<adam>(options_);
    own.rate = T(a.step_size);
    own.correction = T(a.root_correction), own.inverse = T(1) / own.correction;
    own.least = T(a.least);
    if (a.shrinks) {
      own.shrink = T(1 - a.lr * a.decoupled_decay);
      ends_ = ends_ && own.shrink > 0;
      own.shrinks += std::log(double(own.shrink));
    }
  }
  largest_ = std::max(largest_, own.rate);
  steps_.push_back(own);
}

template <class T>
void skipped_updates<T>::make_up(const trained_parameter<T>& p, std::ptrdiff_t begin,
                                 std::ptrdiff_t end, std::ptrdiff_t first) const {
  if (first == count()) return;
  std::visit([&](const auto& by) { make_up(by, p, begin, end, first); }, options_);
}

// As in `adam`, with a gradient of 0.
template <class T>
void skipped_updates<T>::make_up(const adam& by, const trained_parameter<T>& p,
                                 std::ptrdiff_t begin, std::ptrdiff_t end,
                                 std::ptrdiff_t first) const {
  const bool nearer_mean = by.nearer_mean;
  const vec<T> nearer = T(1 - by.beta1), farther = T((1 - by.beta1) - 1), beta2 = T(by.beta2);
  const vec<T> largest = -vec<T>(largest_);
  const std::ptrdiff_t last = count();
  T* const arrays[] = {p.of->value + begin, p.state[0] + begin, p.state[1] + begin};
  each_register(arrays, end - begin, [&](vec<T>(&x)[3]) {
    vec<T> value = x[0], mean = x[1], squares = x[2];
    std::ptrdiff_t i = first;
    for (bool moves = true; moves && i < last; ++i) {
      const step& own = steps_[std::size_t(i)];
      const vec<T> from = value * vec<T>(own.shrink);
      mean = nearer_mean ? fma<T>(nearer, -mean, mean) : fma<T>(farther, -mean, vec<T>(T(0)));
      squares = beta2 * squares;
      const vec<T> root_of = divide_by<T>(root<T>(squares), own.correction, own.inverse);
      const vec<T> denominator = root_of + vec<T>(own.least);
      value = from + quotient<T>(-vec<T>(own.rate) * mean, denominator);
      if ((i - first) % between_looks == 0)
        moves = !ends_ || any(from + quotient<T>(largest * mean, denominator) != from);
    }
    if (i < last) {
      const double rest = double(last - i);
      if (any(squares != vec<T>(T(0)))) {
        mean *= vec<T>(T(std::pow(by.beta1, rest)));
        squares *= vec<T>(T(std::pow(by.beta2, rest)));
      }
      if (by.shrinks)
        value *= vec<T>(T(std::exp(steps_.back().shrinks - steps_[std::size_t(i - 1)].shrinks)));
    }
    x[0] = value, x[1] = mean, x[2] = squares;
  });
}

// As in `sgd`, with a gradient of 0.
template <class T>
void skipped_updates<T>::make_up(const sgd& by, const trained_parameter<T>& p, std::ptrdiff_t begin,
                                 std::ptrdiff_t end, std::ptrdiff_t first) const {
  if (!p.state[0]) return;
  const vec<T> largest = -vec<T>(largest_);
  const std::ptrdiff_t last = count();
  T* const arrays[] = {p.of->value + begin, p.state[0] + begin};
  each_register(arrays, end - begin, [&](vec<T>(&x)[2]) {
    vec<T> value = x[0], buffer = x[1];
    std::ptrdiff_t i = first;
    for (bool moves = true; moves && i < last; ++i) {
      const step& own = steps_[std::size_t(i)];
      buffer = own.momentum == 0 ? vec<T>(T(0)) : vec<T>(own.momentum) * buffer;
      const vec<T> direction = by.nesterov ? vec<T>(own.momentum) * buffer : buffer;
      if ((i - first) % between_looks == 0) moves = any(fma<T>(largest, buffer, value) != value);
      value = fma<T>(-vec<T>(own.rate), direction, value);
    }
    if (i < last) buffer *= vec<T>(T(std::pow(by.momentum, double(last - i))));
    x[0] = value, x[1] = buffer;
  });
}

template class skipped_updates<float>;
template class skipped_updates<double>;

}  // namespace dlcore
