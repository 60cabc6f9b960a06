// Reads the descriptions of losses, optimizers, epochs and data, of python/dlcore/_native/specs.py.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "bindings/layer_specs.hpp"
#include "network/losses.hpp"
#include "network/network.hpp"

namespace dlcore {

// ---- losses -------------------------------------------------------------------------------------

template <class T>
using loss_pointer = std::unique_ptr<block_loss<T>>;

template <class T>
inline std::vector<T> read_columns(fields& of, const char* name, std::ptrdiff_t width) {
  const T* const values = of.array<T>(name, width);
  return values ? std::vector<T>(values, values + width) : std::vector<T>();
}

// None: null, for a loss of the caller's own.
template <class T>
inline loss_pointer<T> read_loss(py::handle object) {
  if (object.is_none()) return nullptr;
  if (is_spec(object, "CrossEntropySpec")) {
    fields of(object, "CrossEntropySpec");
    const std::ptrdiff_t width = of.integer("width");
    const bool takes_labels = of.flag("takes_labels");
    std::vector<T> weight = read_columns<T>(of, "weight", width);
    const std::int64_t ignore_index = of.integer("ignore_index");
    const double label_smoothing = of.number("label_smoothing");
    of.end();
    return std::make_unique<cross_entropy_loss<T>>(width, takes_labels, std::move(weight),
                                                   ignore_index, label_smoothing);
  }
  if (is_spec(object, "FocalSpec")) {
    fields of(object, "FocalSpec");
    const std::ptrdiff_t width = of.integer("width");
    loss_pointer<T> loss = read_loss<T>(of.object("loss"));
    const double gamma = of.number("gamma");
    of.end();
    return std::make_unique<focal_loss<T>>(std::move(loss), width, gamma);
  }
  if (is_spec(object, "JointSpec")) {
    fields of(object, "JointSpec");
    const std::ptrdiff_t width = of.integer("width");
    std::vector<typename joint_loss<T>::part> parts;
    for (const py::handle target : of.tuple("targets")) {
      fields of_target(target, "TargetSpec");
      const py::object loss = of_target.object("loss");
      parts.push_back({read_loss<T>(loss), loss.attr("width").cast<std::ptrdiff_t>(),
                       of_target.integer("target_width"), of_target.number("weight")});
      of_target.end();
    }
    of.end();
    return std::make_unique<joint_loss<T>>(std::move(parts), width);
  }
  fields of(object, "ElementwiseLossSpec");
  const std::ptrdiff_t width = of.integer("width");
  const std::string kernel = of.text("kernel");
  const std::optional<double> option = of.optional_number("option");
  std::vector<T> columns = read_columns<T>(of, "columns", width);
  of.end();
  loss_spec loss{};
  if (!find_loss(kernel.c_str(), loss.kind))
    throw py::value_error("ElementwiseLossSpec: kernel must be a loss, got " + kernel);
  if (loss.kind == loss_kind::binary_cross_entropy_with_logits && !columns.empty())
    loss.kind = loss_kind::binary_cross_entropy_with_logits_and_pos_weight;
  if ((info(loss.kind).option_count() > 0) != option.has_value() ||
      (info(loss.kind).further != nullptr) == columns.empty())
    of.wrong("kernel", "a loss that takes these options", object);
  loss.options[0] = option.value_or(0);
  return std::make_unique<value_loss<T>>(width, loss, std::move(columns));
}

// ---- optimizers ---------------------------------------------------------------------------------

inline optimizer::group read_group(py::handle object) {
  if (is_spec(object, "SGDSpec")) {
    fields of(object, "SGDSpec");
    sgd s{};
    s.lr = of.number("lr"), s.momentum = of.number("momentum");
    s.dampening = of.number("dampening"), s.weight_decay = of.number("weight_decay");
    s.l1 = of.number("l1");
    s.nesterov = of.flag("nesterov"), s.maximize = of.flag("maximize");
    s.first = of.flag("is_first");
    const double penalty = of.number("penalty");
    of.end();
    return {s, 0, penalty};
  }
  fields of(object, "AdamSpec");
  adam a{};
  a.lr = of.number("lr"), a.beta1 = of.number("beta1"), a.beta2 = of.number("beta2");
  a.eps = of.number("eps"), a.l1 = of.number("l1");
  (of.flag("decoupled") ? a.decoupled_decay : a.weight_decay) = of.number("weight_decay");
  a.maximize = of.flag("maximize"), a.raw_eps = of.flag("raw_eps");
  const double penalty = of.number("penalty");
  of.end();
  return {a, 0, penalty};
}

inline std::vector<optimizer::group> read_groups(const py::tuple& objects) {
  std::vector<optimizer::group> groups;
  for (const py::handle object : objects) groups.push_back(read_group(object));
  if (groups.empty()) throw py::value_error("UpdateSpec: optimizer has no groups");
  return groups;
}

// The state of a parameter of that size, for the optimizer of its group.
template <class T>
inline std::array<T*, 3> read_state(py::handle object, std::ptrdiff_t size,
                                    const optimizer::group& group) {
  if (std::holds_alternative<sgd>(group.options)) {
    if (object.is_none()) return {};
    fields of(object, "SGDState");
    T* const buffer = of.array<T>("momentum_buffer", size, true);
    of.end();
    return {buffer, nullptr, nullptr};
  }
  fields of(object, "AdamState");
  const std::array<T*, 3> state{of.required<T>("exp_avg", size, true),
                                of.required<T>("exp_avg_sq", size, true),
                                of.array<T>("max_exp_avg_sq", size, true)};
  of.end();
  return state;
}

// Parameters of a network, in these groups: none where the update is the caller's own. Layers are
// counted as they were described.
template <class T>
inline std::vector<parameter_spec<T>> read_parameters(const py::tuple& objects,
                                                      const network<T>& net,
                                                      const std::vector<optimizer::group>& groups) {
  std::vector<parameter_spec<T>> specs;
  for (const py::handle object : objects) {
    fields of(object, "ParameterSpec");
    parameter_spec<T> spec{};
    const std::size_t number = std::size_t(of.integer("layer"));
    const std::string name = of.text("name");
    spec.is_bias = name == "bias";
    spec.group = std::size_t(of.integer("group"));
    if (number >= net.described.size() || (!groups.empty() && spec.group >= groups.size()) ||
        (!spec.is_bias && name != "weight"))
      of.wrong("name", "a parameter of the network, in a group of the optimizer", object);
    spec.layer = net.described[number];
    const layer<T>& own = *net.layers[spec.layer];
    const std::ptrdiff_t size = (spec.is_bias ? own.bias : own.weight).size;
    const py::object state = of.object("state");
    if (!groups.empty()) spec.state = read_state<T>(state, size, groups[spec.group]);
    spec.average = of.array<T>("average", size, true);
    of.end();
    specs.push_back(spec);
  }
  return specs;
}

// ---- data ---------------------------------------------------------------------------------------

template <class T>
inline matrix_rows<T> read_matrix(const py::array& a) {
  if (!is_array_of<T>(a) || a.ndim() < 1 || a.ndim() > 2)
    throw py::type_error("rows must be a matrix of " + std::string(py::str(py::dtype::of<T>())) +
                         ", got " + shape_text(a) + " of " + std::string(py::str(a.dtype())));
  return {static_cast<const char*>(a.data()), a.strides(0),
          a.ndim() > 1 ? a.strides(1) : std::ptrdiff_t(sizeof(T)), a.ndim() > 1 ? a.shape(1) : 1};
}
// Of an array or a CompressedRowsSpec.
template <class T>
inline matrix_rows<T> read_rows(py::handle x) {
  if (py::isinstance<py::array>(x)) return read_matrix<T>(py::reinterpret_borrow<py::array>(x));
  fields of(x, "CompressedRowsSpec");
  const T* data = of.required<T>("data", -1);
  const py::array indices = of.any_array("indices"), starts = of.any_array("indptr");
  const std::ptrdiff_t width = of.integer("width");
  of.end();
  const auto is_index = [&](const py::array& a) {
    return has_flag(a, c_contiguous) &&
           (is_array_of<std::int32_t>(a) || is_array_of<std::int64_t>(a));
  };
  if (!is_index(indices) || !is_index(starts) || indices.itemsize() != starts.itemsize() ||
      starts.size() < 1)
    throw py::type_error("CompressedRowsSpec: indices and indptr must both be int32 or int64");
  const compressed_rows rows{starts.data(), indices.data(), indices.itemsize() == 8};
  return {reinterpret_cast<const char*>(data), 0, sizeof(T), width, rows};
}

// How the parameters of a network are updated.
template <class T>
inline void read_update(py::handle object, const network<T>& net, epoch_spec<T>& e) {
  fields of(object, "UpdateSpec");
  optimizer update;
  update.groups = read_groups(of.tuple("optimizer"));
  e.parameters = read_parameters<T>(of.tuple("parameters"), net, update.groups);
  e.max_norm = of.number("max_norm"), update.clip_value = of.number("clip_value");
  update.average_decay = of.number("average_decay");
  of.end();
  e.update = std::move(update);
}

// The rows and targets of a data set, for a network. `labels` is where the description of class
// indices goes.
template <class T>
inline dataset<T> read_data(const py::object& x, const py::array& y, const network<T>& net,
                            bool takes_labels, std::optional<index_view>& labels) {
  const std::ptrdiff_t in = net.in(), width = net.out();
  dataset<T> data{};
  data.x = read_rows<T>(x);
  if (data.x.width != in)
    throw py::type_error("EpochSpec: x must be of " + std::to_string(in) + " columns, got " +
                         std::to_string(data.x.width));
  if (takes_labels) {
    labels = index_view_of(y, {"EpochSpec", "y"});
    data.y.labels = &*labels;
  } else {
    data.y.values = read_matrix<T>(y);
    if (data.y.values.width > width)
      throw py::type_error("EpochSpec: y must be of at most " + std::to_string(width) +
                           " columns, got " + std::to_string(data.y.values.width));
  }
  return data;
}

// An epoch of a network, whose batches have at most `most_rows` rows. The update of the epoch
// before is kept where `reads_update` says that it is the same one.
template <class T>
inline void read_epoch(py::handle object, const network<T>& net, std::ptrdiff_t most_rows,
                       bool takes_labels, bool reads_update, std::optional<index_view>& labels,
                       epoch_spec<T>& e) {
  fields of(object, "EpochSpec");
  const std::ptrdiff_t width = net.out();
  const py::object x = of.object("x");
  const py::array y = of.any_array("y");
  e.data = read_data<T>(x, y, net, takes_labels, labels);
  e.data.weight = of.array<double>("weight", y.shape(0));
  const auto [order, rows] = of.elements<std::int64_t>("order");
  e.order = order;
  if (!e.order) of.wrong("order", "an array", py::none());
  const auto [offsets, offset_count] = of.elements<std::int64_t>("offsets");
  e.offsets = offsets, e.batches = offset_count - 1;
  e.normalizers = of.required<double>("normalizers", e.batches);
  e.accumulation_weights = of.required<double>("accumulation_weights", e.batches);
  const auto [factors, factor_count] = of.elements<double>("loss_factors");
  e.loss_factors = factors;
  e.loss_count = e.batches > 0 ? factor_count / e.batches : 0;
  e.accumulate = of.integer("accumulate");
  bool fits = e.batches >= 0 && e.accumulate >= 1 && offsets[0] == 0 && offsets[e.batches] == rows;
  for (std::ptrdiff_t i = 0; fits && i < e.batches; ++i)
    fits = offsets[i] <= offsets[i + 1] && offsets[i + 1] - offsets[i] <= most_rows;
  if (!fits)
    of.wrong("offsets", "from 0 to the rows in steps of up to " + std::to_string(most_rows),
             object);
  e.ends_update = of.flag("ends_update");
  e.gradient_scale = of.number("gradient_scale");
  e.key = of.key("key");
  const py::object update = of.object("update");
  if (reads_update) read_update<T>(update, net, e);
  const py::tuple steps = of.tuple("steps");
  if (steps.size() != e.update.groups.size())
    of.wrong("steps", "a number for each group of the update", steps);
  for (std::size_t i = 0; i < steps.size(); ++i)
    e.update.groups[i].steps = py::cast<double>(steps[i]);
  const std::ptrdiff_t updates = ceil_div(e.batches, e.accumulate);
  e.learning_rates =
      of.array<double>("learning_rates", updates * std::ptrdiff_t(e.update.groups.size()));
  e.outputs = of.array<T>("outputs", rows * width, true);
  e.losses = of.required<double>("losses", e.batches, true);
  e.squared_norms = of.array<double>("squared_norms", e.batches, true);
  e.seconds = of.number("seconds");
  of.object("between");
  of.end();
}

}  // namespace dlcore
