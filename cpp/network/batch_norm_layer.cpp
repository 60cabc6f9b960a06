#include "network/batch_norm_layer.hpp"

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
template <class Read>
auto batch_norm_layer<T>::moments_of(rows_of<const T> x, std::ptrdiff_t rows, std::ptrdiff_t j,
                                     std::ptrdiff_t lanes, const Read& read) const -> moments {
  const vec<T> count = T(rows);
  block_sum<T> sum, rest, squares;
  for (std::ptrdiff_t r = 0; r < rows; ++r) sum.add(read(get(x.row(r) + j, lanes)));
  const vec<T> mean = sum.lanes() / count;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const vec<T> d = read(get(x.row(r) + j, lanes)) - mean;
    rest.add(d);
    squares.add(d * d);
  }
  const vec<T> lost = rest.lanes() / count;
  return {mean, lost, max<T>(squares.lanes() - count * lost * lost, T(0))};
}

// The factor of each feature; 1 where the squares lose nothing without one.
template <class T>
vec<T> batch_norm_layer<T>::factors_of(rows_of<const T> x, std::ptrdiff_t rows, std::ptrdiff_t j,
                                       std::ptrdiff_t lanes, mask<T> plain) const {
  vec<T> largest = T(0), factor = T(1);
  for (std::ptrdiff_t r = 0; r < rows; ++r)
    largest = max<T>(largest, abs(get(x.row(r) + j, lanes)));
  for (std::ptrdiff_t i = 0; i < vec<T>::size; ++i)
    if (!plain.v[i]) factor.v[i] = this->factor_for(double(largest.v[i]));
  return factor;
}

template <class T>
void batch_norm_layer<T>::collect(std::ptrdiff_t part, rows_of<const T> x, std::ptrdiff_t rows) {
  const auto features = this->outputs_of(part);
  each_register(features.begin, features.end, [&](auto j, auto lanes) {
    const vec<T> count = T(rows);
    vec<T> factor = T(1), eps = T(this->eps_);
    moments of = moments_of(x, rows, j, lanes, [](vec<T> v) { return v; });
    const vec<T> size = of.squares / count + eps;
    const mask<T> plain =
        (size >= vec<T>(base::least_squares)) & (of.squares <= vec<T>(base::most_squares));
    if (any(~plain)) {
      factor = factors_of(x, rows, j, lanes, plain);
      for (std::ptrdiff_t i = 0; i < vec<T>::size; ++i)
        eps.v[i] = T(this->eps_ * double(factor.v[i]) * double(factor.v[i]));
      of = moments_of(x, rows, j, lanes, [&](vec<T> v) { return v * factor; });
    }
    const vec<T> scale = vec<T>(T(1)) / sqrt(of.squares / count + eps);
    put(factor_.data() + j, factor, lanes);
    put(mean_.data() + j, of.mean, lanes);
    put(scale_.data() + j, scale, lanes);
    put(shift_.data() + j, -of.lost * scale, lanes);
    if (!running_mean_ || rows < 2) return;  // one row has no variance
    const vec<T> m = T(momentum_ >= 0 ? momentum_ : 1.0 / double(*batches_ + 1));
    const vec<T> old_mean = get(running_mean_ + j, lanes), old_var = get(running_var_ + j, lanes);
    const vec<T> mean = of.mean / factor;
    // A variance beyond the dtype is its largest number: an infinite one would stay for ever, and
    // turn all that is inferred into 0.
    const vec<T> var =
        min<T>(of.squares / vec<T>(T(rows - 1)) / factor / factor, std::numeric_limits<T>::max());
    put(running_mean_ + j, fma<T>(m, mean - old_mean, old_mean), lanes);
    put(running_var_ + j, fma<T>(m, var - old_var, old_var), lanes);
  });
}

template <class T>
auto batch_norm_layer<T>::map_of(bool of_batch, std::ptrdiff_t j, std::ptrdiff_t lanes) const
    -> affine {
  if (of_batch)
    return {get(factor_.data() + j, lanes), get(mean_.data() + j, lanes),
            get(scale_.data() + j, lanes), get(shift_.data() + j, lanes)};
  const vec<T> mean = get(running_mean_ + j, lanes), one = T(1);
  // From a mean of at most this size, x - mean does not overflow.
  constexpr T most = std::numeric_limits<T>::max() * std::numeric_limits<T>::epsilon() / 4;
  const vec<T> factor = select<T>(abs(mean) > vec<T>(most), vec<T>(T(0.25)), one);
  return {factor, mean * factor, running_scale(j, lanes) / factor, T(0)};
}

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
  each_register(features.begin, features.end, [&](auto j, auto lanes) {
    const affine map = map_of(!frozen_, j, lanes);
    block_sum<T> sum, dot;
    with_factor(map.factor, [&](const auto& read) {
      for (std::ptrdiff_t r = 0; r < rows; ++r) {
        const vec<T> g = get(dy.row(r) + j, lanes);
        sum.add(g);
        dot.add(g * normal(read(get(x.row(r) + j, lanes)), map.mean, map.scale, map.shift));
      }
    });
    f(j, lanes, sum.lanes(), dot.lanes());
  });
}

template <class T>
void batch_norm_layer<T>::collect_backward(std::ptrdiff_t part, rows_of<const T> dy,
                                           rows_of<const T> x, std::ptrdiff_t rows) {
  each_sum(part, dy, x, rows, [&](auto j, auto lanes, vec<T> sum, vec<T> dot) {
    put(sum_.data() + j, sum, lanes);
    put(dot_.data() + j, dot, lanes);
  });
}

template <class T>
void batch_norm_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  each_register(0, this->in, [&](auto j, auto lanes) {
    const affine map = map_of(p.training && !frozen_, j, lanes);
    const vec<T> weight = this->scale_of(j, lanes), bias = this->shift_of(j, lanes);
    with_factor(map.factor, [&](const auto& read) {
      for (std::ptrdiff_t r = 0; r < p.n; ++r) {
        const vec<T> y_r = normal(read(get(x.row(r) + j, lanes)), map.mean, map.scale, map.shift);
        put(y.row(r) + j, fma<T>(y_r, weight, bias), lanes);
      }
    });
  });
}

template <class T>
void batch_norm_layer<T>::backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                                   const pass& p) const {
  if (frozen_) {
    each_register(0, this->in, [&](auto j, auto lanes) {
      const vec<T> factor = this->scale_of(j, lanes) * running_scale(j, lanes);
      for (std::ptrdiff_t r = 0; r < p.n; ++r)
        put(dx.row(r) + j, factor * get(dy.row(r) + j, lanes), lanes);
    });
    return;
  }
  const vec<T> count = T(p.batch);
  each_register(0, this->in, [&](auto j, auto lanes) {
    const affine map = map_of(true, j, lanes);
    const vec<T> a = get(sum_.data() + j, lanes) / count, b = get(dot_.data() + j, lanes) / count;
    const vec<T> slope = this->scale_of(j, lanes) * map.scale;
    with_factor(map.factor, [&](const auto& read) {
      for (std::ptrdiff_t r = 0; r < p.n; ++r) {
        const vec<T> y_r = normal(read(get(x.row(r) + j, lanes)), map.mean, map.scale, map.shift);
        put(dx.row(r) + j, read(slope * (get(dy.row(r) + j, lanes) - a - y_r * b)), lanes);
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
    write(j, lanes, get(sum_.data() + j, lanes), get(dot_.data() + j, lanes));
  });
}

template class batch_norm_layer<float>;
template class batch_norm_layer<double>;

}  // namespace dlcore
