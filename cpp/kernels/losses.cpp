#include "kernels/losses.hpp"

#include <atomic>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/elementwise.hpp"
#include "simd/math.hpp"
#include "simd/sums.hpp"

namespace dlcore {

namespace {

// A loss functor gives the loss of an element and its derivative with respect to the first input.
// costly: worth code of its own without the slope.
template <class T>
struct loss_and_slope {
  vec<T> loss, slope;

  // A weight of 0 hides an element, be it infinite or NaN.
  loss_and_slope times(vec<T> weight) const {
    using I = int_of<T>;
    const vec<I> counts = weight != vec<T>(T(0));
    return {bit_cast<T>(bit_cast<I>(loss * weight) & counts),
            bit_cast<T>(bit_cast<I>(slope * weight) & counts)};
  }
};

struct mse {
  static constexpr bool costly = false;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    vec<T> d = x - t;
    return {d * d, d + d};
  }
};

template <class T>
inline vec<T> sign(vec<T> x) {  // 0 for 0 and for NaN, like PyTorch's
  const vec<T> zero = T(0), one = T(1);
  return select<T>(x > zero, one, select<T>(x < zero, -one, zero));
}

struct l1 {
  static constexpr bool costly = false;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    vec<T> d = x - t;
    return {abs(d), sign<T>(d)};
  }
};

struct smooth_l1 {
  static constexpr bool costly = false;
  double beta;  // 0: the quotient is not used
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> half = T(0.5), b = T(beta);
    vec<T> d = x - t, a = abs(d), q = d / b;
    mask<T> linear = a >= b;
    return {select<T>(linear, a - half * b, half * d * q), select<T>(linear, sign<T>(d), q)};
  }
};

struct huber {
  static constexpr bool costly = false;
  double delta;  // > 0
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> half = T(0.5), limit = T(delta);
    vec<T> d = x - t, a = abs(d);
    mask<T> linear = a > limit;
    return {select<T>(linear, limit * (a - half * limit), half * d * d),
            select<T>(linear, limit * sign<T>(d), d)};
  }
};

// e^x - t x: the negative log-likelihood of counts t at the log-rate x, without what t alone adds.
struct poisson_nll {
  static constexpr bool costly = false;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> zero = T(0), rate = exp<T>(x);
    return {rate - select<T>(t == zero, zero, t * x), rate - t};
  }
};

// q d where d = t - x is positive, else (q - 1) d; q is a further input.
struct quantile {
  static constexpr bool costly = false;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t, vec<T> q) const {
    const vec<T> zero = T(0), one = T(1), d = t - x;
    const mask<T> below = d > zero, above = d < zero;
    return {select<T>(below, q, q - one) * d,
            select<T>(below, -q, select<T>(above, one - q, zero))};
  }
};

// t (log t - x), 0 where t is 0, though x may be -inf there; x are log-probabilities.
struct divergence {
  static constexpr bool costly = false;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> zero = T(0);
    return {select<T>(t == zero, zero, t * (log<T>(t) - x)), -t};
  }
};

struct divergence_of_logs {
  static constexpr bool costly = false;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> zero = T(0), p = exp<T>(t);
    return {select<T>(p == zero, zero, p * (t - x)), -p};
  }
};

// The logs are not let below -100, nor x (1 - x) below 1e-12: finite losses for wrong certainties.
struct bce {
  static constexpr bool costly = true;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> one = T(1), least = T(-100), tiny = T(1e-12);
    // max keeps its first argument where that is NaN.
    vec<T> log_x = max<T>(log<T>(x), least), log_rest = max<T>(log1p<T>(-x), least);
    vec<T> loss = (t - one) * log_rest - t * log_x;
    vec<T> slope = (x - t) / max<T>((one - x) * x, tiny);
    return {loss, slope};
  }
};

