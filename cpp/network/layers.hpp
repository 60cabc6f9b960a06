// A feed-forward network: layers that compute blocks of rows, made of the kernels.
//
// A layer sees a block of rows of its input and output at a time, each row contiguous and a step
// apart, so that blocks need nothing of each other: threads take blocks, and a block goes through
// all layers while the caches hold it.
#pragma once

#include <atomic>
#include <cmath>
#include <memory>
#include <vector>

#include "kernels/activations.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/gemm.hpp"

namespace dlcore {

// Rows of a matrix: `step` elements from one to the next.
template <class T>
struct rows_of {
  T* first;
  std::ptrdiff_t step;

  T* row(std::ptrdiff_t r) const { return first + r * step; }
  rows_of from(std::ptrdiff_t r) const { return {row(r), step}; }
};

// Elements from row to row of a matrix of our own: whole registers, and an odd number of cache
// lines, since rows an even one apart would crowd some sets of the first cache and leave others
// empty. A product that reads a panel of 256 such rows took up to 1.6 times as long.
template <class T>
inline std::ptrdiff_t row_step(std::ptrdiff_t width) {
  constexpr std::ptrdiff_t line = 64 / std::ptrdiff_t(sizeof(T));
  return (ceil_div(width, line) | 1) * line;
}

template <class T>
inline bool all_finite(const T* x, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  const vec<T> zero = T(0);
  vec<T> sum = zero;  // of x - x: 0, or NaN
  std::ptrdiff_t i = 0;
  for (; i + w <= n; i += w) {
    const vec<T> v = load<T>(x + i);
    sum += v - v;
  }
  if (i < n) {
    const vec<T> v = load_part<T>(x + i, n - i);
    sum += v - v;
  }
  return !any(sum != zero);
}

// The sum of squares, in double.
template <class T>
__attribute__((noinline)) double squares_of(const T* x, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  vec<double> sum[wide_parts<T>] = {};
  const auto add = [&](vec<T> v) {
    for (int part = 0; part < wide_parts<T>; ++part) {
      const vec<double> d = widen(v, part);
      sum[part] = fma<double>(d, d, sum[part]);
    }
  };
  std::ptrdiff_t i = 0;
  for (; i + w <= n; i += w) add(load<T>(x + i));
  if (i < n) add(load_part<T>(x + i, n - i));
  double all = 0;
  for (const vec<double>& part : sum) all += reduce_add(part);
  return all;
}

// A parameter and the gradient of it; no gradient where it is not trained.
template <class T>
struct tensor {
  T* value = nullptr;
  T* gradient = nullptr;
  std::ptrdiff_t size = 0;
};

// Up to so many rows threads share the outputs of a layer and pack the weights of their own as they
// go: for one row of 784-1024-1024-10 a fourth of the time that packing all of them first took.
inline constexpr std::ptrdiff_t few_rows = 64;

// Rows [begin, begin + n) of a batch on their way through the layers.
struct pass {
  std::ptrdiff_t begin, n, batch;
  bool training;
  std::uint64_t key;  // of this step's random numbers
};

template <class T>
class layer {
 public:
  const std::ptrdiff_t in, out;

  layer(std::ptrdiff_t in, std::ptrdiff_t out) : in(in), out(out) {}
  layer(const layer&) = delete;
  virtual ~layer() = default;

  // What a row costs forward, in nanoseconds, roughly; the gradients cost as much each.
  virtual double cost() const = 0;
  // Makes room for what training keeps of a batch.
  virtual void reserve(std::ptrdiff_t) {}
  // The rows of y from x.
  virtual void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const = 0;
  // The rows of dx from dy, which may be the same memory where in == out.
  virtual void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                        const pass& p) const = 0;
  // The rows of y from at most few_rows of x, without `prepare_forward`, to the same bits.
  virtual void forward_few(rows_of<const T> x, rows_of<T> y, const pass& p) const {
    forward(x, y, p);
  }
  // The largest absolute values that y, and dx, can have, given those of x, or dy, and of the
  // parameters; up to rounding.
  virtual double bound_forward(double, double) const { return HUGE_VAL; }
  virtual double bound_backward(double, double) const { return HUGE_VAL; }
  // Its part of the way is done by a neighbour: y is x, or dx is dy.
  virtual bool done_forward() const { return false; }
  virtual bool done_backward() const { return false; }
  // Whether dx may be written over dy.
  virtual bool in_place() const { return true; }
  // Whether y may be written over x, since `backward` makes as much of y.
  virtual bool over_input() const { return false; }

