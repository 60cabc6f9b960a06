// Layers of several networks, its members, that are computed at once.
//
// Each row has a row for each member, one after the other: row r of member m of k is row r * k + m.
// So what members share is computed as that many more rows by layers that know nothing of members.
#pragma once

#include <memory>
#include <vector>

#include "network/linear_layer.hpp"

namespace dlcore {

// y = x * weight + bias, of each member its own.
template <class T>
class member_scale_layer final : public layer<T> {
 public:
  using layer<T>::in;

  explicit member_scale_layer(const member_scale_spec<T>& spec);

  // Does the way forward of a ReLU that takes its outputs.
  void rectify_outputs() { rectifies_outputs_ = true; }

  std::ptrdiff_t parts() const override { return ceil_div(members_, part_members_); }
  typename layer<T>::range outputs_of(std::ptrdiff_t part) const override {
    return {part * part_members_ * in, std::min(members_, (part + 1) * part_members_) * in};
  }
  typename layer<T>::range weights_of(std::ptrdiff_t part) const override {
    return outputs_of(part);
  }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                T* dw, T* db, bool add) const override;

 private:
  const std::ptrdiff_t members_, part_members_;
  bool rectifies_outputs_ = false;

  // f(row, row of a member, where its parameters begin), for the members' rows in order.
  template <class F>
  void each_row(const pass& p, const F& f) const;
};

// y = x W^T + b, of each member its own.
template <class T>
class member_linear_layer final : public layer<T> {
 public:
  using layer<T>::in;
  using layer<T>::out;

  explicit member_linear_layer(const member_linear_spec<T>& spec);

  std::ptrdiff_t parts() const override {
    return std::ptrdiff_t(members_.size()) * members_.front()->parts();
  }
  typename layer<T>::range outputs_of(std::ptrdiff_t part) const override;
  typename layer<T>::range weights_of(std::ptrdiff_t part) const override;
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void forward_few(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                T* dw, T* db, bool add) const override;
  void constrain(std::ptrdiff_t) const override {}
  void keep_packed() override;
  void pack(std::ptrdiff_t part, bool for_backward) override;

 private:
  std::vector<std::unique_ptr<linear_layer<T>>> members_;

  // f(member, its rows of x, its rows of y, its pass)
  template <class X, class Y, class F>
  void each_member(rows_of<X> x, rows_of<Y> y, const pass& p, const F& f) const;
};

// The end of the members: what they predict together, the mean of their outputs or of the
// probabilities that these stand for, as an output again.
template <class T>
class member_mean_layer final : public layer<T> {
 public:
  explicit member_mean_layer(const member_mean_spec& spec);

  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T>, rows_of<const T>, rows_of<T>, const pass&) const override {}
  // Of one row.
  void combine(rows_of<const T> x, T* y) const;

 private:
  const std::ptrdiff_t members_;
  const member_mean mean_;
};

}  // namespace dlcore
