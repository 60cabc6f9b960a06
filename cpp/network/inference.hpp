// Inference: the outputs of a network for rows, by any number of callers at once.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "network/network.hpp"

namespace dlcore {

template <class T>
class inference {
 public:
  // `is_fixed`: nobody changes the parameters from now on.
  inference(std::vector<layer_spec<T>> layers, bool is_fixed);

  std::ptrdiff_t in() const { return first_->in(); }
  // Of a row: outputs, which are those of each member where these do not end.
  std::ptrdiff_t out() const { return first_->out() * first_->copies(); }
  bool reads_sparse() const { return first_->sparse_input; }
  // Of a row, on one thread.
  double nanoseconds() const { return first_->cost(); }

  // The outputs of `rows` rows, with the parameters as they are now. False where a value is no
  // category, and, with `check`, where one is not finite.
  bool run(rows_of<const T> x, rows_of<T> y, std::ptrdiff_t rows, bool check);
  // The same of all rows of a sparse matrix, for a network that reads them.
  bool run(const matrix_rows<T>& x, rows_of<T> y, std::ptrdiff_t rows);

 private:
  // The packed weights of a network, unless they are fixed, are those of one call: calls at the
  // same time have a network each, which is made when there are more of them than ever before.
  struct entry {
    network<T> net;
    std::unique_ptr<entry> next;
  };
  class borrowed;

  // Where rows lie: in the input, in the output, or in a buffer from one column on.
  struct place {
    std::ptrdiff_t buffer, begin, step, copies;
    static constexpr std::ptrdiff_t input = -1, output = -2;
  };
  struct move {
    std::size_t layer;
    place from, to;
  };

  std::vector<layer_spec<T>> layers_;
  const bool is_fixed_;
  network<T>* first_;  // of the first entry; few rows need nothing that a call changes
  std::mutex mutex_;
  std::unique_ptr<entry> idle_;

  std::vector<move> moves_;     // of the layers that have something to do
  std::ptrdiff_t buffers_ = 0;  // that are needed at once
  std::ptrdiff_t widest_ = 0;   // elements of a row of them

  void plan(const network<T>& net);
  bool run_on(network<T>& net, rows_of<const T> x, rows_of<T> y, std::ptrdiff_t rows, bool few,
              bool check) const;
};

}  // namespace dlcore
