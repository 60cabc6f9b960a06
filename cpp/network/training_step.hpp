// A training step: gather the rows of a batch, forward, loss, backward, update. Mini-batch after
// mini-batch without leaving C++.
//
// A step has two parallel regions. In the first each block of rows goes forward, through the loss
// and back (passes.hpp); in the second each part of the parameters sums its gradient over the batch
// and is updated while the caches hold it (direct_update.hpp). Where bounds do not say beforehand
// that this stays finite (finite_bounds.hpp), or where the update needs all gradients first, it is
// a third region (rollback_update.hpp). Blocks, parts and sums depend on the shapes alone, so the
// bits do, too.
#pragma once

#include <memory>
#include <vector>

#include "network/direct_update.hpp"
#include "network/finite_bounds.hpp"
#include "network/losses.hpp"
#include "network/passes.hpp"
#include "network/rollback_update.hpp"

namespace dlcore {

// How far an epoch is.
struct epoch_progress {
  std::ptrdiff_t batches = 0;  // that are completed
  std::ptrdiff_t updates = 0;  // that were made
};

template <class T>
class training_step {
 public:
  // `loss`: null where the caller has one of its own. `to_inputs`: its passes give the gradient of
  // the inputs, too.
  training_step(network<T>& net, std::ptrdiff_t batch, std::unique_ptr<block_loss<T>> loss,
                bool accumulate, bool to_inputs = false);

  // The batches of an epoch, until one goes wrong: then the parameters are those from before it,
  // and so they are after an exception, except where there was no memory in the middle of a direct
  // update. Every so often calls goes_on(batches that are completed), and ends if it says no; in
  // the middle of a long batch it ends by throwing `interrupted`. The parameters' arrays may be out
  // of date meanwhile.
  outcome run(epoch_spec<T>& epoch, function_ref<bool(std::ptrdiff_t)> goes_on,
              epoch_progress& progress);

  // The passes of a loss of the caller's own: from rows to `outputs`, and from `output_gradients`
  // to the gradients. False where a value is no category.
  bool forward(const matrix_rows<T>& x, const std::int64_t* indices, std::ptrdiff_t n,
               std::uint64_t key);
  void backward(std::ptrdiff_t n);
  rows_of<T> outputs() const { return passes_.outputs(); }
  rows_of<T> output_gradients() const { return passes_.output_gradients(); }
  rows_of<T> input_gradients() const { return passes_.input_gradients(); }
  // What follows an update of the caller's own.
  void finish_update(const std::vector<parameter_spec<T>>& parameters, const optimizer& by) {
    rollback_.finish(trained(parameters), by);
  }

  // Whether gradients wait for an update; forgets them.
  bool is_pending() const { return rollback_.is_pending(); }
  void forget() { rollback_.forget(); }
  // Goes on with gradients that another step has left in the same arrays.
  void resume() { rollback_.resume(); }
  // Forgets what layers keep of the last batch for later.
  void undo();
  // Computes with others from now on, where a batch is large enough for that: all ranks make the
  // same runs.
  void share_with(ranks* between) { ranks_ = between; }

 private:
  struct batch;
  struct packing;

  network<T>& net_;
  std::unique_ptr<block_loss<T>> loss_;
  bool accumulate_;
  passes<T> passes_;
  direct_update<T> direct_;
  rollback_update<T> rollback_;
  finite_bounds<T> bounds_;
  std::vector<trained_parameter<T>> parameters_;
  typename direct_update<T>::choice planned_;
  double squared_norm_ = 0;  // of all parameters with a penalty
  std::vector<std::int64_t> labels_;
  std::vector<T> target_values_;
  std::vector<double> block_losses_;
  ranks* ranks_ = nullptr;

  std::vector<trained_parameter<T>> trained(const std::vector<parameter_spec<T>>& specs) const;
  void begin_epoch(const epoch_spec<T>& epoch);
  void measure_squared_norm(const optimizer& by);
  bool takes_long(std::ptrdiff_t rows) const {
    return watch::takes_long(net_.cost() * double(rows));
  }
  ranks* sharing(std::ptrdiff_t n) const;
  void read_all_inputs(const epoch_spec<T>& epoch, const batch& b);
  void exchange_losses(ranks& between, ranks::message& m, bool& bad_label);
  void add_rows(ranks::message& m, const ranks& between, std::ptrdiff_t n);
  outcome train_step(const epoch_spec<T>& epoch, const batch& b, double& loss,
                     function_ref<bool()> goes_on);
  void copy_output(std::ptrdiff_t r, T* to) const;
  void begin_inputs(const matrix_rows<T>& x, const std::int64_t* indices, std::ptrdiff_t n);
  double read_inputs(const matrix_rows<T>& x, const std::int64_t* indices, std::ptrdiff_t begin,
                     std::ptrdiff_t n);
  bool loss_block(const dataset<T>& data, const batch& b, std::ptrdiff_t begin, std::ptrdiff_t n,
                  double& sum);
};

}  // namespace dlcore
