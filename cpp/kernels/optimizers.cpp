#include "kernels/optimizers.hpp"

namespace dlcore {

template <class T, class F, std::size_t K>
void update_parameters(const F& f, const std::vector<parameter<T, K>>& parameters) {
  struct piece {
    const parameter<T, K>* of;
    std::ptrdiff_t begin, end;
  };
  std::vector<piece> pieces;
  std::ptrdiff_t total = 0;
  for (const auto& p : parameters) {
    total += p.size;
    const element_chunks chunks(p.size);
    for (std::ptrdiff_t i = 0; i < chunks.count(); ++i)
      pieces.push_back({&p, chunks.begin(i), chunks.end(i)});
  }
  const std::ptrdiff_t ahead = bytes_ahead(std::ptrdiff_t(K * sizeof(T)) * total);
  parallel_for(std::ptrdiff_t(pieces.size()), nanoseconds<T>(F::cost, total),
               [&](std::ptrdiff_t c) {
                 const piece& part = pieces[c];
                 T buffer[K][tile_elements];
                 T* p[K];
                 for (std::ptrdiff_t i = part.begin; i < part.end; i += tile_elements) {
                   const std::ptrdiff_t n = std::min(tile_elements, part.end - i);
                   for (std::size_t k = 0; k < K; ++k)
                     p[k] = const_cast<T*>(part.of->arrays[k].read(i, n, buffer[k]));
                   update_run<T>(f, p, n, ahead, std::make_index_sequence<K>());
                   for (std::size_t k = 0; k < K; ++k)
                     if (written(k)) part.of->arrays[k].finish(i, n, p[k]);
                 }
               });
}

template void update_parameters(const sgd&, const std::vector<parameter<float, 2>>&);
template void update_parameters(const sgd&, const std::vector<parameter<float, 3>>&);
template void update_parameters(const adam&, const std::vector<parameter<float, 4>>&);
template void update_parameters(const adam&, const std::vector<parameter<float, 5>>&);
template void update_parameters(const sgd&, const std::vector<parameter<double, 2>>&);
template void update_parameters(const sgd&, const std::vector<parameter<double, 3>>&);
template void update_parameters(const adam&, const std::vector<parameter<double, 4>>&);
template void update_parameters(const adam&, const std::vector<parameter<double, 5>>&);

}  // namespace dlcore
