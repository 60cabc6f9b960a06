#include "network/network.hpp"

#include "network/activation_layer.hpp"
#include "network/batch_norm_layer.hpp"
#include "network/dropout_layer.hpp"
#include "network/embedding_layer.hpp"
#include "network/layer_norm_layer.hpp"
#include "network/linear_layer.hpp"
#include "network/member_layers.hpp"
#include "network/number_layers.hpp"
#include "network/own_layer.hpp"
#include "network/parallel_layers.hpp"
#include "network/parametric_activation_layer.hpp"
#include "network/sparse_layer.hpp"

namespace dlcore {

namespace {

template <class T>
struct layer_maker {
  using pointer = std::unique_ptr<layer<T>>;
  pointer operator()(const linear_spec<T>& spec) const {
    if (!spec.reads_sparse) return make<linear_layer<T>>(spec);
    return spec.is_input_major ? make<input_major_layer<T>>(spec)
                               : make<gathering_sparse_layer<T>>(spec);
  }
  pointer operator()(const layer_norm_spec<T>& s) const { return make<layer_norm_layer<T>>(s); }
  pointer operator()(const batch_norm_spec<T>& s) const { return make<batch_norm_layer<T>>(s); }
  pointer operator()(const dropout_spec& spec) const { return make<dropout_layer<T>>(spec); }
  pointer operator()(const activation_layer_spec& s) const { return make<activation_layer<T>>(s); }
  pointer operator()(const parametric_activation_spec<T>& s) const {
    return make<parametric_activation_layer<T>>(s);
  }
  pointer operator()(const member_scale_spec<T>& s) const { return make<member_scale_layer<T>>(s); }
  pointer operator()(const member_linear_spec<T>& s) const {
    return make<member_linear_layer<T>>(s);
  }
  pointer operator()(const member_mean_spec& s) const { return make<member_mean_layer<T>>(s); }
  pointer operator()(const feature_linear_spec<T>& s) const {
    return make<feature_linear_layer<T>>(s);
  }
  pointer operator()(const periodic_spec<T>& s) const { return make<periodic_layer<T>>(s); }
  pointer operator()(const piecewise_linear_spec<T>& s) const {
    return make<piecewise_linear_layer<T>>(s);
  }
  pointer operator()(const missing_spec& s) const { return make<missing_layer<T>>(s); }
  pointer operator()(const embedding_spec<T>& s) const { return make<embedding_layer<T>>(s); }
  pointer operator()(const own_layer_spec<T>& spec) const { return make<own_layer<T>>(spec); }
  pointer operator()(const parallel_spec<T>&) const { return nullptr; }  // is no layer

