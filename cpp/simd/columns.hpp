// Neighbouring columns of w rows of a matrix to registers, one row a lane, and back.
//
// By pieces of 128 bits: a register takes one of each of w / size rows, and lanes change places
// within the pieces alone, for which every level has instructions of one cycle. Squares of a whole
// register would cross its halves, and be mostly empty where rows are short.
#pragma once

#include "simd/vec.hpp"

namespace dlcore {

template <class T>
struct piece_of;  // spelled out, as native_of
template <>
struct piece_of<float> {
  typedef float type __attribute__((vector_size(16)));
  typedef float pair __attribute__((vector_size(32)));
};
template <>
struct piece_of<double> {
  typedef double type __attribute__((vector_size(16)));
  typedef double pair __attribute__((vector_size(32)));
};
template <class T>
using piece = typename piece_of<T>::type;

// The elements of a piece, and its pieces of a register.
template <class T>
inline constexpr std::ptrdiff_t piece_size = 16 / std::ptrdiff_t(sizeof(T));
template <class T>
inline constexpr std::ptrdiff_t register_pieces = vec<T>::size / piece_size<T>;

// The first N elements; the others are 0. One by one where they are not all: a copy of fewer bytes
// goes through memory.
template <class T, std::ptrdiff_t N>
inline piece<T> load_piece(const T* p) {
  piece<T> r{};
  if constexpr (N == piece_size<T>) std::memcpy(&r, p, sizeof r);
  else
    for (std::ptrdiff_t i = 0; i < N; ++i) r[i] = p[i];
  return r;
}

template <class T, std::ptrdiff_t N>
inline void store_piece(T* p, piece<T> x) {
  if constexpr (N == piece_size<T>) std::memcpy(p, &x, sizeof x);
  else
    for (std::ptrdiff_t i = 0; i < N; ++i) p[i] = x[i];
}

template <class T, std::size_t... I>
inline vec<T> join_pieces(const piece<T> (&p)[register_pieces<T>], std::index_sequence<I...>) {
  if constexpr (register_pieces<T> == 1) {
    return p[0];
  } else if constexpr (register_pieces<T> == 2) {
    return __builtin_shufflevector(p[0], p[1], int(I)...);
  } else {
    const auto pair = [](piece<T> a, piece<T> b) -> typename piece_of<T>::pair {
      if constexpr (piece_size<T> == 4)
        return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
      else return __builtin_shufflevector(a, b, 0, 1, 2, 3);
    };
    return __builtin_shufflevector(pair(p[0], p[1]), pair(p[2], p[3]), int(I)...);
  }
}

template <class T, std::ptrdiff_t J, std::size_t... I>
inline piece<T> piece_at(vec<T> x, std::index_sequence<I...>) {
  return __builtin_shufflevector(x.v, x.v, int(J * piece_size<T> + I)...);
}

// The first N columns, N <= piece_size, of the w rows that are `step` elements apart: x[k] is
// column k. Nothing beyond them is read.
template <class T, std::ptrdiff_t N>
__attribute__((always_inline)) inline void load_columns(const T* p, std::ptrdiff_t step,
                                                        vec<T> (&x)[piece_size<T>]) {
#pragma GCC unroll 4
  for (std::ptrdiff_t i = 0; i < piece_size<T>; ++i) {
    piece<T> parts[register_pieces<T>];
#pragma GCC unroll 4
    for (std::ptrdiff_t j = 0; j < register_pieces<T>; ++j)
      parts[j] = load_piece<T, N>(p + (j * piece_size<T> + i) * step);
    x[i] = join_pieces<T>(parts, std::make_index_sequence<vec<T>::size>());
  }
  transpose<T>(x);
}

// The inverse of load_columns; x is changed.
template <class T, std::ptrdiff_t N, std::size_t... J>
__attribute__((always_inline)) inline void store_columns(T* p, std::ptrdiff_t step,
                                                         vec<T> (&x)[piece_size<T>],
                                                         std::index_sequence<J...>) {
  transpose<T>(x);
#pragma GCC unroll 4
  for (std::ptrdiff_t i = 0; i < piece_size<T>; ++i)
    (store_piece<T, N>(p + (std::ptrdiff_t(J) * piece_size<T> + i) * step,
                       piece_at<T, J>(x[i], std::make_index_sequence<piece_size<T>>())),
     ...);
}
template <class T, std::ptrdiff_t N>
inline void store_columns(T* p, std::ptrdiff_t step, vec<T> (&x)[piece_size<T>]) {
  store_columns<T, N>(p, step, x, std::make_index_sequence<register_pieces<T>>());
}

}  // namespace dlcore