  virtual std::vector<tensor<T>*> parameters() { return {}; }
  bool learns() {
    for (const tensor<T>* p : parameters())
      if (p->gradient) return true;
    return false;
  }
  // The gradients of the parameters, and what follows from their values, in parts that are
  // independent of each other: the same ones each time.
  virtual std::ptrdiff_t parts() const { return 0; }
  // From `rows` rows. `sum`: add to the gradient that is there.
  virtual void gradient(std::ptrdiff_t, rows_of<const T>, rows_of<const T>, std::ptrdiff_t,
                        bool) const {}
  // The same to other memory, weights and biases, where a layer can; these gradients are at most
  // the number of rows times the largest dy times the largest x (or 1).
  virtual bool has_gradient_to() const { return false; }
  virtual void gradient_to(std::ptrdiff_t, rows_of<const T>, rows_of<const T>, std::ptrdiff_t, T*,
                           T*) const {}
  // The elements of parameters that a part consists of.
  struct span {
    tensor<T>* of;
    std::ptrdiff_t begin, end;
  };
  virtual std::vector<span> spans(std::ptrdiff_t) { return {}; }
  // Takes over the values of a part's parameters as they are now: for the way forward, and for
  // both.
  virtual void prepare_forward(std::ptrdiff_t) {}
  // Makes the parameters of a part keep to what is asked of them, after an update.
  virtual void constrain(std::ptrdiff_t) const {}
  virtual void prepare(std::ptrdiff_t part) { prepare_forward(part); }

  // Whether rows depend on the whole batch: then all parts `collect` what they need of it before
  // the rows go forward, and before they go back.
  virtual bool of_batch() const { return false; }
  virtual void collect(std::ptrdiff_t, rows_of<const T>, std::ptrdiff_t) {}
  virtual void before_collect() {}
  virtual void collected(std::ptrdiff_t) {}
  // Forgets what was collected of this batch for later.
  virtual void undo() {}
  virtual void collect_backward(std::ptrdiff_t, rows_of<const T>, rows_of<const T>,
                                std::ptrdiff_t) {}
};

// ---- Linear -------------------------------------------------------------------------------------

// y = x W^T + b, W of shape out x in.
template <class T>
class linear_layer : public layer<T> {
 public:
  using layer<T>::in;
  using layer<T>::out;
  using span = typename layer<T>::span;

  // `max_norm`: of the weights of each output; 0: any.
  linear_layer(std::ptrdiff_t in, std::ptrdiff_t out, T* weight, T* bias, double max_norm = 0)
      : layer<T>(in, out),
        max_norm(max_norm),
        weight_{weight, nullptr, in * out},
        bias_{bias, nullptr, bias ? out : 0},
        part_(even_chunk(out, std::clamp<std::ptrdiff_t>(out / 8, panel, 2 * panel), panel)),
        transposed_(new vec<T>[ceil_div(out, panel) * in * tile_registers]) {
    // Rows of the weights that crowd the first cache are not read where they lie.
    if (in * std::ptrdiff_t(sizeof(T)) % 512 == 0 && in > 0) keep_straight();
  }

  const double max_norm;

  // The weights as the products take them: by panels of outputs, in x panel elements each.
  static constexpr std::ptrdiff_t panel = panel_columns<T>;
  T* transposed() const { return reinterpret_cast<T*>(transposed_.get()); }
  // By panels of inputs, out x panel elements each; null: they are read where they lie.
  T* straight() const { return reinterpret_cast<T*>(straight_.get()); }
  void keep_straight() {
    if (!straight_) straight_.reset(new vec<T>[ceil_div(in, panel) * out * tile_registers]);
  }

