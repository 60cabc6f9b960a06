// The losses of a training step: of blocks of rows, with their gradient, made of the loss kernels.
#pragma once

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "losses.hpp"
#include "network.hpp"

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
    loss_sink<T> sink{losses ? view_of_run(losses, n) : view(), {}};
    const row_shape shape{n, classes_, true};
    const row_view x = row_view_of_rows(outputs.first, n, outputs.step);
    const row_view dx = row_view_of_rows(gradient.first, n, gradient.step);
    if (!labels_) {
      const std::array<row_view, 3> views{x, row_view_of_rows(target.values, n, classes_), dx};
      return row_loss<T>(shape, views, 2.0, cross_entropy_probabilities<T, true>{options, sink});
    }
    index_view labels;
    labels.rows = view_of_run(const_cast<std::int64_t*>(target.labels), n);
    const std::array<row_view, 2> views{x, dx};
    if (options.label_smoothing != 0)
      return row_loss<T>(shape, views, 1.0,
                         cross_entropy_indices<T, true, true>{labels, options, sink});
    return row_loss<T>(shape, views, 0.8,
                       cross_entropy_indices<T, true, false>{labels, options, sink});
  }

 private:
  std::ptrdiff_t classes_;
  bool labels_;
  std::vector<T> weight_;
  row_loss_options<T> options_;
};

// An elementwise loss; `extra`: a further input of the kernel for each column, or none.
template <class T, class F>
class value_loss : public block_loss<T> {
 public:
  value_loss(std::ptrdiff_t width, const F& f, std::vector<T> extra = {})
      : width_(width), f_(f), extra_(std::move(extra)) {}
  std::ptrdiff_t values_of_row() const override { return width_; }

  double run(rows_of<const T> outputs, const block_of_targets<T>& target, std::ptrdiff_t n,
             double scale, T* losses, rows_of<T> gradient) const override {
    const view x = view_of_rows(outputs.first, n, width_, outputs.step);
    const view t = view_of_rows(target.values, n, width_, width_);
    view to = losses ? view_of_rows<T>(losses, n, width_, width_) : view();
    view dx = view_of_rows<T>(gradient.first, n, width_, gradient.step);
    if constexpr (std::is_same_v<F, binary_cross_entropy_with_logits<true>>) {
      view extra = view_of_rows(extra_.data(), n, width_, 0);
      std::array<view, 3> inputs{x, t, extra};
      return elementwise_loss<T>(f_, inputs, to, dx, scale);
    } else {
      std::array<view, 2> inputs{x, t};
      return elementwise_loss<T>(f_, inputs, to, dx, scale);
    }
  }

 private:
  std::ptrdiff_t width_;
  F f_;
  std::vector<T> extra_;
};

}  // namespace dlcore