// (1 - t) softplus(x) + p t softplus(-x): no cancellation at any x, for t 0 and 1 above all. With
// softplus(-|x|) = log1p(e^-|x|) in both that is ((1 - t) + p t) log1p(e^-|x|), and |x| times 1 - t
// or p t, whichever side x is on.
// Inputs x, t, then p if PosWeight.
template <bool PosWeight>
struct bce_with_logits {
  static constexpr bool costly = true;
  template <class T, class... P>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t, P... p) const {
    static_assert(sizeof...(p) == PosWeight);
    const vec<T> on = (p * ... * t);
    const vec<T> one = T(1), zero = T(0), off = one - t, z = negative_abs<T>(x);
    const bool far = any_subnormal_exp<T>(z);
    const vec<T> e = far ? exp_negative<T>(z) : exp_normal<T>(z);
    const vec<T> r = reciprocal<T>(one + e), small = e * r;
    vec<T> log = log1p_unit<T>(e);
    if constexpr (PosWeight) log = (off + on) * log;
    const mask<T> negative = x < zero;
    const vec<T> wrong = select<T>(negative, on, off);
    const loss_and_slope<T> r_of{
        fma<T>(-z, wrong, log),
        fma<T>(off, select<T>(negative, small, r), -on * select<T>(negative, r, small))};
    return far ? limits(r_of, wrong == zero, log, (on == zero) & (off == zero)) : r_of;
  }

 private:
  // Where x may be infinite or NaN: a certainty that is right costs 0, and what weighs nothing
  // costs nothing.
  template <class T>
  static loss_and_slope<T> limits(const loss_and_slope<T>& r, vec<int_of<T>> right, vec<T> log,
                                  vec<int_of<T>> hidden) {
    const vec<T> zero = T(0);
    return {select<T>(hidden, zero, select<T>(right, log, r.loss)),
            select<T>(hidden, zero, r.slope)};
  }
};

// Where a run of a loss goes: the losses to memory or, if null, to the sum; unless null the slopes,
// times `factor`. `weight`: the number of the input that both are multiplied by, or 0.
template <class T>
struct loss_target {
  T *losses, *slopes;
  T factor;
  std::size_t weight;
  wide_sum<T>& sum;
};

// A loss functor over a run of n elements of its inputs. `ahead`: bytes_ahead. The sum goes to
// double at the end of the run, which is that of a whole tile or of the chunk.
template <class T, bool Slopes, bool Weighted, class F, std::size_t... I>
__attribute__((noinline)) void run_of_loss(const F& functor, const T* const* in, std::ptrdiff_t n,
                                           std::ptrdiff_t ahead, const loss_target<T>& to,
                                           std::index_sequence<I...>) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  const F f = functor;
  const T* const from[] = {in[I]...};
  [[maybe_unused]] const T* const weight = in[to.weight];
  // At run time: twice the code for each of them would be a third of the whole.
  T *const losses = to.losses, *const slopes = Slopes ? to.slopes : nullptr;
  const vec<T> factor = to.factor;
  open_sum<T> sum(to.sum);
  const auto at = [&](std::ptrdiff_t j) {
    (prefetch(from[I] + j, ahead), ...);
    loss_and_slope<T> r = f(load<T>(from[I] + j)...);
    if constexpr (Weighted) r = r.times(load<T>(weight + j));
    if (losses) store<T>(losses + j, r.loss);
    else sum.add(r.loss);
    if (slopes) store<T>(slopes + j, r.slope * factor);
  };
  constexpr std::ptrdiff_t block = open_sum<T>::block * w;
  std::ptrdiff_t j = 0;
  for (; j + block <= n; sum.flush())
    for (const std::ptrdiff_t end = j + block; j < end; j += w) at(j);
  for (; j + w <= n; j += w) at(j);
  if (j < n) {
    loss_and_slope<T> r = f(load_part<T>(from[I] + j, n - j)...);
    if constexpr (Weighted) r = r.times(load_part<T>(weight + j, n - j));
    if (losses) store_part<T>(losses + j, r.loss, n - j);
    else sum.add(first_lanes<T>(r.loss, n - j));
    if (slopes) store_part<T>(slopes + j, r.slope * factor, n - j);
  }
  sum.flush();
  to.sum = sum.flushed;
}

