// Layers with a mind of their own in training: batch and layer normalisation, dropout.
#pragma once

#include <cmath>
#include <vector>

#include "network/layers.hpp"
#include "simd/sums.hpp"

namespace dlcore {

// The scale and the shift of a normalisation, one a feature.
template <class T>
class scaled_layer : public layer<T> {
 public:
  using span = typename layer<T>::span;

  scaled_layer(std::ptrdiff_t width, T* weight, T* bias, double eps)
      : layer<T>(width, width),
        weight_{weight, nullptr, width},
        bias_{bias, nullptr, width},
        eps_(eps) {}

  double cost() const override { return nanoseconds<T>(0.5, this->in); }
  std::vector<tensor<T>*> parameters() override {
    std::vector<tensor<T>*> all;
    if (weight_.value) all.push_back(&weight_);
    if (bias_.value) all.push_back(&bias_);
    return all;
  }
  std::ptrdiff_t parts() const override { return ceil_div(this->in, columns); }
  std::vector<span> spans(std::ptrdiff_t part) override {
    std::vector<span> all;
    const std::ptrdiff_t begin = part * columns, end = std::min(this->in, begin + columns);
    if (weight_.gradient) all.push_back({&weight_, begin, end});
    if (bias_.gradient) all.push_back({&bias_, begin, end});
    return all;
  }

 protected:
  static constexpr std::ptrdiff_t columns = 64;  // of a part
  static constexpr std::ptrdiff_t w = vec<T>::size;

  tensor<T> weight_, bias_;
  double eps_;

  static vec<T> get(const T* p, std::ptrdiff_t lanes) {
    return lanes >= w ? load<T>(p) : load_part<T>(p, lanes);
  }
  static void put(T* p, vec<T> x, std::ptrdiff_t lanes) {
    if (lanes >= w) store<T>(p, x);
    else store_part<T>(p, x, lanes);
  }
  // Of x, less its rounded mean, divided; `shift` is for what the mean lost by rounding: of values
  // far from 0 that is not little beside their spread.
  static vec<T> normal(vec<T> x, vec<T> mean, vec<T> scale, vec<T> shift) {
    return fma<T>(x - mean, scale, shift);
  }
  vec<T> weight(std::ptrdiff_t j, std::ptrdiff_t lanes) const {
    return weight_.value ? get(weight_.value + j, lanes) : vec<T>(T(1));
  }
  vec<T> bias(std::ptrdiff_t j, std::ptrdiff_t lanes) const {
    return bias_.value ? get(bias_.value + j, lanes) : vec<T>(T(0));
  }
  static void give(const tensor<T>& to, std::ptrdiff_t j, vec<T> sum, std::ptrdiff_t lanes,
                   bool add) {
    if (to.gradient) put(to.gradient + j, add ? sum + get(to.gradient + j, lanes) : sum, lanes);
  }
  template <class F>
  void each_register(std::ptrdiff_t begin, std::ptrdiff_t end, const F& f) const {
    for (std::ptrdiff_t j = begin; j < end; j += w) f(j, end - j);
  }
};

// y = (x - mean) / sqrt(var + eps) * weight + bias over the features of each row (Ba, Kiros,
// Hinton: Layer normalization, 2016).
template <class T>
class layer_norm_layer : public scaled_layer<T> {
  using base = scaled_layer<T>;
  using base::each_register, base::get, base::put, base::normal, base::w, base::columns;

 public:
  using base::base;

