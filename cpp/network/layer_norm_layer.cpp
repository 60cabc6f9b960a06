#include "network/layer_norm_layer.hpp"

#include <array>
#include <cmath>

namespace dlcore {

template <class T>
template <int K, class Read>
void layer_norm_layer<T>::moments_of(rows_of<const T> x, const Read& read, moments<K>& of) const {
  const double count = double(this->in);
  const std::ptrdiff_t registers = this->in / w, rest = this->in % w;
  const auto elements = [&](auto lanes) {
    return [=](std::ptrdiff_t i, int k) { return read(load_up_to<T>(x.row(k) + i * w, lanes)); };
  };
  vec<T> mean[K];
  const auto itself = [&](auto lanes) {
    return [x_of = elements(lanes)](std::ptrdiff_t i, int k) {
      return std::array<vec<T>, 1>{x_of(i, k)};
    };
  };
  const block_sums<T, 1, K> sums(is_centered_ ? registers : 0, itself(whole()),
                                 is_centered_ && rest > 0, itself(rest));
  for (int k = 0; k < K; ++k) mean[k] = T(sums.of[0][k].total() / count);
  // A second pass over the row: no cancellation, however far it lies from 0.
  const auto distance = [&](auto lanes) {
    return [&mean, lanes, x_of = elements(lanes)](std::ptrdiff_t i, int k) {
      vec<T> d = x_of(i, k) - mean[k];
      if (lanes < w) d = first_lanes<T>(d, lanes);
      return std::array<vec<T>, 2>{d, d * d};
    };
  };
  const block_sums<T, 2, K> spread(registers, distance(whole()), rest > 0, distance(rest));
  for (int k = 0; k < K; ++k) {
    of.mean[k] = mean[k].v[0];
    of.lost[k] = is_centered_ ? spread.of[0][k].total() : 0;
    of.var[k] = spread.of[1][k].total();
  }
  for (int k = 0; k < K; ++k) {
    of.lost[k] /= count;
    const double var = of.var[k] / count - of.lost[k] * of.lost[k];
    of.var[k] = var < 0 ? 0 : var;
  }
}

// Writes a row, and in training what the way back needs of it.
template <class T>
inline __attribute__((always_inline)) void layer_norm_layer<T>::write_row(const T* from, T* to,
                                                                          std::ptrdiff_t row,
                                                                          const map& by) const {
  const T *const weight = this->scales(), *const bias = this->shifts();
  const vec<T> least = this->least(), mean = by.mean, scale = by.scale, shift = by.shift;
  with_factor(by.factor, [&](const auto& read) {
    each_register(0, this->in, [&](auto j, auto lanes) {
      const vec<T> y_j = normal(read(load_up_to<T>(from + j, lanes)), mean, scale, shift);
      store_up_to<T>(
          to + j,
          max<T>(fma<T>(y_j, load_up_to<T>(weight + j, lanes), load_up_to<T>(bias + j, lanes)),
                 least),
          lanes);
    });
  });
  if (row < 0) return;
  factor_[row] = by.factor, mean_[row] = by.mean, scale_[row] = by.scale, shift_[row] = by.shift;
}

template <class T>
void layer_norm_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  each_row_group<8>(p.n, [&](std::ptrdiff_t r, auto group) {
    constexpr int K = group();
    moments<K> of;
    moments_of<K>(x.from(r), [](vec<T> v) { return v; }, of);
    T scale[K];
    for (int k = 0; k < K; ++k) scale[k] = T(1 / std::sqrt(of.var[k] + this->eps_));
    for (int k = 0; k < K; ++k) {
      const T* const from = x.row(r + k);
      T* const to = y.row(r + k);
      const std::ptrdiff_t row = p.training ? p.begin + r + k : -1;
      if (keeps_squares(of.var[k] + this->eps_))
        write_row(from, to, row, {T(1), of.mean[k], scale[k], T(-of.lost[k]) * scale[k]});
      else write_scaled_row(from, to, row);
    }
  });
}

