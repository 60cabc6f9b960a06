#include "kernels/elementwise.hpp"

namespace dlcore {

namespace {

// The number of operands is a constant: for small arrays the loops over them would take longer than
// the kernel.
template <class T, std::size_t inputs>
void map_inputs(const run_ref<T>& f, view* first, double cost) {
  const views_of_shape operands(first, inputs + 1);
  order_by_last(operands);
  collapse(operands);
  const std::ptrdiff_t n = operands[0].size();
  const sequence<T> out = output_sequence<T>(operands[inputs], {first, inputs}, n);
  sequence<T> in[inputs];
  bool direct = out.direct();
  for (std::size_t k = 0; k < inputs; ++k) {
    in[k] = sequence<T>(operands[k]);
    direct = direct && in[k].direct();
  }
  const std::ptrdiff_t ahead = bytes_ahead(std::ptrdiff_t((inputs + 1) * sizeof(T)) * n);
  const element_chunks chunks(n);
  const std::ptrdiff_t step = direct ? chunks.size : tile_elements;
  parallel_for(chunks.count(), nanoseconds<T>(cost, n, direct), [&](std::ptrdiff_t chunk) {
    T buffer[inputs + 1][tile_elements];
    const std::ptrdiff_t end = chunks.end(chunk);
    for (std::ptrdiff_t i = chunks.begin(chunk); i < end; i += step) {
      const std::ptrdiff_t m = std::min(step, end - i);
      const T* from[inputs];
      for (std::size_t k = 0; k < inputs; ++k) from[k] = in[k].read(i, m, buffer[k]);
      T* to = out.write(i, buffer[inputs]);
      f(to, m, ahead, from);
      out.finish(i, m, to);
    }
  });
}

}  // namespace

template <class T>
void map_arrays(const run_ref<T>& f, views_of_shape operands, double cost) {
  if (operands.count == 2) map_inputs<T, 1>(f, operands.first, cost);
  else map_inputs<T, 2>(f, operands.first, cost);
}

template void map_arrays<float>(const run_ref<float>&, views_of_shape, double);
template void map_arrays<double>(const run_ref<double>&, views_of_shape, double);

}  // namespace dlcore
