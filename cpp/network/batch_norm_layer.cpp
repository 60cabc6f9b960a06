#include "network/batch_norm_layer.hpp"

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
  for (auto* of_features : {&mean_, &scale_, &shift_, &sum_, &dot_})
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
void batch_norm_layer<T>::collect(std::ptrdiff_t part, rows_of<const T> x, std::ptrdiff_t rows) {
  const auto features = this->outputs_of(part);
  each_register(features.begin, features.end, [&](auto j, auto lanes) {
    const vec<T> count = T(rows);
    block_sum<T> sum, rest, squares;
    for (std::ptrdiff_t r = 0; r < rows; ++r) sum.add(get(x.row(r) + j, lanes));
    const vec<T> mean = sum.lanes() / count;
    for (std::ptrdiff_t r = 0; r < rows; ++r) {
      const vec<T> d = get(x.row(r) + j, lanes) - mean;
      rest.add(d);
      squares.add(d * d);
    }
    const vec<T> lost = rest.lanes() / count;
    const vec<T> all = max<T>(squares.lanes() - count * lost * lost, T(0));
    const vec<T> scale = vec<T>(T(1)) / sqrt(all / count + vec<T>(T(this->eps_)));
    put(mean_.data() + j, mean, lanes);
    put(scale_.data() + j, scale, lanes);
    put(shift_.data() + j, -lost * scale, lanes);
    if (!running_mean_ || rows < 2) return;  // one row has no variance
    const vec<T> m = T(momentum_ >= 0 ? momentum_ : 1.0 / double(*batches_ + 1));
    const vec<T> old_mean = get(running_mean_ + j, lanes), old_var = get(running_var_ + j, lanes);
    put(running_mean_ + j, fma<T>(m, mean - old_mean, old_mean), lanes);
    put(running_var_ + j, fma<T>(m, all / vec<T>(T(rows - 1)) - old_var, old_var), lanes);
  });
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
    const vec<T> mean = get((frozen_ ? running_mean_ : mean_.data()) + j, lanes),
                 scale = frozen_ ? running_scale(j, lanes) : get(scale_.data() + j, lanes),
                 shift = frozen_ ? vec<T>(T(0)) : get(shift_.data() + j, lanes);
    block_sum<T> sum, dot;
    for (std::ptrdiff_t r = 0; r < rows; ++r) {
      const vec<T> g = get(dy.row(r) + j, lanes);
      sum.add(g);
      dot.add(g * normal(get(x.row(r) + j, lanes), mean, scale, shift));
    }
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
    vec<T> mean, scale, shift = T(0);
    if (p.training && !frozen_) {
      mean = get(mean_.data() + j, lanes);
      scale = get(scale_.data() + j, lanes);
      shift = get(shift_.data() + j, lanes);
    } else {
      mean = get(running_mean_ + j, lanes);
      scale = running_scale(j, lanes);
    }
    const vec<T> weight = this->scale_of(j, lanes), bias = this->shift_of(j, lanes);
    for (std::ptrdiff_t r = 0; r < p.n; ++r) {
      const vec<T> y_r = normal(get(x.row(r) + j, lanes), mean, scale, shift);
      put(y.row(r) + j, fma<T>(y_r, weight, bias), lanes);
    }
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
    const vec<T> mean = get(mean_.data() + j, lanes), scale = get(scale_.data() + j, lanes),
                 shift = get(shift_.data() + j, lanes);
    const vec<T> a = get(sum_.data() + j, lanes) / count, b = get(dot_.data() + j, lanes) / count;
    const vec<T> factor = this->scale_of(j, lanes) * scale;
    for (std::ptrdiff_t r = 0; r < p.n; ++r) {
      const vec<T> y_r = normal(get(x.row(r) + j, lanes), mean, scale, shift);
      put(dx.row(r) + j, factor * (get(dy.row(r) + j, lanes) - a - y_r * b), lanes);
    }
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