// A row whose squares lose something.
template <class T>
__attribute__((noinline)) void layer_norm_layer<T>::write_scaled_row(const T* from, T* to,
                                                                     std::ptrdiff_t row) const {
  largest_of<T> largest;
  largest.take(from, this->in);
  const T factor = factor_for(largest.value());
  const double eps = this->eps_ * double(factor) * double(factor);
  moments<1> of;
  moments_of<1>({from, 0}, [&](vec<T> v) { return v * vec<T>(factor); }, of);
  if (factor != T(1)) has_factors_.store(true, std::memory_order_relaxed);
  const T scale = T(1 / std::sqrt(of.var[0] + eps));
  write_row(from, to, row, {factor, of.mean[0], scale, T(-of.lost[0]) * scale});
}

template <class T>
void layer_norm_layer<T>::backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                                   const pass& p) const {
  const bool has_factors = has_factors_.load(std::memory_order_relaxed);
  each_row_group<4>(p.n, [&](std::ptrdiff_t r, auto group) {
    const std::ptrdiff_t row = p.begin + r;
    const auto run = [&](const auto& read) {
      backward_rows<group()>(dy.from(r), x.from(r), dx.from(r), row, read);
    };
    if (has_factors) run([&](vec<T> v, int k) { return v * vec<T>(factor_[row + k]); });
    else run([](vec<T> v, int) { return v; });
  });
}

template <class T>
template <int K, class Read>
void layer_norm_layer<T>::backward_rows(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                                        std::ptrdiff_t row, const Read& read) const {
  const double count = double(this->in);
  const std::ptrdiff_t registers = this->in / w, rest = this->in % w;
  const T* const weight = this->scales();
  vec<T> mean[K], scale[K], shift[K], a[K], b[K];
  for (int k = 0; k < K; ++k)
    mean[k] = mean_[row + k], scale[k] = scale_[row + k], shift[k] = shift_[row + k];
  const auto gradient = [&](std::ptrdiff_t j, auto lanes, int k) {
    return load_up_to<T>(dy.row(k) + j, lanes) * load_up_to<T>(weight + j, lanes);
  };
  const auto normalized = [&](std::ptrdiff_t j, auto lanes, int k) {
    return normal(read(load_up_to<T>(x.row(k) + j, lanes), k), mean[k], scale[k], shift[k]);
  };
  const auto both = [&](auto lanes) {
    return [&, lanes](std::ptrdiff_t i, int k) {
      const vec<T> g = gradient(i * w, lanes, k);
      return std::array<vec<T>, 2>{g, g * normalized(i * w, lanes, k)};
    };
  };
  const block_sums<T, 2, K> sums(registers, both(whole()), rest > 0, both(rest));
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k) {
    a[k] = T(is_centered_ ? sums.of[0][k].total() / count : 0);
    b[k] = T(sums.of[1][k].total() / count);
  }
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k)
    each_register(0, this->in, [&, a = a[k], b = b[k], scale = scale[k]](auto j, auto lanes) {
      const vec<T> g = gradient(j, lanes, k), y_j = normalized(j, lanes, k);
      store_up_to<T>(dx.row(k) + j, read(scale * (g - a - y_j * b), k), lanes);
    });
}

template <class T>
void layer_norm_layer<T>::gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                                   std::ptrdiff_t rows, T* dw, T* db, bool add) const {
  const auto features = this->outputs_of(part);
  const auto write = [&](const auto& read) {
    base::template each_group<4>(features.begin, features.end, [&](auto j, auto lanes, auto group) {
      constexpr int K = group();
      block_sums<T, 2, K> sums(rows, [&](std::ptrdiff_t r, int k) {
        const vec<T> g = load_up_to<T>(dy.row(r) + j + k * w, lanes);
        const vec<T> x_r = read(load_up_to<T>(x.row(r) + j + k * w, lanes), r);
        return std::array<vec<T>, 2>{g, g * normal(x_r, mean_[r], scale_[r], shift_[r])};
      });
      for (int k = 0; k < K; ++k) {
        const std::ptrdiff_t at = j + k * w - features.begin;
        give(dw ? dw + at : nullptr, sums.of[1][k].lanes(), lanes, add);
        give(db ? db + at : nullptr, sums.of[0][k].lanes(), lanes, add);
      }
    });
  };
  if (has_factors_.load(std::memory_order_relaxed))
    write([&](vec<T> v, std::ptrdiff_t r) { return v * vec<T>(factor_[r]); });
  else write([](vec<T> v, std::ptrdiff_t) { return v; });
}

template class layer_norm_layer<float>;
template class layer_norm_layer<double>;

}  // namespace dlcore