  // For gradients without parameters to train.
  void set_gradients(T* weight, T* bias) {
    weight_.gradient = weight;
    bias_.gradient = bias;
  }

  double cost() const override { return double(in) * double(out) * double(sizeof(T)) / 200; }
  bool in_place() const override { return false; }
  std::vector<tensor<T>*> parameters() override {
    std::vector<tensor<T>*> all{&weight_};
    if (bias_.value) all.push_back(&bias_);
    return all;
  }

  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override {
    forward_columns(x, y, p.n, 0, out, transposed());
  }
  void forward_few(rows_of<const T> x, rows_of<T> y, const pass& p) const override {
    // Mostly the time to read the weights.
    const double cost = nanoseconds<T>(0.12, in * out) + double(p.n) * this->cost();
    parallel_for(ceil_div(out, panel), cost, [&](std::ptrdiff_t i) {
      struct tag;
      const std::ptrdiff_t begin = i * panel, end = std::min(out, begin + panel);
      T* packed = thread_buffer<T, tag>(panel * in + vec<T>::size);
      pack_outputs(begin, end, packed);
      forward_columns(x, y, p.n, begin, end - begin, packed);
    });
  }
  double bound_forward(double x, double parameter) const override {
    return (double(in) * x + 1) * parameter;
  }
  double bound_backward(double dy, double parameter) const override {
    return double(out) * dy * parameter;
  }
  // Does the way forward of a ReLU that takes its outputs, or the way back of one that makes its
  // inputs.
  void rectify_outputs() { rectifies_outputs_ = true; }
  void rectify_inputs() { rectifies_inputs_ = true; }
  // Some columns of y, from a multiple of a panel on, whose weights are `packed`.
  __attribute__((noinline)) void forward_columns(rows_of<const T> x, rows_of<T> y, std::ptrdiff_t n,
                                                 std::ptrdiff_t begin, std::ptrdiff_t count,
                                                 const T* packed) const {
    product<T>(
        n, count, in, transposing(x),
        [&](std::ptrdiff_t j, std::ptrdiff_t columns, std::ptrdiff_t p, std::ptrdiff_t) {
          return dlcore::panel<T>{packed + j * in + p * panel, panel, columns, true};
        },
        y.first + begin, y.step, bias_.value ? bias_.value + begin : nullptr,
        rectifies_outputs_ ? finish<T>{T(0)} : finish<T>{});
  }

  // dx = dy W
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override {
    finish<T> last;
    if (rectifies_inputs_) last.gate = x.first, last.gate_step = x.step;
    backward_columns(dy, dx, p.n, 0, in, last);
  }
  __attribute__((noinline)) void backward_columns(rows_of<const T> dy, rows_of<T> dx,
                                                  std::ptrdiff_t n, std::ptrdiff_t begin,
                                                  std::ptrdiff_t count,
                                                  const finish<T>& last = {}) const {
    const T* packed = straight();
    product<T>(
        n, count, out, transposing(dy),
        [&](std::ptrdiff_t j, std::ptrdiff_t columns, std::ptrdiff_t p, std::ptrdiff_t) {
          return packed ? dlcore::panel<T>{packed + (begin + j) * out + p * panel, panel, columns,
                                           true}
                        : dlcore::panel<T>{weight_.value + p * in + begin + j, in, columns, false};
        },
        dx.first + begin, dx.step, nullptr, last);
  }

