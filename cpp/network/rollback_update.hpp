// The update that is made whole or not at all: all gradients first, which may be summed over
// several batches and scaled by their norm, then the parameters, whose values from before come back
// where the new ones are not finite.
#pragma once

#include <atomic>
#include <utility>
#include <vector>

#include "network/clip_norm.hpp"
#include "network/optimizer.hpp"
#include "network/passes.hpp"

namespace dlcore {

// What became of a batch.
enum class outcome { fine, loss, gradient, parameters, label, code };

template <class T>
class rollback_update {
 public:
  rollback_update(network<T>& net, const passes<T>& of, bool accumulate);

  // The gradients of n rows, in the layers' memory, added to those that wait for an update.
  // `between`: the ranks that share the parts; null: all are made here.
  void add_gradients(std::ptrdiff_t n, ranks* between = nullptr);
  // Whether gradients wait for an update.
  bool is_pending() const { return is_pending_; }
  void forget() { is_pending_ = false; }
  void resume() { is_pending_ = true; }

  // Updates by the gradients that wait, times `scale`. `max_norm`: of all of them; 0: any.
  outcome run(const std::vector<trained_parameter<T>>& parameters, const optimizer& by,
              double max_norm, double scale);
  // What follows an update of the parameters: limits on the norms of weights, and averages.
  void finish(const std::vector<trained_parameter<T>>& parameters, const optimizer& by);

 private:
  using part = typename network<T>::part;

  network<T>& net_;
  const passes<T>& passes_;
  bool accumulate_;
  bool is_pending_ = false;
  bool is_finite_ = true;  // the gradients that wait
  std::vector<part> parts_;
  dealt costs_;
  std::vector<pair_sum<double>> squares_;                       // of the gradients of each part
  std::vector<T> before_;                                       // the parameters before the update
  std::vector<std::pair<tensor<T>*, std::ptrdiff_t>> offsets_;  // where they lie there

  void exchange_gradients(ranks& between, bool& is_finite) const;
  template <class F>
  void each_learning_part(const F& f) const;
  std::ptrdiff_t offset_of(const tensor<T>* p) const;
  void scale_gradients(T scale);
  double limit_norm(double max_norm);
  void restore();
};

}  // namespace dlcore
