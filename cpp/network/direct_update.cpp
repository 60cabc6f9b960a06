#include "network/direct_update.hpp"

#include "core/workspace.hpp"

namespace dlcore {

template <class T>
direct_update<T>::direct_update(network<T>& net, const passes<T>& of) : net_(net), passes_(of) {
  for (const auto& l : net.layers) {
    is_possible_ = is_possible_ && (!l->learns() || l->bounds_gradient());
    l->each_parameter([&](const tensor<T>& p) { size_ += p.gradient ? p.size : 0; });
  }
}

template <class T>
void direct_update<T>::choose_lazy(choice& of, const optimizer& by, std::ptrdiff_t batch) const {
  for (std::size_t l = 0; l < net_.layers.size(); ++l) {
    const auto* table = dynamic_cast<const embedding_layer<T>*>(net_.layers[l].get());
    if (!table || net_.values_of(net_.sources[l]).node != 0) continue;
    for (std::size_t i = 0; i < of.parameters.size(); ++i)
      if (of.parameters[i].of == &table->weight &&
          lazy_table<T>::suits(*table, of.parameters[i], by, batch))
        of.lazy.push_back(i), of.lazy_batch = batch;
  }
}

template <class T>
void direct_update<T>::plan_lazy(const choice& of, std::vector<bool>& is_lazy) {
  lazy_.clear(), lazy_tasks_.clear();
  for (std::size_t l = 0; l < net_.layers.size(); ++l) {
    const auto* table = dynamic_cast<const embedding_layer<T>*>(net_.layers[l].get());
    for (const std::size_t i : of.lazy) {
      const trained_parameter<T>& weight = of.parameters[i];
      if (!table || weight.of != &table->weight) continue;
      is_lazy[l] = true;
      const std::ptrdiff_t column = net_.values_of(net_.sources[l]).begin;
      lazy_.push_back(std::make_unique<lazy_table<T>>(*table, weight, column, of.lazy_batch));
      const std::ptrdiff_t parts = lazy_.back()->parts();
      for (std::ptrdiff_t k = 0; k < parts; ++k) {
        lazy_tasks_.push_back({nullptr, l, k, {}, {}, lazy_.back().get()});
        tasks_.push_back(lazy_tasks_.back());
        costs_.add(net_.cost_of(l) / double(parts));
      }
    }
  }
}

template <class T>
void direct_update<T>::plan(const choice& made_for) {
  const auto& parameters = made_for.parameters;
  tasks_.clear(), packed_.clear(), begins_.clear();
  costs_ = {};
  std::vector<bool> is_lazy(net_.layers.size());
  plan_lazy(made_for, is_lazy);
  const auto of = [&](const tensor<T>& p) -> const trained_parameter<T>* {
    for (const trained_parameter<T>& t : parameters)
      if (t.of == &p) return &t;
    return nullptr;
  };
  std::vector<bool> is_packed(net_.layers.size());
  for (std::size_t l = 0; made_for.is_packed && l < net_.layers.size(); ++l) {
    auto* linear = dynamic_cast<linear_layer<T>*>(net_.layers[l].get());
    if (!linear || !packed_weights<T>::suits(*linear)) continue;
    const trained_parameter<T>* weight = of(linear->weight);
    if (!weight) continue;
    packed_.push_back(std::make_unique<packed_weights<T>>(*linear, *weight, of(linear->bias),
                                                          passes_.goes_through(l)));
    is_packed[l] = true;
    const std::ptrdiff_t parts = packed_.back()->parts();
    for (std::ptrdiff_t i = 0; i < parts; ++i) {
      tasks_.push_back({packed_.back().get(), l, i, {}, {}});
      costs_.add(net_.cost_of(l) / double(parts));
    }
  }
  for (const auto& part : net_.parts()) {
    if (is_packed[part.layer_index]) continue;
    const layer<T>& own = *part.of;
    task of_part{nullptr, part.layer_index, part.number, {}, {}};
    const auto* weight = is_lazy[part.layer_index] ? nullptr : of(own.weight);
    if (weight) of_part.weight = {*weight, own.weights_of(part.number)};
    if (const auto* p = of(own.bias)) of_part.bias = {*p, own.outputs_of(part.number)};
    tasks_.push_back(of_part);
    costs_.add(own.learns() ? net_.cost_of(part.layer_index) / double(own.parts()) : 0.0);
  }
  squares_.assign(tasks_.size(), 0.0);
}

template <class T>
void direct_update<T>::begin_epoch() {
  pack();
  step_region(
      std::ptrdiff_t(tasks_.size()), net_.cost() * 8,
      [&](std::ptrdiff_t i) {
        if (!tasks_[i].packed && !tasks_[i].lazy)
          net_.layers[tasks_[i].layer_index]->pack(tasks_[i].part, true);
      },
      costs_);
}

template <class T>
template <class F>
void direct_update<T>::each_packed(const F& f) {
  step_region(
      std::ptrdiff_t(tasks_.size()), double(size_) * 2,
      [&](std::ptrdiff_t i) {
        if (tasks_[i].packed) f(*tasks_[i].packed, tasks_[i].part);
      },
      costs_);
}

template <class T>
void direct_update<T>::pack() {
  if (is_packed_) return;
  for (const auto& p : packed_) p->reserve();
  each_packed([](packed_weights<T>& p, std::ptrdiff_t part) { p.pack(part); });
  is_packed_ = true;
}

template <class T>
void direct_update<T>::share_with(ranks* between) {
  if (between != between_) exchange_states();
  between_ = between;
}

template <class T>
void direct_update<T>::unpack() {
  exchange_states();
  if (is_packed_) each_packed([](packed_weights<T>& p, std::ptrdiff_t part) { p.unpack(part); });
  is_packed_ = false;
  if (waits_)
    step_region(std::ptrdiff_t(lazy_tasks_.size()), double(size_) * 2,
                [&](std::ptrdiff_t i) { lazy_tasks_[i].lazy->make_up(lazy_tasks_[i].part); });
  waits_ = false;
}

template <class T>
void direct_update<T>::unpack_serially() noexcept {
  for (const task& own : tasks_)
    if (is_packed_ && own.packed) own.packed->unpack(own.part);
  for (const task& own : lazy_tasks_)
    if (waits_) own.lazy->make_up(own.part);
  is_packed_ = waits_ = false;
  states_are_with_ = nullptr;
}

template <class T>
void direct_update<T>::begin_batch(const matrix_rows<T>& x, const std::int64_t* indices,
                                   std::ptrdiff_t n) {
  if (lazy_tasks_.empty()) return;
  for (const auto& table : lazy_)
    if (!waits_) table->begin();
  waits_ = true;
  step_region(
      std::ptrdiff_t(lazy_tasks_.size()), 200.0 * double(n) * double(lazy_.size()),
      [&](std::ptrdiff_t i) { lazy_tasks_[i].lazy->collect(lazy_tasks_[i].part, x, indices, n); });
}

template <class T>
template <class F>
void direct_update<T>::each_task(double nanoseconds, const F& f, ranks* between) {
  const auto run = [&](std::ptrdiff_t i) {
    if (tasks_[i].packed || net_.layers[tasks_[i].layer_index]->learns()) f(tasks_[i], i);
  };
  if (!between) return step_region(std::ptrdiff_t(tasks_.size()), nanoseconds, run, costs_);
  const std::ptrdiff_t rank = between->rank(), begin = between->begin_of(costs_, rank);
  step_region(between->begin_of(costs_, rank + 1) - begin, nanoseconds / double(between->size()),
              [&](std::ptrdiff_t i) { run(begin + i); });
}

template <class T>
template <class F>
void direct_update<T>::each_shared(const ranks& between, const F& f) {
  for (std::ptrdiff_t rank = 0, i = 0; rank < between.size(); ++rank)
    for (const std::ptrdiff_t end = between.begin_of(costs_, rank + 1); i < end; ++i)
      f(rank, tasks_[i], i);
}

template <class T>
void direct_update<T>::exchange_gradients() {
  ranks::message m(*between_);
  each_shared(*between_, [&](std::ptrdiff_t rank, const task& own, std::ptrdiff_t i) {
    m.add(rank, gradients_.data() + begins_[i], own.gradient_size());
    m.add(rank, &gradient_squares_[i], 1);
  });
  between_->exchange(m);
}

template <class T>
void direct_update<T>::exchange_values(bool has_squares) {
  ranks::message m(*between_);
  each_shared(*between_, [&](std::ptrdiff_t rank, const task& own, std::ptrdiff_t i) {
    if (has_squares) m.add(rank, &squares_[i], 1);
    if (own.packed) return own.packed->add_values(m, rank, own.part);
    for (const piece* p : {&own.weight, &own.bias})
      if (p->of.of) m.add(rank, p->of.of->value + p->at.begin, p->at.size());
  });
  between_->exchange(m);
  const std::ptrdiff_t begin = between_->begin_of(costs_, between_->rank());
  const std::ptrdiff_t end = between_->begin_of(costs_, between_->rank() + 1);
  each_task(double(size_) * 2, [&](const task& own, std::ptrdiff_t i) {
    if (i >= begin && i < end) return;
    if (own.packed) own.packed->take_values(own.part);
    else net_.layers[own.layer_index]->pack(own.part, true);
  });
  states_are_with_ = between_;
}

template <class T>
void direct_update<T>::exchange_states() {
  ranks* const between = states_are_with_;
  states_are_with_ = nullptr;
  if (!between) return;
  ranks::message m(*between);
  each_shared(*between, [&](std::ptrdiff_t rank, const task& own, std::ptrdiff_t) {
    if (own.packed) return own.packed->add_states(m, rank, own.part);
    for (const piece* p : {&own.weight, &own.bias})
      if (p->of.of)
        p->of.each_state([&](T* state) { m.add(rank, state + p->at.begin, p->at.size()); });
  });
  between->exchange(m);
}

template <class T>
void direct_update<T>::run(const optimizer& by, std::ptrdiff_t n, double max_norm) {
  pack();
  for (const auto& table : lazy_) table->record(by);
  const double products = net_.cost() * double(n), updates = double(size_) * 0.4;
  if (max_norm > 0) {
    const T factor = T(limit_norm(n, max_norm));
    each_task(updates, [&](const task&, std::ptrdiff_t i) {
      update(i, by, gradients_.data() + begins_[i], factor);
    });
  } else {
    each_task(
        products + updates,
        [&](const task& own, std::ptrdiff_t i) {
          struct tag;
          T* const memory = thread_buffer<T, tag>(own.gradient_size());
          gradient(own, n, memory);
          update(i, by, memory, T(1));
        },
        between_);
    if (between_) exchange_values(by.penalizes());
  }
}

// Makes all gradients. What they are to be multiplied by.
template <class T>
double direct_update<T>::limit_norm(std::ptrdiff_t n, double max_norm) {
  if (begins_.empty()) {
    std::ptrdiff_t size = 0;
    for (const task& own : tasks_) {
      begins_.push_back(size);
      size += own.most_gradients();
    }
    gradients_.assign(size, T(0));
    gradient_squares_.assign(tasks_.size(), {});
  }
  each_task(
      net_.cost() * double(n),
      [&](const task& own, std::ptrdiff_t i) {
        T* const to = gradients_.data() + begins_[i];
        gradient(own, n, to);
        std::fill(to + own.gradient_size(), to + own.most_gradients(), T(0));
        gradient_squares_[i] = squares_of_gradient(to, own.gradient_size());
      },
      between_);
  if (between_) exchange_gradients();
  const std::vector<gradient_run<T>> all{{gradients_.data(), std::ptrdiff_t(gradients_.size())}};
  return clip_factor(gradient_squares_, all, max_norm);
}

template <class T>
double direct_update<T>::squared_norm() {
  return tree_sum(squares_.data(), std::ptrdiff_t(squares_.size()));
}

template <class T>
void direct_update<T>::gradient(const task& own, std::ptrdiff_t n, T* to) const {
  if (own.lazy)
    return own.lazy->gradient(own.part, passes_.gradients_of(own.layer_index).read(), to);
  if (own.packed)
    return own.packed->gradient(own.part, passes_.gradients_of(own.layer_index).read(),
                                passes_.inputs_of(own.layer_index).read(),
                                n * net_.copies_at(net_.sources[own.layer_index]), to);
  T* const dw = own.weight.of.of ? to : nullptr;
  T* const db = own.bias.of.of ? to + own.weight.at.size() : nullptr;
  passes_.gradient(own.layer_index, own.part, n, dw, db, false);
}

template <class T>
void direct_update<T>::update(std::ptrdiff_t i, const optimizer& by, T* gradient, T factor) {
  const task& own = tasks_[i];
  if (own.lazy) own.lazy->update(own.part, gradient, by, factor);
  else if (own.packed) own.packed->update(own.part, gradient, by, factor);
  else update_part(own, by, gradient, factor);
  if (by.penalizes()) squares_[i] = squares_after(own, by);
}

template <class T>
void direct_update<T>::update_part(const task& own, const optimizer& by, T* gradient, T factor) {
  layer<T>& l = *net_.layers[own.layer_index];
  for (const piece* p : {&own.weight, &own.bias}) {
    if (p->of.of) by.apply(p->of, gradient, p->at.begin, p->at.end, factor);
    gradient += p->at.size();
  }
  l.constrain(own.part);
  for (const piece* p : {&own.weight, &own.bias})
    if (p->of.of) by.average(p->of, p->at.begin, p->at.end);
  l.pack(own.part, true);
}

template <class T>
double direct_update<T>::squares_after(const task& own, const optimizer& by) {
  if (own.lazy) return 0.0;  // no penalty
  if (own.packed) return by.penalizes(own.packed->weight()) ? own.packed->squares(own.part) : 0.0;
  double sum = 0;
  for (const piece* p : {&own.weight, &own.bias})
    if (p->of.of && by.penalizes(p->of))
      sum += squares_of(p->of.of->value + p->at.begin, p->at.size());
  return sum;
}

template class direct_update<float>;
template class direct_update<double>;

}  // namespace dlcore