  std::ptrdiff_t parts() const override { return ceil_div(out, part_); }

  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                bool sum) const override {
    const std::ptrdiff_t begin = part * part_, m = std::min(part_, out - begin);
    T* dw = weight_.gradient ? weight_.gradient + begin * in : nullptr;
    T* db = bias_.gradient ? bias_.gradient + begin : nullptr;
    if (!sum) return gradient_to(part, dy, x, rows, dw, db);
    struct tag;
    T* fresh = thread_buffer<T, tag>((in + 1) * m);
    gradient_to(part, dy, x, rows, dw ? fresh : nullptr, db ? fresh + in * m : nullptr);
    const auto add = [](vec<T> a, vec<T> b) { return a + b; };
    if (dw) map_run<T>(add, dw, m * in, 0, dw, fresh);
    if (db) map_run<T>(add, db, m, 0, db, fresh + in * m);
  }
  bool has_gradient_to() const override { return true; }
  // The sums of columns of dy.
  static void sum_columns(rows_of<const T> dy, std::ptrdiff_t begin, std::ptrdiff_t m,
                          std::ptrdiff_t rows, T* db) {
    constexpr std::ptrdiff_t w = vec<T>::size;
    for (std::ptrdiff_t j = 0; j < m; j += w) {
      const std::ptrdiff_t lanes = std::min(w, m - j);
      const auto get = [&](const T* p) { return lanes == w ? load<T>(p) : load_part<T>(p, lanes); };
      vec<T> sums[4] = {T(0), T(0), T(0), T(0)};  // enough of them in flight
      for (std::ptrdiff_t r = 0; r < rows; ++r) sums[r % 4] += get(dy.row(r) + begin + j);
      const vec<T> all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
      if (lanes == w) store<T>(db + j, all);
      else store_part<T>(db + j, all, lanes);
    }
  }
  // dW = dy^T x and db, the sums of dy, of a part; each unless null.
  void gradient_to(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                   std::ptrdiff_t rows, T* dw, T* db) const override {
    const std::ptrdiff_t begin = part * part_, m = std::min(part_, out - begin);
    if (dw)
      product<T>(
          m, in, rows,
          [&](std::ptrdiff_t i, std::ptrdiff_t n, std::ptrdiff_t height, std::ptrdiff_t p,
              std::ptrdiff_t terms, T* tile) {
            return tile_of_columns<T>(dy.row(p) + begin + i, dy.step, n, height, terms,
                                      ceil_div(in, panel), tile);
          },
          [&](std::ptrdiff_t j, std::ptrdiff_t columns, std::ptrdiff_t p, std::ptrdiff_t) {
            return dlcore::panel<T>{x.row(p) + j, x.step, columns, false};
          },
          dw, in, nullptr);
    if (db) sum_columns(dy, begin, m, rows, db);
  }

  std::vector<span> spans(std::ptrdiff_t part) override {
    const std::ptrdiff_t begin = part * part_, end = std::min(out, begin + part_);
    std::vector<span> all;
    if (weight_.gradient) all.push_back({&weight_, begin * in, end * in});
    if (bias_.gradient) all.push_back({&bias_, begin, end});
    return all;
  }

  void constrain(std::ptrdiff_t part) const override {
    if (max_norm == 0 || !weight_.gradient) return;
    const std::ptrdiff_t begin = part * part_, end = std::min(out, begin + part_);
    for (std::ptrdiff_t i = begin; i < end; ++i) {
      T* row = weight_.value + i * in;
      const double norm = std::sqrt(squares_of(row, in));
      if (!(norm > max_norm)) continue;
      const vec<T> factor = T(max_norm / norm);
      map_run<T>([=](vec<T> x) { return x * factor; }, row, in, 0, row);
    }
  }
  // Packs the weights of outputs [begin, end), from a multiple of a panel on.
  __attribute__((noinline)) void pack_outputs(std::ptrdiff_t begin, std::ptrdiff_t end,
                                              T* to) const {
    for (std::ptrdiff_t j = begin; j < end; j += panel, to += panel * in)
      pack_transposed<T>([&](std::ptrdiff_t r) { return weight_.value + (j + r) * in; },
                         std::min(panel, end - j), panel, in, to);
  }
  // Packs a part of the weights for the way back, where they are not read where they lie.
  bool packs_inputs() const { return bool(straight_); }
  void pack_inputs(std::ptrdiff_t part) {
    if (!straight_) return;
    const std::ptrdiff_t begin = part * part_, end = std::min(out, begin + part_);
    for (std::ptrdiff_t j = 0; j < in; j += panel)
      pack_straight<T>([&](std::ptrdiff_t r) { return weight_.value + (begin + r) * in + j; },
                       std::min(panel, in - j), panel, end - begin,
                       straight() + j * out + begin * panel);
  }
  void prepare_forward(std::ptrdiff_t part) override {
    const std::ptrdiff_t begin = part * part_, end = std::min(out, begin + part_);
    pack_outputs(begin, end, transposed() + begin * in);
  }
  void prepare(std::ptrdiff_t part) override {
    prepare_forward(part);
    pack_inputs(part);
  }

 private:
  tensor<T> weight_, bias_;
  std::ptrdiff_t part_;  // rows of the weights in a part
  std::unique_ptr<vec<T>[]> transposed_, straight_;
  bool rectifies_outputs_ = false, rectifies_inputs_ = false;

  static auto transposing(rows_of<const T> x) {
    return [x](std::ptrdiff_t i, std::ptrdiff_t rows, std::ptrdiff_t height, std::ptrdiff_t p,
               std::ptrdiff_t terms,
               T* to) { return tile_of_rows<T>(x.row(i) + p, x.step, rows, height, terms, to); };
  }
};

