#include "network/rollback_update.hpp"

#include <algorithm>
#include <cmath>

namespace dlcore {

namespace {

// f(parameter, elements) of what is trained in a part of a layer.
template <class T, class F>
void each_trained(const layer<T>& l, std::ptrdiff_t part,
                  const std::vector<trained_parameter<T>>& parameters, const F& f) {
  for (const trained_parameter<T>& p : parameters) {
    if (p.of == &l.weight) f(p, l.weights_of(part));
    if (p.of == &l.bias) f(p, l.outputs_of(part));
  }
}

}  // namespace

template <class T>
rollback_update<T>::rollback_update(network<T>& net, const passes<T>& of, bool accumulate)
    : net_(net), passes_(of), accumulate_(accumulate), parts_(net.parts()) {
  std::ptrdiff_t size = 0;
  for (const auto& l : net.layers)
    l->each_parameter([&](tensor<T>& p) {
      if (p.gradient) offsets_.emplace_back(&p, size), size += p.size;
    });
  before_.resize(size);
  for (const part& own : parts_)
    costs_.add(own.of->learns() ? net.cost_of(own.layer_index) / double(own.of->parts()) : 0.0);
}

template <class T>
template <class F>
void rollback_update<T>::each_learning_part(const F& f) const {
  step_region(std::ptrdiff_t(parts_.size()), double(before_.size()) * 0.4, [&](std::ptrdiff_t i) {
    if (parts_[i].of->learns()) f(*parts_[i].of, parts_[i].number);
  });
}

template <class T>
void rollback_update<T>::add_gradients(std::ptrdiff_t n, ranks* between) {
  const bool add = is_pending_ && accumulate_;
  std::atomic<bool> finite{true};
  const std::ptrdiff_t count = std::ptrdiff_t(parts_.size());
  const std::ptrdiff_t begin = between ? between->begin_of(costs_, between->rank()) : 0;
  const std::ptrdiff_t end = between ? between->begin_of(costs_, between->rank() + 1) : count;
  step_region(end - begin, net_.cost() * double(n), [&](std::ptrdiff_t i) {
    const part& own = parts_[begin + i];
    if (!own.of->learns()) return;
    const auto weights = own.of->weights_of(own.number), outputs = own.of->outputs_of(own.number);
    T *const dw = own.of->weight.gradient, *const db = own.of->bias.gradient;
    passes_.gradient(own.layer_index, own.number, n, dw ? dw + weights.begin : nullptr,
                     db ? db + outputs.begin : nullptr, add);
    if ((dw && !all_finite(dw + weights.begin, weights.size())) ||
        (db && !all_finite(db + outputs.begin, outputs.size())))
      finite.store(false, std::memory_order_relaxed);
  });
  is_finite_ = finite.load();
  if (between) exchange_gradients(*between, is_finite_);
  is_pending_ = true;
}

template <class T>
void rollback_update<T>::exchange_gradients(ranks& between, bool& is_finite) const {
  ranks::message m(between);
  std::vector<unsigned char> finite(std::size_t(between.size()), is_finite);
  for (std::ptrdiff_t rank = 0, i = 0; rank < between.size(); ++rank) {
    m.add(rank, finite.data() + rank, 1);
    for (const std::ptrdiff_t end = between.begin_of(costs_, rank + 1); i < end; ++i) {
      const layer<T>& own = *parts_[i].of;
      const auto add = [&](T* gradient, auto at) {
        if (gradient) m.add(rank, gradient + at.begin, at.size());
      };
      add(own.weight.gradient, own.weights_of(parts_[i].number));
      add(own.bias.gradient, own.outputs_of(parts_[i].number));
    }
  }
  between.exchange(m);
  is_finite = std::find(finite.begin(), finite.end(), 0) == finite.end();
}

template <class T>
outcome rollback_update<T>::run(const std::vector<trained_parameter<T>>& parameters,
                                const optimizer& by, double max_norm, double scale) {
  is_pending_ = false;
  if (!is_finite_) return outcome::gradient;
  if (scale != 1) scale_gradients(T(scale));
  const double factor = max_norm > 0 ? limit_norm(max_norm) : 1.0;
  if (!(factor > 0)) return outcome::gradient;  // their norm is not finite
  std::atomic<bool> finite{true};
  each_learning_part([&](layer<T>& l, std::ptrdiff_t number) {
    each_trained(l, number, parameters, [&](const trained_parameter<T>& p, auto at) {
      T* const before = before_.data() + offset_of(p.of) + at.begin;
      if (!by.apply_guarded(p, at.begin, at.end, T(factor), before))
        finite.store(false, std::memory_order_relaxed);
    });
    l.constrain(number);
    l.pack(number, true);
  });
  if (!finite.load()) {
    restore();
    return outcome::parameters;
  }
  const auto has_average = [](const trained_parameter<T>& p) { return p.average != nullptr; };
  if (std::any_of(parameters.begin(), parameters.end(), has_average))
    each_learning_part([&](const layer<T>& l, std::ptrdiff_t number) {
      each_trained(l, number, parameters, [&](const trained_parameter<T>& p, auto at) {
        by.average(p, at.begin, at.end);
      });
    });
  return outcome::fine;
}

template <class T>
void rollback_update<T>::finish(const std::vector<trained_parameter<T>>& parameters,
                                const optimizer& by) {
  each_learning_part([&](const layer<T>& l, std::ptrdiff_t number) {
    l.constrain(number);
    each_trained(l, number, parameters,
                 [&](const trained_parameter<T>& p, auto at) { by.average(p, at.begin, at.end); });
  });
}

template <class T>
void rollback_update<T>::scale_gradients(T scale) {
  each_learning_part([&](const layer<T>& l, std::ptrdiff_t number) {
    const auto multiply = [&](T* gradient, auto at) {
      for (std::ptrdiff_t i = at.begin; gradient && i < at.end; ++i) gradient[i] *= scale;
    };
    multiply(l.weight.gradient, l.weights_of(number));
    multiply(l.bias.gradient, l.outputs_of(number));
  });
}

template <class T>
std::ptrdiff_t rollback_update<T>::offset_of(const tensor<T>* p) const {
  for (const auto& [own, offset] : offsets_)
    if (own == p) return offset;
  return 0;
}

template <class T>
double rollback_update<T>::limit_norm(double max_norm) {
  squares_.assign(parts_.size(), {});
  step_region(std::ptrdiff_t(parts_.size()), double(before_.size()) * 0.1, [&](std::ptrdiff_t i) {
    const layer<T>& l = *parts_[i].of;
    const auto add = [&](const T* gradient, auto at) {
      if (gradient) squares_[i].add(squares_of_gradient(gradient + at.begin, at.size()));
    };
    add(l.weight.gradient, l.weights_of(parts_[i].number));
    add(l.bias.gradient, l.outputs_of(parts_[i].number));
  });
  std::vector<gradient_run<T>> gradients;
  for (const auto& [p, offset] : offsets_) gradients.push_back({p->gradient, p->size});
  return clip_factor(squares_, gradients, max_norm);
}

template <class T>
void rollback_update<T>::restore() {
  for (const auto& [p, offset] : offsets_)
    std::copy(before_.data() + offset, before_.data() + offset + p->size, p->value);
  net_.pack(true);
}

template class rollback_update<float>;
template class rollback_update<double>;

}  // namespace dlcore
