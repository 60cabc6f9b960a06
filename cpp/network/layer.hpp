// A layer of a feed-forward network computes blocks of rows.
//
// It sees a block of rows of its input and output at a time, each row contiguous and a step apart,
// so that blocks need nothing of each other: threads take blocks, and a block goes through all
// layers while the caches hold it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>

#include "network/ranks.hpp"
#include "network/rows.hpp"
#include "network/spec.hpp"

namespace dlcore {

// Up to so many rows threads share the outputs of a layer and pack the weights of their own as they
// go: for one row of 784-1024-1024-10 a fourth of the time that packing all of them first took.
inline constexpr std::ptrdiff_t few_rows = 64;

// Rows [begin, begin + n) of a batch on their way through the layers.
struct pass {
  std::ptrdiff_t begin, n, batch;
  bool training;
  std::uint64_t key;                      // of this step's random numbers
  std::atomic<bool>* bad_code = nullptr;  // set by a value that is no category
};

// What the largest absolute value becomes of one that is at most x, up to rounding.
struct growth {
  double slope = 1, offset = HUGE_VAL;  // infinite: there is no bound
  bool by_parameter = false;            // times the largest absolute parameter
  double least_parameter = 0;           // which counts as this if it is smaller

  double operator()(double x, double parameter) const {
    const double y = slope == 0 ? offset : slope * x + offset;  // even of an infinite x
    return by_parameter ? y * std::max(parameter, least_parameter) : y;
  }
};

// Statistics of a layer whose rows depend on the whole batch: all parts collect what they need of
// it before the rows go forward, and before they go back.
template <class T>
class batch_statistics {
 public:
  virtual void begin_batch() = 0;
  virtual void collect(std::ptrdiff_t part, rows_of<const T> x, std::ptrdiff_t rows) = 0;
  virtual void end_batch(std::ptrdiff_t rows) = 0;
  virtual void collect_backward(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                                std::ptrdiff_t rows) = 0;
  virtual void end_backward(std::ptrdiff_t /*rows*/) {}
  // Forgets what was collected of the last batch for later.
  virtual void restore() = 0;

 protected:
  ~batch_statistics() = default;
};

template <class T>
class layer {
 public:
  const std::ptrdiff_t in, out;
  tensor<T> weight, bias;  // no value: there is none
  // What a row costs forward, in nanoseconds, roughly; the gradients cost as much each.
  double cost = 0;
  growth forward_growth, backward_growth;
  bool dx_over_dy = true;  // dx may be written over dy
  bool y_over_x = false;   // y may be written over x, since `backward` makes as much of y
  // Elements of the gradient are at most the number of rows times the largest dy times this of the
  // largest x, or 1.
  growth gradient_growth;
  // All of that holds for inputs up to this size.
  double largest_input = HUGE_VAL;
  // Rows of y for each row of x, where its members begin to have rows of their own; and of x for
  // each row of y, where they end.
  std::ptrdiff_t expansion = 1, contraction = 1;
  // A neighbour does its part of the way: y is x, or dx is dy.
  bool fused_forward = false, fused_backward = false;
  batch_statistics<T>* statistics = nullptr;  // where rows depend on the whole batch

  layer(std::ptrdiff_t in, std::ptrdiff_t out) : in(in), out(out) {}
  layer(const layer&) = delete;
  virtual ~layer() = default;

  bool learns() const { return weight.gradient || bias.gradient; }
  bool bounds_gradient() const { return gradient_growth.offset < HUGE_VAL; }
  // f(parameter) of each one that is there.
  template <class F>
  void each_parameter(const F& f) {
    if (weight.value) f(weight);
    if (bias.value) f(bias);
  }

  // Parameters, and what follows from their values, come in parts that are independent of each
  // other, always the same ones: some outputs each.
  virtual std::ptrdiff_t parts() const { return part_outputs_ ? ceil_div(out, part_outputs_) : 0; }
  struct range {
    std::ptrdiff_t begin, end;
    std::ptrdiff_t size() const { return end - begin; }
  };
  virtual range outputs_of(std::ptrdiff_t part) const {
    return {part * part_outputs_, std::min(out, (part + 1) * part_outputs_)};
  }
  virtual range weights_of(std::ptrdiff_t part) const {
    const range outputs = outputs_of(part);
    const std::ptrdiff_t row = out ? weight.size / out : 0;
    return {outputs.begin * row, outputs.end * row};
  }

  // Makes room for what training keeps of a batch.
  virtual void reserve(std::ptrdiff_t /*batch*/) {}
  // What `gradient` reads of rows [begin, end) of a batch beside x and dy, which a rank has kept;
  // and then that of all `rows` rows is here.
  virtual void add_kept(ranks::message& /*m*/, std::ptrdiff_t /*owner*/, std::ptrdiff_t /*begin*/,
                        std::ptrdiff_t /*end*/) const {}
  virtual void take_kept(std::ptrdiff_t /*rows*/) const {}
  // The rows of y from x.
  virtual void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const = 0;
  // The rows of y from at most few_rows of x, without `pack`, to the same bits.
  virtual void forward_few(rows_of<const T> x, rows_of<T> y, const pass& p) const {
    forward(x, y, p);
  }
  // The rows of dx from dy, which may be the same memory where `dx_over_dy`.
  virtual void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                        const pass& p) const = 0;
  // The gradients of a part's weights and biases from `rows` rows, each unless null. `add`: to what
  // is there.
  virtual void gradient(std::ptrdiff_t /*part*/, rows_of<const T> /*dy*/, rows_of<const T> /*x*/,
                        std::ptrdiff_t /*rows*/, T* /*dw*/, T* /*db*/, bool /*add*/) const {}
  // Makes the parameters of a part keep to what is asked of them, after an update.
  virtual void constrain(std::ptrdiff_t /*part*/) const {}
  // From now on the values that were packed last are those of the parameters.
  virtual void keep_packed() {}
  // Takes over the values of a part's parameters as they are now, for the way back as well or not.
  virtual void pack(std::ptrdiff_t /*part*/, bool /*for_backward*/) {}

 protected:
  std::ptrdiff_t part_outputs_ = 0;
};

}  // namespace dlcore