// ---- activations --------------------------------------------------------------------------------

template <class T>
class activation_layer : public layer<T> {
 public:
  activation_layer(std::ptrdiff_t width, const activation_spec& spec)
      : layer<T>(width, width),
        spec_(spec),
        forward_run_(forward_of<T>(spec.kind)),
        backward_run_(backward_of<T>(spec.kind)) {}

  bool is_relu() const { return spec_.kind == activation_kind::relu; }
  double cost() const override { return nanoseconds<T>(dlcore::cost(spec_.kind), this->in); }
  bool over_input() const override { return is_relu(); }
  double bound_forward(double x, double) const override {
    T at_zero = 0;
    forward_run_(spec_.options, &at_zero, 1, 0, &at_zero);
    return std::abs(double(at_zero)) + lipschitz(spec_) * x;
  }
  double bound_backward(double dy, double) const override { return lipschitz(spec_) * dy; }
  bool done_forward() const override { return done_forward_; }
  bool done_backward() const override { return done_backward_; }
  void leave_forward() { done_forward_ = true; }
  void leave_backward() { done_backward_ = true; }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override {
    each_run(
        x.step == y.step, p.n,
        [&](std::ptrdiff_t r, std::ptrdiff_t m) {
          forward_run_(spec_.options, y.row(r), m, 0, x.row(r));
        },
        x.step);
  }
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override {
    each_run(
        x.step == dy.step && x.step == dx.step, p.n,
        [&](std::ptrdiff_t r, std::ptrdiff_t m) {
          backward_run_(spec_.options, dx.row(r), m, 0, dy.row(r), x.row(r));
        },
        x.step);
  }

 private:
  activation_spec spec_;
  activation_forward_run<T> forward_run_;
  activation_backward_run<T> backward_run_;
  bool done_forward_ = false, done_backward_ = false;

  // Whole blocks at once where nothing lies between their rows.
  template <class F>
  void each_run(bool same_step, std::ptrdiff_t n, const F& f, std::ptrdiff_t step) const {
    const bool whole = same_step && step == this->in;
    const std::ptrdiff_t runs = whole ? std::min<std::ptrdiff_t>(n, 1) : n;
    for (std::ptrdiff_t r = 0; r < runs; ++r) f(r, whole ? n * this->in : this->in);
  }
};

// ---- the layers in a row ------------------------------------------------------------------------

// Rows of a block: enough of them to use what the caches hold of the weights, and enough blocks for
// several threads. A function of the number of rows alone.
inline std::ptrdiff_t block_of(std::ptrdiff_t rows) {
  return even_chunk(rows, std::clamp<std::ptrdiff_t>(ceil_div(rows, 4), 32, 64), 2);
}

