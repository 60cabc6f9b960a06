// Row-wise kernels (softmax, cross-entropy) over arrays of any layout with one class axis.
//
// A kernel is written once, as sweeps over the registers of an "axis", and runs on three of them:
//   short_rows   up to 64 classes: one row a lane, several registers of rows, in transposed tiles
//   long_rows    more classes: classes in the lanes, several rows one after the other
//   long_lanes   more classes that are not the last axis, (N, C, d1): one row a lane
// Which one is decided by the shape alone, so the bits do not depend on the layout.
//
// An axis holds a block of rows. What belongs to a row (its maximum, its sum) lies in row_values,
// one row a lane, on every axis. A kernel goes in stages, each over the whole block before the next
// begins: a stage by itself waits for a chain of results, those of other rows fill the gaps.
//   each(f)        calls f(part) for the parts of the block: registers of rows, or rows
//   each_group(f)  calls f(g) for each register of row_values
//   row(g), rows(g)   the first row and the number of rows in it
// A part offers
//   of(v), set(v, x)             what belongs to its rows
//   sweep(f, flush)              calls f(j) for each register j of the part, in order, and flush()
//                                after each open_sum::block of them
//   in(k, j, fill)               input k; lanes beyond the row's end are `fill`
//   expect_next(j)               asks for what is in this place next, while there is much to
//                                compute
//   keep(j, e), kept(j, again)   e again; where it was not worth keeping, again(in(0, j))
//   write(f)                     writes the output, f(j)
//   bounds(), sum(s), count(n)   fold what belongs to one row
//   at(labels)                   the elements of given classes, one a row
//   with_label(j, labels, t, x), put_label(labels, t)
//                                put t where the label is: into the register that is to be written,
//                                or afterwards
//   per_class(w, j), valid(x, j) weights of the classes; x with 0 beyond the row's end
#pragma once

#include "kernels/class_axis_long.hpp"
#include "kernels/class_axis_short.hpp"

namespace dlcore {

// `run`: brings the threads.
template <class Axis, class Operands, class Kernel>
inline void for_rows_on(const row_shape& shape, const Operands& operands, const memory_plan& plan,
                        double nanoseconds, chunk_runner run, const Kernel& kernel) {
  const std::ptrdiff_t size = shape.chunk();
  run(shape.chunks(), nanoseconds, [&](std::ptrdiff_t chunk) {
    Axis axis(shape.classes, plan);
    const std::ptrdiff_t begin = chunk * size;
    const std::ptrdiff_t end = std::min(shape.rows, begin + size);
    for (std::ptrdiff_t row = begin; row < end; row += axis.block_rows()) {
      axis.first_row = row;
      axis.n = std::min(axis.block_rows(), end - row);
      axis.open(operands);
      kernel(axis, chunk);
      if (operands.back().rows.data) axis.close();
    }
  });
}

// Runs kernel(axis, chunk) over all rows. operands: the inputs, then the output (no data where
// there is none).
template <class T, std::size_t K, class Kernel>
inline void for_rows(const row_shape& shape, const std::array<row_view, K>& operands, double cost,
                     chunk_runner run, const Kernel& kernel) {
  constexpr int inputs = K - 1;
  if (shape.rows == 0 || shape.classes == 0) return;
  const std::ptrdiff_t bytes = std::ptrdiff_t(sizeof(T) * K) * shape.rows * shape.classes;
  cost *= double(sizeof(T) / sizeof(float)) * double(shape.rows) * double(shape.classes);
  memory_plan plan{worth_streaming(bytes), bytes_ahead(bytes)};
  for (int k = 0; k < inputs; ++k)
    plan.stream = plan.stream && operands[k].rows.data != operands[inputs].rows.data;
  if (shape.classes <= short_classes)
    for_rows_on<short_rows<T, inputs>>(shape, operands, plan, cost, run, kernel);
  else if (shape.one_by_one())
    for_rows_on<long_rows<T, inputs>>(shape, operands, plan, cost, run, kernel);
  else for_rows_on<long_lanes<T, inputs>>(shape, operands, plan, cost, run, kernel);
}

}  // namespace dlcore
