#include "network/batch_norm_layer.hpp"

#include <array>
#include <limits>

namespace dlcore {

template <class T>
batch_norm_layer<T>::batch_norm_layer(const batch_norm_spec<T>& spec)
    : base(spec.features, spec.weight, spec.bias, spec.eps),
      frozen_(spec.is_frozen),
      momentum_(spec.momentum),
      running_mean_(spec.running_mean),
      running_var_(spec.running_var),
      batches_(spec.num_batches_tracked) {
  if (frozen_) {
    this->dx_over_dy = !this->learns();  // `gradient` needs dy
    return;
  }
  this->statistics = this;
  for (auto* of_features : {&factor_, &mean_, &scale_, &shift_, &sum_, &dot_})
    of_features->resize(spec.features);
}

template <class T>
void batch_norm_layer<T>::begin_batch() {
  if (!running_mean_) return;
  old_mean_.assign(running_mean_, running_mean_ + this->in);
  old_var_.assign(running_var_, running_var_ + this->in);
  old_batches_ = *batches_;
}

template <class T>
template <int K, class Read>
void batch_norm_layer<T>::moments_of(rows_of<const T> x, std::ptrdiff_t rows, std::ptrdiff_t j,
                                     std::ptrdiff_t lanes, const Read& read,
                                     moments (&of)[K]) const {
  const vec<T> count = T(rows);
  const auto at = [&](std::ptrdiff_t r, int k) {
    return read(load_up_to<T>(x.row(r) + j + k * w, lanes));
  };
  const block_sums<T, 1, K> sums(
      rows, [&](std::ptrdiff_t r, int k) { return std::array<vec<T>, 1>{at(r, k)}; });
  vec<T> mean[K];
  for (int k = 0; k < K; ++k) mean[k] = sums.of[0][k].lanes() / count;
  const block_sums<T, 2, K> rest(rows, [&](std::ptrdiff_t r, int k) {
    const vec<T> d = at(r, k) - mean[k];
    return std::array<vec<T>, 2>{d, d * d};
  });
  for (int k = 0; k < K; ++k) {
    const vec<T> lost = rest.of[0][k].lanes() / count, squares = rest.of[1][k].lanes();
    of[k] = {mean[k], lost, max<T>(squares - count * lost * lost, T(0))};
  }
}

// The factor of each feature; 1 where the squares lose nothing without one.
template <class T>
vec<T> batch_norm_layer<T>::factors_of(rows_of<const T> x, std::ptrdiff_t rows, std::ptrdiff_t j,
                                       std::ptrdiff_t lanes, mask<T> plain) const {
  vec<T> largest = T(0), factor = T(1);
  for (std::ptrdiff_t r = 0; r < rows; ++r)
    largest = max<T>(largest, abs(load_up_to<T>(x.row(r) + j, lanes)));
  for (std::ptrdiff_t i = 0; i < vec<T>::size; ++i)
    if (!plain.v[i]) factor.v[i] = this->factor_for(double(largest.v[i]));
  return factor;
}

template <class T>
void batch_norm_layer<T>::collect(std::ptrdiff_t part, rows_of<const T> x, std::ptrdiff_t rows) {
  const auto features = this->outputs_of(part);
  const auto as_it_is = [](vec<T> v) { return v; };
  base::template each_group<4>(features.begin, features.end, [&](auto j, auto lanes, auto group) {
    moments of[group()];
    moments_of<group()>(x, rows, j, lanes, as_it_is, of);
    for (int k = 0; k < group(); ++k) keep(x, rows, j + k * w, lanes, of[k]);
  });
}

// Keeps the statistics of a register of features.
template <class T>
void batch_norm_layer<T>::keep(rows_of<const T> x, std::ptrdiff_t rows, std::ptrdiff_t j,
                               std::ptrdiff_t lanes, const moments& plain_ones) {
  const vec<T> count = T(rows);
  vec<T> factor = T(1), eps = T(this->eps_);
  moments of[] = {plain_ones};
  const vec<T> size = of[0].squares / count + eps;
  const mask<T> plain =
      (size >= vec<T>(base::least_squares)) & (of[0].squares <= vec<T>(base::most_squares));
  if (any(~plain)) {
    factor = factors_of(x, rows, j, lanes, plain);
    for (std::ptrdiff_t i = 0; i < vec<T>::size; ++i)
      eps.v[i] = T(this->eps_ * double(factor.v[i]) * double(factor.v[i]));
    moments_of<1>(x, rows, j, lanes, [&](vec<T> v) { return v * factor; }, of);
  }
  const vec<T> scale = vec<T>(T(1)) / sqrt(of[0].squares / count + eps);
  store_up_to<T>(factor_.data() + j, factor, lanes);
  store_up_to<T>(mean_.data() + j, of[0].mean, lanes);
  store_up_to<T>(scale_.data() + j, scale, lanes);
  store_up_to<T>(shift_.data() + j, -of[0].lost * scale, lanes);
  if (!running_mean_ || rows < 2) return;  // one row has no variance
  const vec<T> m = T(momentum_ >= 0 ? momentum_ : 1.0 / double(*batches_ + 1));
  const vec<T> old_mean = load_up_to<T>(running_mean_ + j, lanes),
               old_var = load_up_to<T>(running_var_ + j, lanes);
  const vec<T> mean = of[0].mean / factor;
  // A variance beyond the dtype is its largest number: an infinite one would stay for ever, and
  // turn all that is inferred into 0.
  const vec<T> var =
      min<T>(of[0].squares / vec<T>(T(rows - 1)) / factor / factor, std::numeric_limits<T>::max());
  store_up_to<T>(running_mean_ + j, fma<T>(m, mean - old_mean, old_mean), lanes);
  store_up_to<T>(running_var_ + j, fma<T>(m, var - old_var, old_var), lanes);
}

template <class T>
auto batch_norm_layer<T>::map_of(bool of_batch, std::ptrdiff_t j, std::ptrdiff_t lanes) const
    -> affine {
  if (of_batch)
    return {load_up_to<T>(factor_.data() + j, lanes), load_up_to<T>(mean_.data() + j, lanes),
            load_up_to<T>(scale_.data() + j, lanes), load_up_to<T>(shift_.data() + j, lanes)};
  const vec<T> mean = load_up_to<T>(running_mean_ + j, lanes), one = T(1);
  // From a mean of at most this size, x - mean does not overflow.
  constexpr T most = std::numeric_limits<T>::max() * std::numeric_limits<T>::epsilon() / 4;
  const vec<T> factor = select<T>(abs(mean) > vec<T>(most), vec<T>(T(0.25)), one);
  return {factor, mean * factor, running_scale(j, lanes) / factor, T(0)};
}

// The maps of K registers side by side.
template <class T>
template <int K>
struct batch_norm_layer<T>::affines {
  affine of[K];
  bool has_factors = false;