  bool in_place() const override { return false; }  // `gradient` needs dy
  void reserve(std::ptrdiff_t rows) override {
    for (auto* of_rows : {&mean_, &scale_, &shift_}) of_rows->resize(rows);
  }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override {
    for (std::ptrdiff_t r = 0; r < p.n; ++r) {
      const T* from = x.row(r);
      T* to = y.row(r);
      const double count = double(this->in);
      block_sum<T> sum, rest, squares;
      each_register(0, this->in, [&](auto j, auto lanes) { sum.add(get(from + j, lanes)); });
      const T mean = T(sum.total() / count);
      // A second pass over the row: no cancellation, however far it lies from 0.
      each_register(0, this->in, [&](auto j, auto lanes) {
        vec<T> d = get(from + j, lanes) - vec<T>(mean);
        if (lanes < w) d = first_lanes<T>(d, lanes);
        rest.add(d);
        squares.add(d * d);
      });
      const double lost = rest.total() / count;
      const double var = std::max(0.0, squares.total() / count - lost * lost);
      const T scale = T(1 / std::sqrt(var + this->eps_)), shift = T(-lost) * scale;
      each_register(0, this->in, [&](auto j, auto lanes) {
        const vec<T> y_j = normal(get(from + j, lanes), mean, scale, shift);
        put(to + j, fma<T>(y_j, this->weight(j, lanes), this->bias(j, lanes)), lanes);
      });
      if (p.training)
        mean_[p.begin + r] = mean, scale_[p.begin + r] = scale, shift_[p.begin + r] = shift;
    }
  }
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override {
    for (std::ptrdiff_t r = 0; r < p.n; ++r) {
      const T *from = x.row(r), *slope = dy.row(r);
      T* to = dx.row(r);
      const vec<T> mean = mean_[p.begin + r], scale = scale_[p.begin + r],
                   shift = shift_[p.begin + r];
      block_sum<T> sum, dot;
      each_register(0, this->in, [&](auto j, auto lanes) {
        const vec<T> g = get(slope + j, lanes) * this->weight(j, lanes);
        sum.add(g);
        dot.add(g * normal(get(from + j, lanes), mean, scale, shift));
      });
      const vec<T> a = T(sum.total() / double(this->in)), b = T(dot.total() / double(this->in));
      each_register(0, this->in, [&](auto j, auto lanes) {
        const vec<T> g = get(slope + j, lanes) * this->weight(j, lanes);
        const vec<T> y_j = normal(get(from + j, lanes), mean, scale, shift);
        put(to + j, scale * (g - a - y_j * b), lanes);
      });
    }
  }
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                bool add) const override {
    each_register(part * columns, std::min(this->in, (part + 1) * columns),
                  [&](auto j, auto lanes) {
                    block_sum<T> sum, dot;
                    for (std::ptrdiff_t r = 0; r < rows; ++r) {
                      const vec<T> g = get(dy.row(r) + j, lanes);
                      sum.add(g);
                      dot.add(g * normal(get(x.row(r) + j, lanes), mean_[r], scale_[r], shift_[r]));
                    }
                    this->give(this->weight_, j, dot.lanes(), lanes, add);
                    this->give(this->bias_, j, sum.lanes(), lanes, add);
                  });
  }

 private:
  mutable std::vector<T> mean_, scale_, shift_;  // of each row of the batch
};

// y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var of each feature over the batch in
// training, running means of them otherwise (Ioffe, Szegedy: Batch normalization, 2015).
template <class T>
class batch_norm_layer : public scaled_layer<T> {
  using base = scaled_layer<T>;
  using base::each_register, base::get, base::put, base::normal, base::w, base::columns;

 public:
  // `frozen`: the running means count in training, too, and stay as they are.
  batch_norm_layer(std::ptrdiff_t width, T* weight, T* bias, double eps, double momentum,
                   T* running_mean, T* running_var, std::int64_t* batches, bool frozen)
      : base(width, weight, bias, eps),
        frozen_(frozen),
        momentum_(momentum),
        running_mean_(running_mean),
        running_var_(running_var),
        batches_(batches),
        mean_(width),
        scale_(width),
        shift_(width),
        sum_(width),
        dot_(width) {}

  bool of_batch() const override { return !frozen_; }

