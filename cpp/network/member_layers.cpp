#include "network/member_layers.hpp"

#include <algorithm>
#include <cmath>

#include "core/workspace.hpp"
#include "kernels/elementwise.hpp"

namespace dlcore {

namespace {

template <class T>
void scale_run(const T* x, const T* weight, const T* bias, std::ptrdiff_t n, T* y, T least) {
  const vec<T> lowest = least;
  // NaN stays.
  const auto rectified = [=](vec<T> v) { return select<T>(v < lowest, lowest, v); };
  if (weight && bias)
    map_run<T>([=](vec<T> a, vec<T> w, vec<T> b) { return rectified(fma<T>(a, w, b)); }, y, n, 0, x,
               weight, bias);
  else if (weight)
    map_run<T>([=](vec<T> a, vec<T> w) { return rectified(a * w); }, y, n, 0, x, weight);
  else if (bias) map_run<T>([=](vec<T> a, vec<T> b) { return rectified(a + b); }, y, n, 0, x, bias);
  else map_run<T>([=](vec<T> a) { return rectified(a); }, y, n, 0, x);
}

template <class T>
void multiply_add_run(const T* a, const T* b, std::ptrdiff_t n, T* sum) {
  map_run<T>([](vec<T> s, vec<T> x, vec<T> y) { return fma<T>(x, y, s); }, sum, n, 0, sum, a, b);
}

}  // namespace

// ---- scale --------------------------------------------------------------------------------------

template <class T>
member_scale_layer<T>::member_scale_layer(const member_scale_spec<T>& spec)
    : layer<T>(spec.features, spec.features),
      members_(spec.members),
      part_members_(std::max<std::ptrdiff_t>(1, spec.members / 16)) {
  this->weight = spec.weight, this->bias = spec.bias;
  this->expansion = spec.expands ? spec.members : 1;
  this->cost = nanoseconds<T>(0.15, this->in * this->expansion);
  this->forward_growth = {1, 1, true};
  this->backward_growth = {double(this->expansion), 0, true};
  if (!spec.weight.value) this->forward_growth = {1, 0}, this->backward_growth.by_parameter = false;
  if (!spec.weight.value && spec.bias.value) this->forward_growth = {};
  this->gradient_growth = {1, 0};
  this->dx_over_dy = false;
}

template <class T>
template <class F>
void member_scale_layer<T>::each_row(const pass& p, const F& f) const {
  const std::ptrdiff_t copies = this->expansion;
  std::ptrdiff_t member = p.begin * copies % members_;
  for (std::ptrdiff_t i = 0, r = 0; i < p.n; ++i)
    for (std::ptrdiff_t c = 0; c < copies; ++c, ++r) {
      f(i, r, member * in);
      member = member + 1 < members_ ? member + 1 : 0;
    }
}

template <class T>
void member_scale_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  const T *const weight = this->weight.value, *const bias = this->bias.value;
  const T least = rectifies_outputs_ ? T(0) : finish<T>().least;
  each_row(p, [&](std::ptrdiff_t i, std::ptrdiff_t r, std::ptrdiff_t at) {
    scale_run(x.row(i), weight ? weight + at : nullptr, bias ? bias + at : nullptr, in, y.row(r),
              least);
  });
}

template <class T>
void member_scale_layer<T>::backward(rows_of<const T> dy, rows_of<const T>, rows_of<T> dx,
                                     const pass& p) const {
  const std::ptrdiff_t copies = this->expansion;
  const T* const weight = this->weight.value;
  each_row(p, [&](std::ptrdiff_t i, std::ptrdiff_t r, std::ptrdiff_t at) {
    const T* const from = dy.row(r);
    T* const to = dx.row(i);
    if (r > i * copies) {
      if (weight) multiply_add_run(from, weight + at, in, to);
      else add_run(from, to, in);
    } else if (weight) {
      map_run<T>([](vec<T> a, vec<T> b) { return a * b; }, to, in, 0, from, weight + at);
    } else {
      std::copy_n(from, in, to);
    }
  });
}