  affines(const batch_norm_layer& l, bool of_batch, std::ptrdiff_t j, std::ptrdiff_t lanes) {
    for (int k = 0; k < K; ++k) {
      of[k] = l.map_of(of_batch, j + k * w, lanes);
      has_factors = has_factors || any(of[k].factor != vec<T>(T(1)));
    }
  }
  vec<T> normal(vec<T> x, int k) const {
    return base::normal(x, of[k].mean, of[k].scale, of[k].shift);
  }
  // f(read): read(x, k) brings elements of x to the scale of their statistics. Where no factor is
  // other than 1, and that is nearly everywhere, it leaves them as they are and costs nothing.
  template <class F>
  void with_factors(const F& f) const {
    if (has_factors) f([this](vec<T> x, int k) { return x * of[k].factor; });
    else f([](vec<T> x, int) { return x; });
  }
};

template <class T>
void batch_norm_layer<T>::end_batch(std::ptrdiff_t rows) {
  if (batches_ && rows > 1) ++*batches_;
}

template <class T>
void batch_norm_layer<T>::restore() {
  if (old_mean_.empty()) return;
  std::copy(old_mean_.begin(), old_mean_.end(), running_mean_);
  std::copy(old_var_.begin(), old_var_.end(), running_var_);
  *batches_ = old_batches_;
}

template <class T>
template <class F>
void batch_norm_layer<T>::each_sum(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                                   std::ptrdiff_t rows, const F& f) const {
  const auto features = this->outputs_of(part);
  base::template each_group<2>(features.begin, features.end, [&](auto j, auto lanes, auto group) {
    constexpr int K = group();
    const affines<K> maps(*this, !frozen_, j, lanes);
    maps.with_factors([&](const auto& read) {
      block_sums<T, 2, K> sums(rows, [&](std::ptrdiff_t r, int k) {
        const vec<T> g = load_up_to<T>(dy.row(r) + j + k * w, lanes);
        const vec<T> x_r = read(load_up_to<T>(x.row(r) + j + k * w, lanes), k);
        return std::array<vec<T>, 2>{g, g * maps.normal(x_r, k)};
      });
      for (int k = 0; k < K; ++k) f(j + k * w, lanes, sums.of[0][k].lanes(), sums.of[1][k].lanes());
    });
  });
}

template <class T>
void batch_norm_layer<T>::collect_backward(std::ptrdiff_t part, rows_of<const T> dy,
                                           rows_of<const T> x, std::ptrdiff_t rows) {
  each_sum(part, dy, x, rows, [&](auto j, auto lanes, vec<T> sum, vec<T> dot) {
    store_up_to<T>(sum_.data() + j, sum, lanes);
    store_up_to<T>(dot_.data() + j, dot, lanes);
  });
}

template <class T>
void batch_norm_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  const vec<T> least = this->least();
  base::template each_group<2>(0, this->in, [&](auto j, auto lanes, auto group) {
    constexpr int K = group();
    const affines<K> maps(*this, p.training && !frozen_, j, lanes);
    vec<T> weight[K], bias[K];
    for (int k = 0; k < K; ++k) {
      weight[k] = load_up_to<T>(this->scales() + j + k * w, lanes);
      bias[k] = load_up_to<T>(this->shifts() + j + k * w, lanes);
    }
    maps.with_factors([&](const auto& read) {
      const std::ptrdiff_t rows = p.n;
      const T* from = x.first + j;
      T* to = y.first + j;
      for (std::ptrdiff_t r = 0; r < rows; ++r, from += x.step, to += y.step)
#pragma GCC unroll 2
        for (int k = 0; k < K; ++k) {
          const vec<T> normal = maps.normal(read(load_up_to<T>(from + k * w, lanes), k), k);
          store_up_to<T>(to + k * w, max<T>(fma<T>(normal, weight[k], bias[k]), least), lanes);
        }
    });
  });
}

