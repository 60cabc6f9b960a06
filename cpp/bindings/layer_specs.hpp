// Reads the descriptions of layers, of python/dlcore/_native/specs.py.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "bindings/fields.hpp"
#include "bindings/python_function.hpp"
#include "network/network.hpp"

namespace dlcore {

template <class T>
inline std::vector<layer_spec<T>> read_layers(const py::tuple& objects);

template <class T>
inline parallel_spec<T> read_parallel(py::handle object) {
  fields of(object, "ParallelSpec");
  parallel_spec<T> spec{};
  spec.features = of.integer("features");
  for (const py::handle branch : of.tuple("branches")) {
    fields of_branch(branch, "BranchSpec");
    const std::ptrdiff_t begin = of_branch.integer("begin"), end = of_branch.integer("end");
    if (begin < 0 || begin > end || end > spec.features)
      of_branch.wrong("end", "within the features", branch);
    spec.branches.push_back({begin, end, read_layers<T>(of_branch.tuple("layers"))});
    of_branch.end();
  }
  if (spec.branches.empty()) of.wrong("branches", "one or more", object);
  spec.is_sum = of.flag("is_sum");
  of.end();
  return spec;
}

inline activation_layer_spec read_activation(py::handle object) {
  fields of(object, "ActivationSpec");
  activation_layer_spec spec{};
  spec.features = of.integer("features");
  const std::string kernel = of.text("kernel");
  if (!find_activation(kernel.c_str(), spec.activation.kind))
    throw py::value_error("ActivationSpec: kernel must be an activation, got " + kernel);
  const py::tuple options = of.tuple("options");
  const std::size_t count = info(spec.activation.kind).option_count();
  if (options.size() != count)
    of.wrong("options", "of " + std::to_string(count) + " numbers for " + kernel, options);
  for (std::size_t i = 0; i < count; ++i) spec.activation.options[i] = options[i].cast<double>();
  of.end();
  return spec;
}

template <class T>
inline embedding_spec<T> read_embedding(py::handle object, bool trains) {
  fields of(object, "EmbeddingSpec");
  embedding_spec<T> spec{};
  spec.embedding_dim = of.integer("embedding_dim");
  const std::string missing = of.text("missing");
  spec.missing = missing == "category" ? missing_category::row
                 : missing == "zeros"  ? missing_category::zeros
                                       : missing_category::error;
  std::ptrdiff_t rows = 0;
  constexpr std::ptrdiff_t most = std::ptrdiff_t(1) << std::numeric_limits<T>::digits;
  for (const py::handle size : of.tuple("sizes")) {
    spec.sizes.push_back(py::cast<std::ptrdiff_t>(size));
    // Integers beyond are not all there.
    if (spec.sizes.back() < 1 || spec.sizes.back() > most)
      of.wrong("sizes", "from 1 to " + std::to_string(most), object);
    rows += spec.sizes.back() + (spec.missing == missing_category::row);
  }
  if (spec.sizes.empty() || spec.embedding_dim < 1)
    of.wrong("sizes", "of one column or more", object);
  spec.weight = of.parameter<T>("weight", "weight_grad", rows * spec.embedding_dim, trains);
  if (!spec.weight.value) of.wrong("weight", "an array", py::none());
  spec.bias = of.parameter<T>("bias", "bias_grad", spec.embedding_dim, trains);
  spec.is_sum = of.flag("is_sum");
  if (spec.bias.value && !spec.is_sum) of.wrong("bias", "of a sum", object);
  of.end();
  return spec;
}

template <class T>
inline own_layer_spec<T> read_own_layer(py::handle object) {
  fields of(object, "OwnLayerSpec");
  own_layer_spec<T> spec{};
  spec.in = of.integer("in_features"), spec.out = of.integer("out_features");
  const auto forward = python_function::made(of.object("forward"));
  const auto backward = python_function::made(of.object("backward"));
  spec.parameters = of.parameters<T>("parameters", "grads");
  of.end();
  const std::ptrdiff_t in = spec.in, out = spec.out;
  spec.forward = [=](rows_of<const T> x, std::ptrdiff_t rows, rows_of<T> y) {
    forward->call([&](const py::object& f) {
      const py::array_t<T> made = f(array_of_rows(x, rows, in));
      copy_rows<T>({made.data(), out}, y, rows, out);
    });
  };
  spec.backward = [=](rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows, T* dx,
                      std::vector<std::vector<T>>& gradients) {
    backward->call([&](const py::object& f) {
      const py::tuple made = f(array_of_rows(dy, rows, out), array_of_rows(x, rows, in));
      std::copy_n(py::array_t<T>(made[0]).data(), rows * in, dx);
      for (std::size_t i = 0; i < gradients.size(); ++i)
        if (!gradients[i].empty())
          std::copy_n(py::array_t<T>(made[i + 1]).data(), gradients[i].size(),
                      gradients[i].begin());
    });
  };
  return spec;
}

// `trains`: the layer is updated, and not run by itself.
template <class T>
inline layer_spec<T> read_layer(py::handle object, bool trains = true) {
  if (is_spec(object, "ParallelSpec")) return read_parallel<T>(object);
  if (is_spec(object, "OwnLayerSpec")) return read_own_layer<T>(object);
  if (is_spec(object, "LinearSpec")) {
    fields of(object, "LinearSpec");
    linear_spec<T> spec{};
    spec.in_features = of.integer("in_features"), spec.out_features = of.integer("out_features");
    const std::ptrdiff_t size = spec.in_features * spec.out_features;
    spec.weight = of.parameter<T>("weight", "weight_grad", size, trains);
    if (!spec.weight.value) of.wrong("weight", "an array", py::none());
    spec.bias = of.parameter<T>("bias", "bias_grad", spec.out_features, trains);
    spec.max_norm = of.number("max_norm");
    spec.reads_sparse = of.flag("reads_sparse"), spec.is_input_major = of.flag("is_input_major");
    if (spec.is_input_major && (!spec.reads_sparse || spec.max_norm > 0))
      of.wrong("is_input_major", "of a layer that reads sparse rows, without max_norm", object);
    if (spec.reads_sparse && spec.in_features > std::numeric_limits<std::int32_t>::max())
      of.wrong("in_features", "below 2^31 for sparse rows", object);
    of.end();
    return spec;
  }
  if (is_spec(object, "LayerNormSpec")) {
    fields of(object, "LayerNormSpec");
    layer_norm_spec<T> spec{};
    spec.features = of.integer("features");
    spec.weight = of.parameter<T>("weight", "weight_grad", spec.features, trains);
    spec.bias = of.parameter<T>("bias", "bias_grad", spec.features, trains);
    spec.eps = of.optional_number("eps").value_or(std::numeric_limits<T>::epsilon());
    spec.is_centered = of.flag("is_centered");
    of.end();
    return spec;
  }
  if (is_spec(object, "BatchNormSpec")) {
    fields of(object, "BatchNormSpec");
    batch_norm_spec<T> spec{};
    spec.features = of.integer("features");
    spec.weight = of.parameter<T>("weight", "weight_grad", spec.features, trains);
    spec.bias = of.parameter<T>("bias", "bias_grad", spec.features, trains);
    spec.eps = of.number("eps");
    spec.momentum = of.optional_number("momentum").value_or(-1);
    spec.is_frozen = of.flag("is_frozen");
    spec.running_mean = of.array<T>("running_mean", spec.features, !spec.is_frozen);
    spec.running_var = of.array<T>("running_var", spec.features, !spec.is_frozen);
    if (!spec.running_mean != !spec.running_var || (spec.is_frozen && !spec.running_mean))
      of.wrong("running_mean", "there with running_var, and for frozen statistics", object);
    spec.num_batches_tracked = of.required<std::int64_t>("num_batches_tracked", 1, !spec.is_frozen);
    of.end();
    return spec;
  }
  if (is_spec(object, "MemberScaleSpec")) {
    fields of(object, "MemberScaleSpec");
    member_scale_spec<T> spec{};
    spec.features = of.integer("features"), spec.members = of.integer("members");
    const std::ptrdiff_t size = spec.features * spec.members;
    spec.weight = of.parameter<T>("weight", "weight_grad", size, trains);
    spec.bias = of.parameter<T>("bias", "bias_grad", size, trains);
    spec.expands = of.flag("expands");
    of.end();
    return spec;
  }
  if (is_spec(object, "MemberLinearSpec")) {
    fields of(object, "MemberLinearSpec");
    member_linear_spec<T> spec{};
    spec.in_features = of.integer("in_features"), spec.out_features = of.integer("out_features");
    spec.members = of.integer("members");
    const std::ptrdiff_t outputs = spec.out_features * spec.members;
    spec.weight = of.parameter<T>("weight", "weight_grad", spec.in_features * outputs, trains);
    if (!spec.weight.value) of.wrong("weight", "an array", py::none());
    spec.bias = of.parameter<T>("bias", "bias_grad", outputs, trains);
    spec.expands = of.flag("expands");
    of.end();
    return spec;
  }
  if (is_spec(object, "MemberMeanSpec")) {
    fields of(object, "MemberMeanSpec");
    member_mean_spec spec{};
    spec.features = of.integer("features"), spec.members = of.integer("members");
    const std::string mean = of.text("mean");
    spec.mean = mean == "softmax"   ? member_mean::softmax
                : mean == "sigmoid" ? member_mean::sigmoid
                                    : member_mean::outputs;
    of.end();
    return spec;
  }
  if (is_spec(object, "FeatureLinearSpec")) {
    fields of(object, "FeatureLinearSpec");
    feature_linear_spec<T> spec{};
    spec.features = of.integer("features");
    spec.own_in = of.integer("own_in"), spec.own_out = of.integer("own_out");
    spec.is_shared = of.flag("is_shared");
    const std::ptrdiff_t matrices = spec.is_shared ? 1 : spec.features;
    const std::ptrdiff_t outputs = matrices * spec.own_out;
    spec.weight = of.parameter<T>("weight", "weight_grad", outputs * spec.own_in, trains);
    if (!spec.weight.value) of.wrong("weight", "an array", py::none());
    spec.bias = of.parameter<T>("bias", "bias_grad", outputs, trains);
    of.end();
    return spec;
  }
  if (is_spec(object, "PeriodicSpec")) {
    fields of(object, "PeriodicSpec");
    periodic_spec<T> spec{};
    spec.features = of.integer("features"), spec.frequencies = of.integer("frequencies");
    const std::ptrdiff_t size = spec.features * spec.frequencies;
    spec.weight = of.parameter<T>("weight", "weight_grad", size, trains);
    if (!spec.weight.value) of.wrong("weight", "an array", py::none());
    spec.bias = of.parameter<T>("bias", "bias_grad", size, trains);
    of.end();
    return spec;
  }
  if (is_spec(object, "PiecewiseLinearSpec")) {
    fields of(object, "PiecewiseLinearSpec");
    piecewise_linear_spec<T> spec{};
    spec.features = of.integer("features"), spec.bins = of.integer("bins");
    const std::ptrdiff_t size = spec.features * spec.bins;
    spec.lower = of.required<T>("lower", size, false);
    spec.scale = of.required<T>("scale", size, false);
    spec.low = of.required<T>("low", size, false);
    spec.high = of.required<T>("high", size, false);
    of.end();
    return spec;
  }
  if (is_spec(object, "MissingSpec")) {
    fields of(object, "MissingSpec");
    missing_spec spec{};
    spec.features = of.integer("features"), spec.indicates = of.flag("indicates");
    of.end();
    return spec;
  }
  if (is_spec(object, "EmbeddingSpec")) return read_embedding<T>(object, trains);
  if (is_spec(object, "DropoutSpec")) {
    fields of(object, "DropoutSpec");
    dropout_spec spec{};
    spec.features = of.integer("features");
    spec.p = of.number("p");
    spec.stream = of.key("stream");
    of.end();
    return spec;
  }
  if (is_spec(object, "ParametricActivationSpec")) {
    fields of(object, "ParametricActivationSpec");
    parametric_activation_spec<T> spec{};
    spec.features = of.integer("features");
    const std::ptrdiff_t size = of.flag("is_shared") ? 1 : spec.features;
    spec.weight = of.parameter<T>("weight", "weight_grad", size, trains);
    if (!spec.weight.value) of.wrong("weight", "an array", py::none());
    const py::object activation = of.object("activation");
    if (!activation.is_none()) spec.activation = read_activation(activation).activation;
    of.end();
    return spec;
  }
  return read_activation(object);
}

template <class T>
inline std::vector<layer_spec<T>> read_layers(const py::tuple& objects) {
  std::vector<layer_spec<T>> specs;
  for (const py::handle object : objects) specs.push_back(read_layer<T>(object));
  return specs;
}

template <class T>
inline std::vector<layer_spec<T>> read_network(const py::tuple& objects) {
  if (objects.empty()) throw py::value_error("a network needs at least one layer");
  return read_layers<T>(objects);
}

}  // namespace dlcore
