// The losses of a training step: of blocks of rows, with their gradient, made of the loss kernels.
#pragma once

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "core/labels.hpp"
#include "core/workspace.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/losses.hpp"
#include "network/rows.hpp"

namespace dlcore {

// The targets of a block of rows.
template <class T>
struct block_of_targets {
  const std::int64_t* labels;
  const T* values;
};

template <class T>
class block_loss {
 public:
  virtual ~block_loss() = default;
  // Targets are class indices.
  virtual bool takes_labels() const { return false; }
  // The sum of the losses of n rows, or in `losses` each of them (`values_of_row` for a row); the
  // gradient, times scale.
  virtual double run(rows_of<const T> outputs, const block_of_targets<T>& target, std::ptrdiff_t n,
                     double scale, T* losses, rows_of<T> gradient) const = 0;
  // Losses of a row, whose mean is the loss of the row.
  virtual std::ptrdiff_t values_of_row() const { return 1; }
  // What each of several losses counts in the next batch; null: 1.
  virtual void begin_batch(const double*) {}
  // The first row whose label is out of range, or -1.
  virtual std::ptrdiff_t bad_label(const std::int64_t*, std::ptrdiff_t) const { return -1; }
};

template <class T>
inline view view_of_rows(const T* first, std::ptrdiff_t n, std::ptrdiff_t width,
                         std::ptrdiff_t step) {
  view v;
  v.data = reinterpret_cast<char*>(const_cast<T*>(first));
  v.ndim = 2;
  v.shape[0] = n, v.shape[1] = width;
  v.strides[0] = step * std::ptrdiff_t(sizeof(T)), v.strides[1] = sizeof(T);
  return v;
}
template <class T>
inline row_view row_view_of_rows(const T* first, std::ptrdiff_t n, std::ptrdiff_t step) {
  row_view v;
  v.class_stride = sizeof(T);
  v.rows.data = reinterpret_cast<char*>(const_cast<T*>(first));
  v.rows.ndim = 1;
  v.rows.shape[0] = n;
  v.rows.strides[0] = step * std::ptrdiff_t(sizeof(T));
  return v;
}
template <class T>
inline view view_of_run(T* first, std::ptrdiff_t n) {
  view v;
  v.data = reinterpret_cast<char*>(first);
  v.ndim = 1;
  v.shape[0] = n;
  v.strides[0] = sizeof(T);
  return v;
}

template <class T>
class cross_entropy_loss : public block_loss<T> {
 public:
  cross_entropy_loss(std::ptrdiff_t classes, bool labels, std::vector<T> weight,
                     std::ptrdiff_t ignore_index, double label_smoothing)
      : classes_(classes),
        labels_(labels),
        weight_(std::move(weight)),
        options_{weight_.empty() ? nullptr : weight_.data(), double(classes), label_smoothing,
                 ignore_index, 1.0} {
    if (!weight_.empty()) {
      std::vector<double> wide(weight_.begin(), weight_.end());
      options_.weight_sum = tree_sum(wide.data(), std::ptrdiff_t(wide.size()));
    }
  }
  bool takes_labels() const override { return labels_; }
  std::ptrdiff_t bad_label(const std::int64_t* labels, std::ptrdiff_t n) const override {
    if (!labels_) return -1;
    for (std::ptrdiff_t i = 0; i < n; ++i)
      if (labels[i] != options_.ignore_index && std::uint64_t(labels[i]) >= std::uint64_t(classes_))
        return i;
    return -1;
  }

  double run(rows_of<const T> outputs, const block_of_targets<T>& target, std::ptrdiff_t n,
             double scale, T* losses, rows_of<T> gradient) const override {
    row_loss_options<T> options = options_;
    options.scale = scale;
    const view each = losses ? view_of_run(losses, n) : view();
    const row_shape shape{n, classes_, true};
    const row_view x = row_view_of_rows(outputs.first, n, outputs.step);
    const row_view dx = row_view_of_rows(gradient.first, n, gradient.step);
    if (!labels_)
      return cross_entropy<T>(shape, {x, row_view_of_rows(target.values, n, classes_), dx}, options,
                              each, serial_for);
    index_view labels;
    labels.rows = view_of_run(const_cast<std::int64_t*>(target.labels), n);
    return cross_entropy<T>(shape, {x, dx}, labels, options, each, serial_for);
  }

 private:
  std::ptrdiff_t classes_;
  bool labels_;
  std::vector<T> weight_;
  row_loss_options<T> options_;
};

// An elementwise loss; `further`: the third input of the kernel for each column, where it has one.
template <class T>
class value_loss : public block_loss<T> {
 public:
  value_loss(std::ptrdiff_t width, const loss_spec& spec, std::vector<T> further = {})
      : width_(width), spec_(spec), further_(std::move(further)) {}
  std::ptrdiff_t values_of_row() const override { return width_; }

  double run(rows_of<const T> outputs, const block_of_targets<T>& target, std::ptrdiff_t n,
             double scale, T* losses, rows_of<T> gradient) const override {
    loss_operands operands;
    operands.add_input(view_of_rows(outputs.first, n, width_, outputs.step));
    operands.add_input(view_of_rows(target.values, n, width_, width_));
    if (info(spec_.kind).further) operands.add_input(view_of_rows(further_.data(), n, width_, 0));
    operands.add_outputs(losses ? view_of_rows<T>(losses, n, width_, width_) : view(),
                         view_of_rows<T>(gradient.first, n, width_, gradient.step));
    return elementwise_loss<T>(spec_, operands, scale, serial_for);
  }

