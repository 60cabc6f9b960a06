#include "kernels/optimizers.hpp"

namespace dlcore {

template <class T, class F, std::size_t K>
void update_parameters(const F& f, const std::vector<parameter<T, K>>& parameters) {
  struct piece {
    const parameter<T, K>* of;
    std::ptrdiff_t begin, end;
  };
  std::ptrdiff_t total = 0;
  for (const auto& p : parameters) total += p.size;
  const std::ptrdiff_t ahead = bytes_ahead(std::ptrdiff_t(K * sizeof(T)) * total);
  const auto update = [&](const piece& part) {
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
  };
  // Means that decay end at subnormal numbers, rounded up for ever, and take x86 many times longer
  // from then on: all updates flush them.
  if (total <= chunk_elements) {
    const flush_subnormals flushed;
    for (const auto& p : parameters) update({&p, 0, p.size});
    return;
  }
  std::vector<piece> pieces;
  pieces.reserve(parameters.size());
  // Small pieces are dealt out together: from work[i] to work[i + 1].
  std::vector<std::size_t> work;
  std::ptrdiff_t open = chunk_elements;
  for (const auto& p : parameters) {
    const element_chunks chunks(p.size);
    for (std::ptrdiff_t i = 0; i < chunks.count(); ++i) {
      if (open >= chunk_elements) work.push_back(pieces.size()), open = 0;
      open += chunks.end(i) - chunks.begin(i);
      pieces.push_back({&p, chunks.begin(i), chunks.end(i)});
    }
  }
  const std::ptrdiff_t count = std::ptrdiff_t(work.size());
  work.push_back(pieces.size());
  parallel_for(count, nanoseconds<T>(F::cost, total), [&](std::ptrdiff_t i) {
    const flush_subnormals flushed;
    for (std::size_t j = work[i]; j < work[i + 1]; ++j) update(pieces[j]);
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