template <class F>
inline F with_options([[maybe_unused]] const double* option) {
  if constexpr (std::is_empty_v<F>) return {};
  else return {option[0]};
}

template <class T>
using loss_run = void (*)(const double* options, const T* const* in, std::ptrdiff_t n,
                          std::ptrdiff_t ahead, const loss_target<T>& to);

// The loss of the K inputs, without what is not wanted.
template <class T, class F, std::size_t K>
void loss_of(const double* options, const T* const* in, std::ptrdiff_t n, std::ptrdiff_t ahead,
             const loss_target<T>& to) {
  constexpr auto k = std::make_index_sequence<K>();
  const F f = with_options<F>(options);
  const bool slopes = !F::costly || to.slopes;
  if (slopes && to.weight) run_of_loss<T, true, true>(f, in, n, ahead, to, k);
  else if (slopes) run_of_loss<T, true, false>(f, in, n, ahead, to, k);
  else if (to.weight) run_of_loss<T, !F::costly, true>(f, in, n, ahead, to, k);
  else run_of_loss<T, !F::costly, false>(f, in, n, ahead, to, k);
}

constexpr loss_info infos[] = {
#define DLCORE_LOSS(name, f, cost, further, mean, ...) \
  {#name, cost, further, weighted_mean::mean, true, {__VA_ARGS__}},
#define DLCORE_LOSS_WITH_MORE(name, f, cost, further, mean, ...) \
  {#name, cost, further, weighted_mean::mean, false, {__VA_ARGS__}},
#include "kernels/losses.inc"
#undef DLCORE_LOSS
#undef DLCORE_LOSS_WITH_MORE
};

template <class T>
loss_run<T> run_of(loss_kind kind) {
  static constexpr loss_run<T> runs[] = {
#define DLCORE_LOSS(name, f, ...) \
  loss_of<T, f, infos[std::size_t(loss_kind::name)].further ? 3 : 2>,
#define DLCORE_LOSS_WITH_MORE DLCORE_LOSS
#include "kernels/losses.inc"
#undef DLCORE_LOSS
#undef DLCORE_LOSS_WITH_MORE
  };
  return runs[std::size_t(kind)];
}

}  // namespace

const loss_info& info(loss_kind kind) { return infos[std::size_t(kind)]; }

bool find_loss(const char* name, loss_kind& kind) {
  for (const loss_kind k : all_losses)
    if (std::strcmp(name, info(k).name) == 0) return kind = k, true;
  return false;
}

template <class T>
double elementwise_loss(const loss_spec& loss, loss_operands& operands, double scale,
                        chunk_runner run) {
  const loss_run<T> f = run_of<T>(loss.kind);
  const std::size_t inputs = operands.inputs;
  const bool each = operands.losses, slopes = operands.slopes;
  view* const views = operands.views.data();
  collapse({views, inputs + each + slopes});
  const std::ptrdiff_t n = views[0].size();
  sequence<T> in[loss_operands::most], loss_out, grad_out;
  bool direct = true;
  for (std::size_t k = 0; k < inputs; ++k) {
    in[k] = sequence<T>(views[k]);
    direct = direct && in[k].direct();
  }
  if (each) loss_out = output_sequence<T>(views[inputs], {views, inputs}, n);
  if (slopes) grad_out = output_sequence<T>(views[inputs + each], {views, inputs}, n);
  direct = direct && (!each || loss_out.direct()) && (!slopes || grad_out.direct());
  const element_chunks chunks(n);
  const std::ptrdiff_t step = direct ? chunks.size : tile_elements;
  const std::ptrdiff_t ahead = bytes_ahead(std::ptrdiff_t((inputs + 1) * sizeof(T)) * n);
  std::vector<double> sums(each ? 0 : chunks.count());
  run(chunks.count(), nanoseconds<T>(info(loss.kind).cost, n, direct), [&](std::ptrdiff_t chunk) {
    T buffer[loss_operands::most + 2][tile_elements];
    wide_sum<T> sum;
    const std::ptrdiff_t end = chunks.end(chunk);
    for (std::ptrdiff_t i = chunks.begin(chunk); i < end; i += step) {
      const std::ptrdiff_t m = std::min(step, end - i);
      const T* from[loss_operands::most];
      for (std::size_t k = 0; k < inputs; ++k) from[k] = in[k].read(i, m, buffer[k]);
      const loss_target<T> to{each ? loss_out.write(i, buffer[inputs]) : nullptr,
                              slopes ? grad_out.write(i, buffer[inputs + 1]) : nullptr, T(scale),
                              operands.weight, sum};
      f(loss.options, from, m, ahead, to);
      if (each) loss_out.finish(i, m, to.losses);
      if (slopes) grad_out.finish(i, m, to.slopes);
    }
    if (!each) sums[chunk] = sum.total();
  });
  return tree_sum(sums.data(), std::ptrdiff_t(sums.size()));
}

template <class T>
bool all_probabilities(std::array<view, 1> x, chunk_runner run) {
  collapse(x);
  const sequence<T> in(x[0]);
  const element_chunks chunks(x[0].size());
  std::atomic<bool> good{true};
  run(chunks.count(), nanoseconds<T>(0.1, chunks.n), [&](std::ptrdiff_t chunk) {
    mask<T> bad = int_of<T>(0);
    visit_chunk(in, chunks, chunk,
                [&](vec<T> v) { bad = bad | (v < vec<T>(T(0))) | (v > vec<T>(T(1))); });
    if (any(bad)) good.store(false, std::memory_order_relaxed);
  });
  return good.load();
}

template <class T>
bool all_weighted_probabilities(std::array<view, 2> x_and_weight, chunk_runner run) {
  collapse(x_and_weight);
  const sequence<T> x(x_and_weight[0]), weight(x_and_weight[1]);
  const element_chunks chunks(x_and_weight[0].size());
  std::atomic<bool> good{true};
  run(chunks.count(), nanoseconds<T>(0.2, chunks.n), [&](std::ptrdiff_t chunk) {
    T buffer[2][tile_elements];
    mask<T> bad = int_of<T>(0);
    const auto look = [&](vec<T> p, vec<T> w) {
      const vec<T> zero = T(0);
      bad = bad | ((w != zero) & ((p < zero) | (p > vec<T>(T(1)))));
    };
    constexpr std::ptrdiff_t width = vec<T>::size;
    const std::ptrdiff_t end = chunks.end(chunk);
    for (std::ptrdiff_t i = chunks.begin(chunk); i < end; i += tile_elements) {
      const std::ptrdiff_t n = std::min(tile_elements, end - i);
      const T *p = x.read(i, n, buffer[0]), *w = weight.read(i, n, buffer[1]);
      std::ptrdiff_t j = 0;
      for (; j + width <= n; j += width) look(load<T>(p + j), load<T>(w + j));
      if (j < n) look(load_part<T>(p + j, n - j), load_part<T>(w + j, n - j));
    }
    if (any(bad)) good.store(false, std::memory_order_relaxed);
  });
  return good.load();
}

template double elementwise_loss<float>(const loss_spec&, loss_operands&, double, chunk_runner);
template double elementwise_loss<double>(const loss_spec&, loss_operands&, double, chunk_runner);
template bool all_probabilities<float>(std::array<view, 1>, chunk_runner);
template bool all_probabilities<double>(std::array<view, 1>, chunk_runner);
template bool all_weighted_probabilities<float>(std::array<view, 2>, chunk_runner);
template bool all_weighted_probabilities<double>(std::array<view, 2>, chunk_runner);

}  // namespace dlcore