template <class T>
void member_scale_layer<T>::gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                                     std::ptrdiff_t rows, T* dw, T* db, bool add) const {
  const std::ptrdiff_t copies = this->expansion, own = rows * copies / members_;
  const std::ptrdiff_t first = part * part_members_;
  const std::ptrdiff_t last = std::min(members_, first + part_members_);
  struct tag;
  T* const products = thread_buffer<T, tag>(2 * in);
  T* const sums = products + in;
  for (std::ptrdiff_t m = first; m < last; ++m) {
    std::fill_n(products, 2 * in, T(0));
    // Whole rows one after another, whose sums stay in the first cache.
    for (std::ptrdiff_t i = 0; i < own; ++i) {
      const std::ptrdiff_t r = i * members_ + m;
      if (dw) multiply_add_run(dy.row(r), x.row(copies == 1 ? r : i), in, products);
      if (db) add_run(dy.row(r), sums, in);
    }
    const auto give = [&](const T* from, T* to) {
      to += (m - first) * in;
      if (add) add_run(from, to, in);
      else std::copy_n(from, in, to);
    };
    if (dw) give(products, dw);
    if (db) give(sums, db);
  }
}

// ---- linear -------------------------------------------------------------------------------------

template <class T>
member_linear_layer<T>::member_linear_layer(const member_linear_spec<T>& spec)
    : layer<T>(spec.in_features, spec.out_features) {
  const std::ptrdiff_t size = in * out;
  const auto at = [](T* p, std::ptrdiff_t offset) { return p ? p + offset : nullptr; };
  for (std::ptrdiff_t m = 0; m < spec.members; ++m)
    members_.push_back(std::make_unique<linear_layer<T>>(
        linear_spec<T>{in,
                       out,
                       {spec.weight.value + m * size, at(spec.weight.gradient, m * size), size},
                       {at(spec.bias.value, m * out), at(spec.bias.gradient, m * out), out},
                       0}));
  this->weight = spec.weight, this->bias = spec.bias;
  this->expansion = spec.expands ? spec.members : 1;
  this->cost = members_.front()->cost * double(this->expansion);
  this->forward_growth = members_.front()->forward_growth;
  this->backward_growth = members_.front()->backward_growth;
  this->backward_growth.slope *= double(this->expansion);
  this->gradient_growth = members_.front()->gradient_growth;
  this->dx_over_dy = false;
}

template <class T>
auto member_linear_layer<T>::outputs_of(std::ptrdiff_t part) const -> typename layer<T>::range {
  const std::ptrdiff_t parts = members_.front()->parts(), m = part / parts;
  const auto own = members_[m]->outputs_of(part % parts);
  return {m * out + own.begin, m * out + own.end};
}

template <class T>
auto member_linear_layer<T>::weights_of(std::ptrdiff_t part) const -> typename layer<T>::range {
  const std::ptrdiff_t parts = members_.front()->parts(), m = part / parts;
  const auto own = members_[m]->weights_of(part % parts);
  return {m * in * out + own.begin, m * in * out + own.end};
}

// Rows of a member are so many apart; before members have rows of their own, they are all rows.
template <class T>
template <class X, class Y, class F>
void member_linear_layer<T>::each_member(rows_of<X> x, rows_of<Y> y, const pass& p,
                                         const F& f) const {
  const std::ptrdiff_t k = members_.size(), copies = this->expansion, apart = k / copies;
  const pass own{p.begin / apart, p.n / apart, p.batch / apart, p.training, p.key, p.bad_code};
  for (std::ptrdiff_t m = 0; m < k; ++m)
    f(*members_[m], rows_of<X>{copies > 1 ? x.first : x.row(m), x.step * apart},
      rows_of<Y>{y.row(m), y.step * k}, own);
}

template <class T>
void member_linear_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  each_member(x, y, p,
              [](const linear_layer<T>& member, rows_of<const T> from, rows_of<T> to,
                 const pass& own) { member.forward(from, to, own); });
}

template <class T>
void member_linear_layer<T>::forward_few(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  each_member(x, y, p,
              [](const linear_layer<T>& member, rows_of<const T> from, rows_of<T> to,
                 const pass& own) { member.forward_few(from, to, own); });
}

