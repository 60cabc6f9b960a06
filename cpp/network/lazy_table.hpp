// A table of which an update touches the rows that are in the batch, and no others.
//
// What the others have skipped is made up for before they are read: when a batch has them next, and
// for all of them when the steps end. So every value that anybody sees is that of an update of the
// whole table, at a cost that depends on the rows of the batches.
#pragma once

#include <vector>

#include "network/dataset.hpp"
#include "network/embedding_layer.hpp"
#include "network/skipped_updates.hpp"

namespace dlcore {

template <class T>
class lazy_table {
 public:
  // `column`: of the rows of the data set, the first one that the layer reads. `batch`: the most
  // rows of one.
  lazy_table(const embedding_layer<T>& of, const trained_parameter<T>& weight,
             std::ptrdiff_t column, std::ptrdiff_t batch);

  // Whether the table is large enough for batches of so many rows, and its update can wait.
  static bool suits(const embedding_layer<T>& of, const trained_parameter<T>& weight,
                    const optimizer& by, std::ptrdiff_t batch);

  // Every so manieth row is in a part.
  std::ptrdiff_t parts() const { return std::ptrdiff_t(parts_.size()); }
  const trained_parameter<T>& weight() const { return weight_; }

  // All rows are up to date.
  void begin();
  // Looks for the rows of a part in a batch, and brings them up to date.
  void collect(std::ptrdiff_t part, const matrix_rows<T>& x, const std::int64_t* indices,
               std::ptrdiff_t n);
  // The elements of the gradient of these rows, and at most; sums it over the batch; updates them.
  std::ptrdiff_t gradient_size(std::ptrdiff_t part) const {
    return std::ptrdiff_t(parts_[std::size_t(part)].rows.size()) * of_.width();
  }
  std::ptrdiff_t most_gradients() const { return most_rows_ * of_.width(); }
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, T* to) const;
  void update(std::ptrdiff_t part, T* gradient, const optimizer& by, T factor);
  // An update is about to be made.
  void record(const optimizer& by) { skipped_.record(by, weight_.group); }
  // Brings all rows up to date, those of a share at a time, of as many as there are parts.
  void make_up(std::ptrdiff_t share);

 private:
  struct occurrence {
    std::ptrdiff_t slot, row, column;  // row and column of the batch
  };
  struct part_rows {
    std::vector<std::ptrdiff_t> rows;  // of the table, in the order in which the batch has them
    std::vector<occurrence> occurrences;
  };
  struct row_state {
    std::int32_t updates = 0;  // that it has got
    std::int32_t slot = 0;     // in the rows of its part, if these have it there
  };
  const embedding_layer<T>& of_;
  trained_parameter<T> weight_;
  std::ptrdiff_t column_, most_rows_;
  std::vector<part_rows> parts_;
  std::vector<row_state> states_;
  skipped_updates<T> skipped_;

  void make_up_row(std::ptrdiff_t row);
};

}  // namespace dlcore