 private:
  template <class Layer, class Spec>
  static pointer make(const Spec& spec) {
    return std::make_unique<Layer>(spec);
  }
};

}  // namespace

template <class T>
std::unique_ptr<layer<T>> make_layer(const layer_spec<T>& spec) {
  return std::visit(layer_maker<T>(), spec);
}

template <class T>
network<T>::network(const std::vector<layer_spec<T>>& specs, bool trains)
    : values_{{0}}, gradients_{{0}}, is_gradient_shared_{false}, copies_{1}, trains_(trains) {
  add(specs, 0);
  sparse_input = dynamic_cast<sparse_layer<T>*>(layers.front().get());
  share_nodes();
  fuse();
}

template <class T>
network<T>::~network() = default;

template <class T>
std::size_t network<T>::add(std::unique_ptr<layer<T>> own, std::size_t source) {
  layers.push_back(std::move(own));
  const std::size_t node = layers.size();
  sources.push_back(source);
  ends_.emplace_back();
  values_.push_back({node}), gradients_.push_back({node});
  is_gradient_shared_.push_back(false);
  const layer<T>& added = *layers.back();
  copies_.push_back(copies_[source] * added.expansion / added.contraction);
  most_copies_ = std::max(most_copies_, copies_.back());
  return node;
}

template <class T>
std::size_t network<T>::add(const std::vector<layer_spec<T>>& specs, std::size_t source) {
  for (const layer_spec<T>& spec : specs) {
    if (const auto* branches = std::get_if<parallel_spec<T>>(&spec)) {
      source = add(*branches, source);
    } else if (const auto* own = std::get_if<member_mean_spec>(&spec); own && trains_) {
      mean = std::make_unique<member_mean_layer<T>>(*own);
      described.push_back(layers.size());
    } else {
      source = add(make_layer(spec), source);
      described.push_back(source - 1);
    }
    if (const auto* own = std::get_if<own_layer_spec<T>>(&spec))
      source = add_parameters(*own, source);
  }
  return source;
}

// Those that are more than a layer can hold.
template <class T>
std::size_t network<T>::add_parameters(const own_layer_spec<T>& spec, std::size_t source) {
  const auto& own = static_cast<const own_layer<T>&>(*layers.back());
  for (std::size_t i = 2; i < spec.parameters.size(); i += 2) {
    source = add(std::make_unique<own_parameters<T>>(own, spec, i), source);
    described.push_back(source - 1);
  }
  return source;
}

template <class T>
std::size_t network<T>::add(const parallel_spec<T>& spec, std::size_t source) {
  std::vector<std::size_t> ends;
  std::ptrdiff_t width = 0;
  for (const auto& branch : spec.branches) {
    const bool is_first = ends.empty(), is_last = ends.size() + 1 == spec.branches.size();
    const std::size_t first = add(
        std::make_unique<slice_layer<T>>(spec.features, branch.begin, branch.end, is_last), source);
    values_[first] = {source, branch.begin};
    std::size_t end = add(branch.layers, first);
    // What is added to must be there, and what it was before must not be needed on the way back: a
    // product needs its inputs alone.
    const bool writes = spec.is_sum
                            ? is_first && dynamic_cast<linear_layer<T>*>(layers.back().get())
                            : end != first;
    if (!writes) {
      const std::size_t before = end;
      end = add(std::make_unique<carry_layer<T>>(width_of(end), spec.is_sum && !is_first), before);
      gradients_[before] = {end};
    }
    ends.push_back(end);
    width = spec.is_sum ? width_of(end) : width + width_of(end);
  }
  const std::size_t joined = add(std::make_unique<join_layer<T>>(width), ends.back());
  std::ptrdiff_t begin = 0;
  for (const std::size_t end : ends) {
    values_[end] = gradients_[end] = {joined, begin};
    is_gradient_shared_[end] = spec.is_sum;
    if (!spec.is_sum) begin += width_of(end);
  }
  ends_.back() = std::move(ends);
  return joined;
}

template <class T>
bool network<T>::is_slice(std::size_t node) const {
  return node > 0 && dynamic_cast<slice_layer<T>*>(layers[node - 1].get());
}

template <class T>
void network<T>::share_nodes() {
  for (std::size_t l = layers.size(); l-- > 0;) {
    const std::size_t source = sources[l], node = l + 1;
    for (const std::size_t end : ends_[l])
      if (is_gradient_shared_[node]) is_gradient_shared_[end] = true;
    if (!ends_[l].empty() || is_slice(node)) continue;
    if (gradients_[source].node == node) is_gradient_shared_[source] = is_gradient_shared_[node];
    else if (layers[l]->dx_over_dy && !is_gradient_shared_[node]) gradients_[source] = {node};
    // Other branches read the input of theirs as well.
    if (layers[l]->y_over_x && source > 0 && !is_slice(source)) values_[source] = {node};
  }
}

template <class T>
void network<T>::fuse() {
  const auto at = [&](std::size_t l) { return l < layers.size() ? layers[l].get() : nullptr; };
  for (std::size_t l = 0; l < layers.size(); ++l) {
    auto* own = dynamic_cast<activation_layer<T>*>(at(l));
    if (!own || !own->is_relu()) continue;
    if (auto* below = dynamic_cast<linear_layer<T>*>(at(l - 1)))
      below->rectify_outputs(), own->fused_forward = true;
    if (auto* below = dynamic_cast<normalization_layer<T>*>(at(l - 1)))
      below->rectify_outputs(), own->fused_forward = true;
    if (auto* below = dynamic_cast<member_scale_layer<T>*>(at(l - 1)))
      below->rectify_outputs(), own->fused_forward = true;
    auto* dropout = dynamic_cast<dropout_layer<T>*>(at(l + 1));
    if (auto* above = dynamic_cast<linear_layer<T>*>(at(l + (dropout ? 2 : 1)))) {
      above->rectify_inputs(dropout ? dropout->factor() : T(1));
      own->fused_backward = true;
      if (dropout) dropout->fused_backward = true;
    }
  }
}

template <class T>
auto network<T>::parts() const -> std::vector<part> {
  std::vector<part> all;
  for (std::size_t l = 0; l < layers.size(); ++l)
    for (std::ptrdiff_t i = 0; i < layers[l]->parts(); ++i) all.push_back({layers[l].get(), l, i});
  return all;
}

template <class T>
void network<T>::pack(bool for_backward) {
  const std::vector<part> all = parts();
  parallel_for(std::ptrdiff_t(all.size()), cost() * 8,
               [&](std::ptrdiff_t i) { all[i].of->pack(all[i].number, for_backward); });
}

template std::unique_ptr<layer<float>> make_layer(const layer_spec<float>&);
template std::unique_ptr<layer<double>> make_layer(const layer_spec<double>&);
template class network<float>;
template class network<double>;

}  // namespace dlcore