template <class T>
void member_linear_layer<T>::backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                                      const pass& p) const {
  if (this->expansion == 1) {
    each_member(dx, dy, p,
                [&](const linear_layer<T>& member, rows_of<T> to, rows_of<const T> from,
                    const pass& own) { member.backward(from, x, to, own); });
    return;
  }
  // All members have read the same rows.
  struct tag;
  const std::ptrdiff_t step = row_step<T>(in);
  const rows_of<T> one{thread_buffer<T, tag>(p.n * step), step};
  bool is_first = true;
  each_member(
      dx, dy, p,
      [&](const linear_layer<T>& member, rows_of<T> to, rows_of<const T> from, const pass& own) {
        member.backward(from, x, is_first ? to : one, own);
        for (std::ptrdiff_t r = 0; !is_first && r < own.n; ++r)
          add_run<T>(one.row(r), to.row(r), in);
        is_first = false;
      });
}

template <class T>
void member_linear_layer<T>::gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                                      std::ptrdiff_t rows, T* dw, T* db, bool add) const {
  const std::ptrdiff_t parts = members_.front()->parts(), m = part / parts;
  const std::ptrdiff_t k = members_.size(), apart = k / this->expansion;
  const rows_of<const T> from{apart > 1 ? x.row(m) : x.first, x.step * apart};
  members_[m]->gradient(part % parts, {dy.row(m), dy.step * k}, from, rows / apart, dw, db, add);
}

template <class T>
void member_linear_layer<T>::keep_packed() {
  for (const auto& member : members_) member->keep_packed();
}

template <class T>
void member_linear_layer<T>::pack(std::ptrdiff_t part, bool for_backward) {
  const std::ptrdiff_t parts = members_.front()->parts();
  members_[part / parts]->pack(part % parts, for_backward);
}

// ---- mean ---------------------------------------------------------------------------------------

template <class T>
member_mean_layer<T>::member_mean_layer(const member_mean_spec& spec)
    : layer<T>(spec.features, spec.features), members_(spec.members), mean_(spec.mean) {
  this->contraction = spec.members;
  this->cost = nanoseconds<T>(mean_ == member_mean::outputs ? 0.2 : 2.0, this->in);
}

template <class T>
void member_mean_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  for (std::ptrdiff_t r = 0; r < p.n / members_; ++r) combine(x.from(r * members_), y.row(r));
}

// In double: logarithms of means of probabilities as exact as the outputs are, however small. The
// largest output of a member is taken off before the exponential.
template <class T>
void member_mean_layer<T>::combine(rows_of<const T> x, T* y) const {
  const std::ptrdiff_t width = this->in;
  struct tag;
  double* const sums = thread_buffer<double, tag>(2 * width);
  double* const more = sums + width;  // of 1 - p
  std::fill(sums, sums + 2 * width, 0.0);
  for (std::ptrdiff_t m = 0; m < members_; ++m) {
    const T* const row = x.row(m);
    double most = row[0], total = 0;
    switch (mean_) {
      case member_mean::outputs:
        for (std::ptrdiff_t j = 0; j < width; ++j) sums[j] += double(row[j]);
        break;
      case member_mean::softmax:
        for (std::ptrdiff_t j = 0; j < width; ++j) most = std::max(most, double(row[j]));
        for (std::ptrdiff_t j = 0; j < width; ++j) total += std::exp(double(row[j]) - most);
        for (std::ptrdiff_t j = 0; j < width; ++j)
          sums[j] += std::exp(double(row[j]) - most - std::log(total));
        break;
      case member_mean::sigmoid:
        for (std::ptrdiff_t j = 0; j < width; ++j) {
          sums[j] += 1 / (1 + std::exp(-double(row[j])));
          more[j] += 1 / (1 + std::exp(double(row[j])));
        }
        break;
    }
  }
  for (std::ptrdiff_t j = 0; j < width; ++j)
    y[j] = T(mean_ == member_mean::outputs   ? sums[j] / double(members_)
             : mean_ == member_mean::softmax ? std::log(sums[j] / double(members_))
                                             : std::log(sums[j] / more[j]));
}

template class member_scale_layer<float>;
template class member_scale_layer<double>;
template class member_linear_layer<float>;
template class member_linear_layer<double>;
template class member_mean_layer<float>;
template class member_mean_layer<double>;

}  // namespace dlcore