template <class T>
void batch_norm_layer<T>::backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                                   const pass& p) const {
  const std::ptrdiff_t rows = p.n;
  if (frozen_) {
    each_register(0, this->in, [&](auto j, auto lanes) {
      const vec<T> factor = load_up_to<T>(this->scales() + j, lanes) * running_scale(j, lanes);
      for (std::ptrdiff_t r = 0; r < rows; ++r)
        store_up_to<T>(dx.row(r) + j, factor * load_up_to<T>(dy.row(r) + j, lanes), lanes);
    });
    return;
  }
  const vec<T> count = T(p.batch);
  base::template each_group<2>(0, this->in, [&](auto j, auto lanes, auto group) {
    constexpr int K = group();
    const affines<K> maps(*this, true, j, lanes);
    vec<T> a[K], b[K], slope[K];
    for (int k = 0; k < K; ++k) {
      const std::ptrdiff_t at = j + k * w;
      a[k] = load_up_to<T>(sum_.data() + at, lanes) / count,
      b[k] = load_up_to<T>(dot_.data() + at, lanes) / count;
      slope[k] = load_up_to<T>(this->scales() + at, lanes) * maps.of[k].scale;
    }
    maps.with_factors([&](const auto& read) {
      const T *gradient = dy.first + j, *from = x.first + j;
      T* to = dx.first + j;
      for (std::ptrdiff_t r = 0; r < rows; ++r, gradient += dy.step, from += x.step, to += dx.step)
#pragma GCC unroll 2
        for (int k = 0; k < K; ++k) {
          const vec<T> normal = maps.normal(read(load_up_to<T>(from + k * w, lanes), k), k);
          const vec<T> g = load_up_to<T>(gradient + k * w, lanes);
          store_up_to<T>(to + k * w, read(slope[k] * (g - a[k] - normal * b[k]), k), lanes);
        }
    });
  });
}

template <class T>
void batch_norm_layer<T>::gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                                   std::ptrdiff_t rows, T* dw, T* db, bool add) const {
  const auto features = this->outputs_of(part);
  const auto write = [&](auto j, auto lanes, vec<T> sum, vec<T> dot) {
    give(dw ? dw + (j - features.begin) : nullptr, dot, lanes, add);
    give(db ? db + (j - features.begin) : nullptr, sum, lanes, add);
  };
  if (frozen_) return each_sum(part, dy, x, rows, write);
  each_register(features.begin, features.end, [&](auto j, auto lanes) {
    write(j, lanes, load_up_to<T>(sum_.data() + j, lanes), load_up_to<T>(dot_.data() + j, lanes));
  });
}

template class batch_norm_layer<float>;
template class batch_norm_layer<double>;

}  // namespace dlcore
