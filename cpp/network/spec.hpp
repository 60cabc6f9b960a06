// A network as data: what Python describes (bindings/layer_specs.hpp reads it), with the names of
// python/dlcore/_native/specs.py. Arrays belong to the caller, who keeps them for as long as there
// is an object made of a description.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <variant>
#include <vector>

#include "kernels/activations.hpp"
#include "network/dataset.hpp"
#include "network/optimizer.hpp"

namespace dlcore {

template <class T>
struct linear_spec {
  std::ptrdiff_t in_features, out_features;
  tensor<T> weight, bias;       // of shape (out_features, in_features); no value: there is none
  double max_norm;              // of the weights of each output; 0: any
  bool reads_sparse = false;    // the rows of a sparse matrix: of the first layer alone
  bool is_input_major = false;  // weights of shape (in_features, out_features), of such a layer
};

template <class T>
struct layer_norm_spec {
  std::ptrdiff_t features;
  tensor<T> weight, bias;
  double eps;
  bool is_centered;  // else by the mean square, without a mean
};

template <class T>
struct batch_norm_spec {
  std::ptrdiff_t features;
  tensor<T> weight, bias;
  double eps;
  double momentum;  // of the running statistics; negative: they are the mean over all batches
  T *running_mean, *running_var;
  std::int64_t* num_batches_tracked;
  bool is_frozen;  // the running statistics count in training, too, and stay as they are
};

struct dropout_spec {
  std::ptrdiff_t features;
  double p;
  std::uint64_t stream;  // of random numbers: another one for each layer of a network
};

struct activation_layer_spec {
  std::ptrdiff_t features;
  activation_spec activation;
};

// An activation with a parameter of each feature, or one for all of them.
template <class T>
struct parametric_activation_spec {
  std::ptrdiff_t features;
  tensor<T> weight;                           // of `features` elements, or 1
  std::optional<activation_spec> activation;  // x + weight (f(x) - x); none: PReLU
};

// Of several networks, the members, that are computed at once. `expands`: each row goes to all of
// them, which have rows of their own from here on.
template <class T>
struct member_scale_spec {
  std::ptrdiff_t features, members;
  tensor<T> weight, bias;  // of shape (members, features); no value: there is none
  bool expands;
};

template <class T>
struct member_linear_spec {
  std::ptrdiff_t in_features, out_features, members;
  tensor<T> weight, bias;  // of shape (members, out_features, in_features)
  bool expands;
};

// What of the members is averaged: outputs, or the probabilities of which they are logits.
enum class member_mean { outputs, softmax, sigmoid };

struct member_mean_spec {
  std::ptrdiff_t features, members;
  member_mean mean;
};

// Of each feature by itself: linear layers, weights of shape (features, own_in, own_out), or one
// that `is_shared` by all, weights of shape (own_out, own_in).
template <class T>
struct feature_linear_spec {
  std::ptrdiff_t features, own_in, own_out;
  tensor<T> weight, bias;
  bool is_shared;
};

// Weights of shape (features, frequencies), and biases in radians, or none.
template <class T>
struct periodic_spec {
  std::ptrdiff_t features, frequencies;
  tensor<T> weight, bias;
};

// Of the bins of each feature.
template <class T>
struct piecewise_linear_spec {
  std::ptrdiff_t features, bins;
  const T *lower, *scale, *low, *high;
};

struct missing_spec {
  std::ptrdiff_t features;
  bool indicates;  // what is missing, else fills it
};

// What NaN is in a column of categories: no category; one with a row of its own, after those of the
// codes; or one of which nothing is read.
enum class missing_category { error, row, zeros };

// Tables of rows of which codes in columns of x say which ones are read, one table after the other.
template <class T>
struct embedding_spec {
  std::ptrdiff_t embedding_dim;
  std::vector<std::ptrdiff_t> sizes;  // categories of each column
  tensor<T> weight, bias;             // bias: of a sum
  missing_category missing;
  bool is_sum;  // else rows lie side by side
};

// A layer that is computed by these functions: rows of y from so many of x; of dx, one after the
// other, from those of dy and of x, and the gradient of each parameter that has one.
template <class T>
struct own_layer_spec {
  std::ptrdiff_t in, out;
  std::function<void(rows_of<const T> x, std::ptrdiff_t rows, rows_of<T> y)> forward;
  std::function<void(rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows, T* dx,
                     std::vector<std::vector<T>>& gradients)>
      backward;
  std::vector<tensor<T>> parameters;
};

template <class T>
struct parallel_spec;

template <class T>
using layer_spec =
    std::variant<linear_spec<T>, layer_norm_spec<T>, batch_norm_spec<T>, dropout_spec,
                 activation_layer_spec, parametric_activation_spec<T>, member_scale_spec<T>,
                 member_linear_spec<T>, member_mean_spec, feature_linear_spec<T>, periodic_spec<T>,
                 piecewise_linear_spec<T>, missing_spec, embedding_spec<T>, own_layer_spec<T>,
                 parallel_spec<T>>;

// Branches, each of columns [begin, end) of one input, whose outputs are summed, or lie side by
// side.
template <class T>
struct parallel_spec {
  struct branch {
    std::ptrdiff_t begin, end;
    std::vector<layer_spec<T>> layers;  // none: as it is
  };
  std::ptrdiff_t features;
  std::vector<branch> branches;
  bool is_sum;
};

// A parameter that is trained.
template <class T>
struct parameter_spec {
  std::size_t layer;
  bool is_bias;
  std::size_t group;
  std::array<T*, 3> state;  // in the order of the optimizer's kernel
  T* average;               // the running average of its values, or null
};

// The mini-batches of an epoch, and where what they give goes.
template <class T>
struct epoch_spec {
  dataset<T> data;
  const std::int64_t *order,
      *offsets;  // batch i: order[offsets[i]], ..., order[offsets[i + 1] - 1]
  std::ptrdiff_t batches;
  const double *normalizers, *accumulation_weights;
  const double* loss_factors;  // of each loss in each batch; null: 1
  std::ptrdiff_t loss_count;
  std::ptrdiff_t accumulate;
  bool ends_update;       // the last batch completes an update, however few there are in it
  double gradient_scale;  // of the gradient of each update
  std::uint64_t key;
  optimizer update;
  std::vector<parameter_spec<T>> parameters;
  const double* learning_rates;  // of each group in each update; null: those of the optimizer
  double max_norm;
  T* outputs;             // of each batch before its update; or null
  double* losses;         // of each batch
  double* squared_norms;  // of all parameters with a penalty, before each batch; or null
  double seconds;         // from one look at the caller to the next

  std::ptrdiff_t largest_batch() const {
    std::ptrdiff_t largest = 0;
    for (std::ptrdiff_t i = 0; i < batches; ++i)
      largest = std::max<std::ptrdiff_t>(largest, offsets[i + 1] - offsets[i]);
    return largest;
  }
};

}  // namespace dlcore
