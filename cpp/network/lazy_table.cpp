#include "network/lazy_table.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/elementwise.hpp"

namespace dlcore {

namespace {

// Each part looks at all codes of a batch, so that there are not many of them; a power of 2, by
// which rows are dealt.
constexpr std::ptrdiff_t most_parts = 4;
// With fewer rows for each one of a batch, few wait for long, and an update of all of them is one
// run through memory: with 39, in ten tables of 10,000 rows, a step of Adam took as long either way
// (python -m benchmarks options, with a smaller ratio here).
constexpr std::ptrdiff_t least_ratio = 64;

}  // namespace

template <class T>
lazy_table<T>::lazy_table(const embedding_layer<T>& of, const trained_parameter<T>& weight,
                          std::ptrdiff_t column, std::ptrdiff_t batch)
    : of_(of),
      weight_(weight),
      column_(column),
      most_rows_(std::min(of.table_rows(), batch * of.in)),
      parts_(batch * of.in * of.width() < 1024 ? 1 : most_parts),
      states_(std::size_t(of.table_rows())) {
  for (part_rows& own : parts_) {
    own.rows.reserve(std::size_t(most_rows_));
    own.occurrences.reserve(std::size_t(batch * of.in));
  }
}

template <class T>
bool lazy_table<T>::suits(const embedding_layer<T>& of, const trained_parameter<T>& weight,
                          const optimizer& by, std::ptrdiff_t batch) {
  return of.table_rows() >= least_ratio * batch * of.in &&
         of.table_rows() < std::numeric_limits<std::int32_t>::max() &&
         skipped_updates<T>::suits(by, weight);
}

template <class T>
void lazy_table<T>::begin() {
  skipped_.clear();
  std::fill(states_.begin(), states_.end(), row_state{});
}

template <class T>
void lazy_table<T>::make_up_row(std::ptrdiff_t row) {
  row_state& state = states_[std::size_t(row)];
  const std::ptrdiff_t begin = row * of_.width();
  skipped_.make_up(weight_, begin, begin + of_.width(), state.updates);
  state.updates = std::int32_t(skipped_.count());
}

template <class T>
void lazy_table<T>::collect(std::ptrdiff_t part, const matrix_rows<T>& x,
                            const std::int64_t* indices, std::ptrdiff_t n) {
  part_rows& own = parts_[std::size_t(part)];
  own.rows.clear(), own.occurrences.clear();
  const std::ptrdiff_t mask = parts() - 1;
  for (std::ptrdiff_t r = 0; r < n; ++r) {
    const char* const from = x.data + indices[r] * x.row_stride;
    for (std::ptrdiff_t c = 0; c < of_.in; ++c) {
      T code;
      std::memcpy(&code, from + (column_ + c) * x.column_stride, sizeof(T));
      const std::ptrdiff_t row = of_.row_of(c, code);
      if (row < 0 || (row & mask) != part) continue;
      row_state& seen = states_[std::size_t(row)];
      const auto slot = std::size_t(seen.slot);
      if (slot >= own.rows.size() || own.rows[slot] != row) {
        seen.slot = std::int32_t(own.rows.size());
        own.rows.push_back(row);
        prefetch(weight_.of->value + row * of_.width(), 0);
        for (const T* state : weight_.state)
          if (state) prefetch(state + row * of_.width(), 0);
      }
      own.occurrences.push_back({seen.slot, r, c});
    }
  }
  for (const std::ptrdiff_t row : own.rows) make_up_row(row);
}

template <class T>
void lazy_table<T>::gradient(std::ptrdiff_t part, rows_of<const T> dy, T* to) const {
  const std::ptrdiff_t width = of_.width();
  std::fill_n(to, gradient_size(part), T(0));
  for (const occurrence& own : parts_[std::size_t(part)].occurrences) {
    add_run<T>(dy.row(own.row) + of_.outputs_of_column(own.column), to + own.slot * width, width);
  }
}

template <class T>
void lazy_table<T>::update(std::ptrdiff_t part, T* gradient, const optimizer& by, T factor) {
  const std::ptrdiff_t width = of_.width();
  for (const std::ptrdiff_t row : parts_[std::size_t(part)].rows) {
    by.apply(weight_, gradient, row * width, (row + 1) * width, factor);
    states_[std::size_t(row)].updates = std::int32_t(skipped_.count());
    gradient += width;
  }
}

template <class T>
void lazy_table<T>::make_up(std::ptrdiff_t share) {
  const std::ptrdiff_t rows = of_.table_rows(), size = ceil_div(rows, parts());
  const std::ptrdiff_t last = std::min(rows, (share + 1) * size);
  for (std::ptrdiff_t row = share * size; row < last; ++row) make_up_row(row);
}

template class lazy_table<float>;
template class lazy_table<double>;

}  // namespace dlcore