  // The means of a batch. Each column has two passes over the batch: no cancellation.
  void collect(std::ptrdiff_t part, rows_of<const T> x, std::ptrdiff_t rows) override {
    if (frozen_) return collect_running(part);
    each_register(
        part * columns, std::min(this->in, (part + 1) * columns), [&](auto j, auto lanes) {
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
          const vec<T> old_mean = get(running_mean_ + j, lanes),
                       old_var = get(running_var_ + j, lanes);
          put(running_mean_ + j, fma<T>(m, mean - old_mean, old_mean), lanes);
          put(running_var_ + j, fma<T>(m, all / vec<T>(T(rows - 1)) - old_var, old_var), lanes);
        });
  }
  void before_collect() override {
    if (!running_mean_) return;
    old_mean_.assign(running_mean_, running_mean_ + this->in);
    old_var_.assign(running_var_, running_var_ + this->in);
    old_batches_ = *batches_;
  }
  void collected(std::ptrdiff_t rows) override {
    if (batches_ && rows > 1) ++*batches_;
  }
  void undo() override {
    if (old_mean_.empty()) return;
    std::copy(old_mean_.begin(), old_mean_.end(), running_mean_);
    std::copy(old_var_.begin(), old_var_.end(), running_var_);
    *batches_ = old_batches_;
  }
  void collect_backward(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                        std::ptrdiff_t rows) override {
    each_register(
        part * columns, std::min(this->in, (part + 1) * columns), [&](auto j, auto lanes) {
          const vec<T> mean = get(mean_.data() + j, lanes), scale = get(scale_.data() + j, lanes),
                       shift = get(shift_.data() + j, lanes);
          block_sum<T> sum, dot;
          for (std::ptrdiff_t r = 0; r < rows; ++r) {
            const vec<T> g = get(dy.row(r) + j, lanes);
            sum.add(g);
            dot.add(g * normal(get(x.row(r) + j, lanes), mean, scale, shift));
          }
          put(sum_.data() + j, sum.lanes(), lanes);
          put(dot_.data() + j, dot.lanes(), lanes);
        });
  }

  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override {
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
      const vec<T> weight = this->weight(j, lanes), bias = this->bias(j, lanes);
      for (std::ptrdiff_t r = 0; r < p.n; ++r) {
        const vec<T> y_r = normal(get(x.row(r) + j, lanes), mean, scale, shift);
        put(y.row(r) + j, fma<T>(y_r, weight, bias), lanes);
      }
    });
  }
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override {
    if (frozen_) return backward_frozen(dy, dx, p.n);
    const vec<T> count = T(p.batch);
    each_register(0, this->in, [&](auto j, auto lanes) {
      const vec<T> mean = get(mean_.data() + j, lanes), scale = get(scale_.data() + j, lanes),
                   shift = get(shift_.data() + j, lanes);
      const vec<T> a = get(sum_.data() + j, lanes) / count, b = get(dot_.data() + j, lanes) / count;
      const vec<T> factor = this->weight(j, lanes) * scale;
      for (std::ptrdiff_t r = 0; r < p.n; ++r) {
        const vec<T> y_r = normal(get(x.row(r) + j, lanes), mean, scale, shift);
        put(dx.row(r) + j, factor * (get(dy.row(r) + j, lanes) - a - y_r * b), lanes);
      }
    });
  }
  void gradient(std::ptrdiff_t part, rows_of<const T>, rows_of<const T>, std::ptrdiff_t,
                bool add) const override {
    each_register(part * columns, std::min(this->in, (part + 1) * columns),
                  [&](auto j, auto lanes) {
                    this->give(this->weight_, j, get(dot_.data() + j, lanes), lanes, add);
                    this->give(this->bias_, j, get(sum_.data() + j, lanes), lanes, add);
                  });
  }

 private:
  bool frozen_;
  double momentum_;  // of the running means; negative: the mean over all batches
  T *running_mean_, *running_var_;
  std::int64_t* batches_;
  std::vector<T> mean_, scale_, shift_;  // of the batch
  std::vector<T> sum_, dot_;             // of dy, and of dy times the normalised x
  std::vector<T> old_mean_, old_var_;
  std::int64_t old_batches_ = 0;

  void collect_running(std::ptrdiff_t part) {
    each_register(part * columns, std::min(this->in, (part + 1) * columns),
                  [&](auto j, auto lanes) {
                    put(mean_.data() + j, get(running_mean_ + j, lanes), lanes);
                    put(scale_.data() + j, running_scale(j, lanes), lanes);
                  });
  }
  vec<T> running_scale(std::ptrdiff_t j, std::ptrdiff_t lanes) const {
    return vec<T>(T(1)) / sqrt(get(running_var_ + j, lanes) + vec<T>(T(this->eps_)));
  }
  void backward_frozen(rows_of<const T> dy, rows_of<T> dx, std::ptrdiff_t n) const {
    each_register(0, this->in, [&](auto j, auto lanes) {
      const vec<T> factor = this->weight(j, lanes) * running_scale(j, lanes);
      for (std::ptrdiff_t r = 0; r < n; ++r)
        put(dx.row(r) + j, factor * get(dy.row(r) + j, lanes), lanes);
    });
  }
};