template <class T>
class network {
 public:
  std::vector<std::unique_ptr<layer<T>>> layers;

  std::ptrdiff_t in() const { return layers.front()->in; }
  std::ptrdiff_t out() const { return layers.back()->out; }
  double cost() const {
    double sum = 0;
    for (const auto& l : layers) sum += l->cost();
    return sum;
  }

  // Once all layers are there: what products do of the layers around them as they write.
  void fuse() {
    for (std::size_t l = 0; l < layers.size(); ++l) {
      auto* own = dynamic_cast<activation_layer<T>*>(layers[l].get());
      if (!own || !own->is_relu()) continue;
      const auto linear = [&](std::size_t i) {
        return i < layers.size() ? dynamic_cast<linear_layer<T>*>(layers[i].get()) : nullptr;
      };
      if (auto* below = linear(l - 1)) below->rectify_outputs(), own->leave_forward();
      if (auto* above = linear(l + 1)) above->rectify_inputs(), own->leave_backward();
    }
  }

  // The parts of all layers, in one row.
  struct part {
    layer<T>* of;
    std::size_t index;  // of the layer
    std::ptrdiff_t number;
  };
  std::vector<part> parts() const {
    std::vector<part> all;
    for (std::size_t l = 0; l < layers.size(); ++l)
      for (std::ptrdiff_t i = 0; i < layers[l]->parts(); ++i)
        all.push_back({layers[l].get(), l, i});
    return all;
  }

  // Takes over the values of the parameters as they are now.
  void prepare() {
    each_part([](layer<T>& l, std::ptrdiff_t part) { l.prepare(part); });
  }
  void prepare_forward() {
    each_part([](layer<T>& l, std::ptrdiff_t part) { l.prepare_forward(part); });
  }

  // Outputs of `rows` rows. `check`: whether all of x is finite, looked at while it is at hand;
  // else true.
  bool infer(rows_of<const T> x, rows_of<T> y, std::ptrdiff_t rows, bool check) {
    std::atomic<bool> finite{true};
    const bool few = rows <= few_rows;
    if (!few) prepare_forward();
    const std::ptrdiff_t block = few ? std::max<std::ptrdiff_t>(rows, 1) : block_of(rows);
    std::ptrdiff_t widest = 0;
    for (const auto& l : layers) widest = std::max(widest, row_step<T>(l->out));
    const auto infer_block = [&](std::ptrdiff_t b) {
      struct tag;
      const std::ptrdiff_t begin = b * block, n = std::min(block, rows - begin);
      T* buffer = thread_buffer<T, tag>(2 * block * widest);
      T* other = buffer + block * widest;
      rows_of<const T> from = x.from(begin);
      for (std::ptrdiff_t r = 0; check && r < n; ++r)
        if (!all_finite(from.row(r), in())) return finite.store(false, std::memory_order_relaxed);
      std::size_t count = layers.size();
      while (layers[count - 1]->done_forward()) --count;
      for (std::size_t l = 0; l < count; ++l) {
        if (layers[l]->done_forward()) continue;
        const std::ptrdiff_t width = layers[l]->out;
        const bool last = l + 1 == count;
        const rows_of<T> to = last ? y.from(begin) : rows_of<T>{buffer, row_step<T>(width)};
        const pass p{begin, n, rows, false, 0};
        if (few) layers[l]->forward_few(from, to, p);
        else layers[l]->forward(from, to, p);
        from = {to.first, to.step};
        std::swap(buffer, other);
      }
    };
    // Few rows share threads within the layers.
    if (few && rows > 0) infer_block(0);
    else parallel_for(ceil_div(rows, block), cost() * double(rows), infer_block);
    return finite.load();
  }

 private:
  template <class F>
  void each_part(const F& f) {
    const std::vector<part> all = parts();
    parallel_for(std::ptrdiff_t(all.size()), cost() * 8,
                 [&](std::ptrdiff_t i) { f(*all[i].of, all[i].number); });
  }
};

}  // namespace dlcore
