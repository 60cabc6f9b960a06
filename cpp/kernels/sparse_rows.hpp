// A sparse matrix in compressed rows, as others make it: checked, and brought into one form.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dlcore {

// What is wrong with compressed rows, or whether the columns of each row ascend.
enum class row_order { ascending, other, bad_starts, bad_column };

// Of `rows` rows, which begin at starts[0], ..., starts[rows - 1] and end at starts[1], ...,
// among `size` elements. `bad`: the first column that is not one of `width`.
template <class I>
row_order order_of_rows(const I* starts, std::ptrdiff_t rows, const I* columns, std::ptrdiff_t size,
                        std::ptrdiff_t width, std::ptrdiff_t& bad);

// Writes the rows with ascending columns, the elements of a column added up in their order, and
// where they begin, from 0 on. Returns how many elements there are.
template <class T, class I>
std::ptrdiff_t sort_rows(const T* values, const I* columns, const I* starts, std::ptrdiff_t rows,
                         T* sorted_values, I* sorted_columns, I* sorted_starts);

}  // namespace dlcore
