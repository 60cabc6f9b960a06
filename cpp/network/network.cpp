#include "network/network.hpp"

#include "network/activation_layer.hpp"
#include "network/batch_norm_layer.hpp"
#include "network/dropout_layer.hpp"
#include "network/layer_norm_layer.hpp"
#include "network/linear_layer.hpp"
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
network<T>::network(const std::vector<layer_spec<T>>& specs) {
  for (const layer_spec<T>& spec : specs) layers.push_back(make_layer<T>(spec));
  sparse_input = dynamic_cast<sparse_layer<T>*>(layers.front().get());
  fuse();
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