// The rows of y of a layer by itself, as in training.
template <class T>
inline void normalize(layer<T>& l, rows_of<const T> x, rows_of<T> y, std::ptrdiff_t rows) {
  l.reserve(rows);
  l.before_collect();
  const double cost = l.cost() * double(rows);
  parallel_for(l.parts(), cost, [&](std::ptrdiff_t i) { l.collect(i, x, rows); });
  l.collected(rows);
  const std::ptrdiff_t block = block_of(rows);
  parallel_for(rows > 0 ? ceil_div(rows, block) : 0, 2 * cost, [&](std::ptrdiff_t b) {
    const std::ptrdiff_t begin = b * block, n = std::min(block, rows - begin);
    l.forward(x.from(begin), y.from(begin), {begin, n, rows, true, 0});
  });
}
// dx, and the gradients of its parameters.
template <class T>
inline void normalize_backward(layer<T>& l, rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                               std::ptrdiff_t rows) {
  normalize(l, x, dx, rows);  // what the layer keeps of x; dx is written again
  const double cost = l.cost() * double(rows);
  parallel_for(l.parts(), cost, [&](std::ptrdiff_t i) { l.collect_backward(i, dy, x, rows); });
  const std::ptrdiff_t block = block_of(rows);
  parallel_for(rows > 0 ? ceil_div(rows, block) : 0, 2 * cost, [&](std::ptrdiff_t b) {
    const std::ptrdiff_t begin = b * block, n = std::min(block, rows - begin);
    l.backward(dy.from(begin), x.from(begin), dx.from(begin), {begin, n, rows, true, 0});
  });
  parallel_for(l.parts(), cost, [&](std::ptrdiff_t i) { l.gradient(i, dy, x, rows, false); });
}

// Each element is 0 with probability p in training, and divided by 1 - p otherwise (Srivastava et
// al.: Dropout, JMLR 2014). Which ones are is a function of the step's key, the layer and the
// element alone, so nothing has to be kept for the way back.
template <class T>
class dropout_layer : public layer<T> {
 public:
  dropout_layer(std::ptrdiff_t width, double p, std::uint64_t number)
      : layer<T>(width, width), p_(p), number_(number) {}

  double cost() const override { return nanoseconds<T>(0.4, this->in); }
  double bound_forward(double x, double) const override { return p_ < 1 ? x / (1 - p_) : x; }
  double bound_backward(double dy, double) const override { return bound_forward(dy, 0); }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override {
    if (p.training) return drop(x, y, p);
    for (std::ptrdiff_t r = 0; r < p.n; ++r) std::copy(x.row(r), x.row(r) + this->in, y.row(r));
  }
  void backward(rows_of<const T> dy, rows_of<const T>, rows_of<T> dx,
                const pass& p) const override {
    drop(dy, dx, p);
  }

 private:
  double p_;
  std::uint64_t number_;

  // Mixes the bits of 32-bit numbers: each of them flips half of the others (Prospector's
  // lowbias32).
  using bits = vec<std::int32_t>;
  template <int N>
  static bits shift(bits x) {  // the sign does not come along
    return (x >> N) & bits(std::int32_t((1u << (32 - N)) - 1));
  }
  // The product modulo 2^32: that of signed numbers would overflow.
  static bits times(bits x, std::uint32_t factor) {
    typedef std::uint32_t words __attribute__((vector_size(register_bytes)));
    return (bits::native)((words)x.v * factor);
  }
  static bits mix(bits x) {
    x = x ^ shift<16>(x);
    x = times(x, 0x7feb352du);
    x = x ^ shift<15>(x);
    x = times(x, 0x846ca68bu);
    return x ^ shift<16>(x);
  }
  static std::uint64_t mix64(std::uint64_t x) {  // splitmix64
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }

  void drop(rows_of<const T> x, rows_of<T> y, const pass& p) const {
    constexpr std::ptrdiff_t w = bits::size;
    // At p = 1 nothing is kept; inf would make NaN of 0.
    const T kept = p_ < 1 ? T(1 / (1 - p_)) : T(0);
    // Kept where the number, uniform in [-2^31, 2^31), is not below this.
    const double bound = p_ * 4294967296.0 - 2147483648.0;
    const bool none = bound > 2147483647.0;
    const bits least = std::int32_t(none ? 2147483647.0 : bound);
    for (std::ptrdiff_t r = 0; r < p.n; ++r) {
      const std::uint64_t key = mix64(mix64(p.key + number_) + std::uint64_t(p.begin + r));
      const bits a = std::int32_t(std::uint32_t(key)), b = std::int32_t(std::uint32_t(key >> 32));
      const T* from = x.row(r);
      T* to = y.row(r);
      for (std::ptrdiff_t j = 0; j < this->in; j += w) {
        const bits at = iota<std::int32_t>() + bits(std::int32_t(j));
        const bits drawn = mix(mix(at ^ a) ^ b);
        std::int32_t keep[w];
        store(keep, drawn >= least);
        const std::ptrdiff_t n = std::min(w, this->in - j);
        for (std::ptrdiff_t i = 0; i < n; ++i)
          to[j + i] = keep[i] && !none ? from[j + i] * kept : T(0);
      }
    }
  }
};

}  // namespace dlcore