 private:
  std::ptrdiff_t width_;
  loss_spec spec_;
  std::vector<T> further_;
};

// (1 - p)^gamma l of a loss l = -log p, unweighted: little for what is nearly right already.
template <class T>
class focal_loss : public block_loss<T> {
 public:
  focal_loss(std::unique_ptr<block_loss<T>> of, std::ptrdiff_t width, double gamma)
      : of_(std::move(of)), width_(width), gamma_(gamma) {}
  bool takes_labels() const override { return of_->takes_labels(); }
  std::ptrdiff_t values_of_row() const override { return of_->values_of_row(); }
  std::ptrdiff_t bad_label(const std::int64_t* labels, std::ptrdiff_t n) const override {
    return of_->bad_label(labels, n);
  }

  double run(rows_of<const T> outputs, const block_of_targets<T>& target, std::ptrdiff_t n,
             double scale, T* losses, rows_of<T> gradient) const override {
    struct tag;
    const std::ptrdiff_t values = values_of_row(), columns = width_ / values;
    T* own = losses ? losses : thread_buffer<T, tag>(n * values);
    of_->run(outputs, target, n, scale, own, gradient);
    double sum = 0;
    for (std::ptrdiff_t i = 0; i < n * values; ++i) {
      const double l = double(own[i]), wrong = -std::expm1(-l);  // 1 - p
      // d(loss)/dl; 0 where nothing is wrong, as gamma > 0. e^-l l of an infinite l is 0.
      const double power = wrong > 0 ? std::pow(wrong, gamma_) : wrong;
      const double derivative =
          wrong > 0 ? power + gamma_ * power / wrong * std::exp(-l) * std::min(l, 1e3) : wrong;
      own[i] = T(power * l);
      sum += power * l;
      T* to = gradient.row(i / values) + i % values * columns;
      for (std::ptrdiff_t k = 0; k < columns; ++k) to[k] = T(double(to[k]) * derivative);
    }
    return sum;
  }

 private:
  std::unique_ptr<block_loss<T>> of_;
  std::ptrdiff_t width_;
  double gamma_;
};

// Several losses, each of some columns of the outputs and of the targets (class indices are read
// as numbers): their weighted sum. A target with NaN is missing: its loss and gradient are 0.
template <class T>
class joint_loss : public block_loss<T> {
 public:
  struct part {
    std::unique_ptr<block_loss<T>> loss;
    std::ptrdiff_t width, target_width;
    double weight;
  };
  joint_loss(std::vector<part> parts, std::ptrdiff_t width)
      : parts_(std::move(parts)), width_(width) {}

  void begin_batch(const double* factors) override { factors_ = factors; }
  double run(rows_of<const T> outputs, const block_of_targets<T>& target, std::ptrdiff_t n,
             double scale, T* losses, rows_of<T> gradient) const override {
    double sum = 0;
    std::ptrdiff_t column = 0, target_column = 0;
    if (losses) std::fill_n(losses, n, T(0));
    for (std::size_t k = 0; k < parts_.size(); ++k) {
      struct tag;
      struct labels_tag;
      const part& p = parts_[k];
      const std::ptrdiff_t values = p.loss->values_of_row();
      const double share = p.weight / double(values) * (factors_ ? factors_[k] : 1.0);
      auto* labels = thread_buffer<std::int64_t, labels_tag>(n);
      T* of_rows = thread_buffer<T, tag>(n * (values + p.target_width + 1));
      T* missing = of_rows + n * p.target_width;
      T* own = missing + n;
      for (std::ptrdiff_t i = 0; i < n; ++i) {
        const T* from = target.values + i * width_ + target_column;
        T* to = of_rows + i * p.target_width;
        std::copy(from, from + p.target_width, to);
        // A loss that weighs nothing adds nothing, be it infinite or NaN.
        missing[i] =
            T(share == 0 || std::any_of(to, to + p.target_width, [](T t) { return t != t; }));
        if (missing[i] != 0) std::fill_n(to, p.target_width, T(0));
        labels[i] = p.loss->takes_labels() ? std::int64_t(to[0]) : 0;
      }
      const rows_of<T> own_gradient{gradient.first + column, gradient.step};
      p.loss->run({outputs.first + column, outputs.step}, {labels, of_rows}, n, scale * share, own,
                  own_gradient);
      for (std::ptrdiff_t i = 0; i < n; ++i) {
        if (missing[i] != 0) {
          std::fill_n(own_gradient.row(i), p.width, T(0));
          continue;
        }
        double row = 0;
        for (std::ptrdiff_t v = 0; v < values; ++v) row += double(own[i * values + v]);
        sum += share * row;
        if (losses) losses[i] += T(share * row);
      }
      column += p.width, target_column += p.target_width;
    }
    return sum;
  }

 private:
  std::vector<part> parts_;
  std::ptrdiff_t width_;
  const double* factors_ = nullptr;
};

}  // namespace dlcore
