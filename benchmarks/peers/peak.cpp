// Nothing but multiply-adds in registers: what the processor can do at the most.

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

template <class T>
static double run(long rounds) {
  typedef T V __attribute__((vector_size(BYTES)));
  // Twelve chains: more than latency times ports, fewer than there are registers. In variables of
  // their own, because an array would stay in memory.
  const V factor = V{} + T(0.5), term = V{} + T(1 + rounds % 7);
  V a = term, b = a + 1, c = a + 2, d = a + 3, e = a + 4, f = a + 5;
  V g = a + 6, h = a + 7, i = a + 8, j = a + 9, k = a + 10, l = a + 11;
  for (long round = 0; round < rounds; ++round) {
    a = a * factor + term, b = b * factor + term, c = c * factor + term;
    d = d * factor + term, e = e * factor + term, f = f * factor + term;
    g = g * factor + term, h = h * factor + term, i = i * factor + term;
    j = j * factor + term, k = k * factor + term, l = l * factor + term;
  }
  return (a + b + c + d + e + f + g + h + i + j + k + l)[0];
}

extern "C" {
// Floating-point operations of a round.
long flops32() { return 2L * 12 * BYTES / 4; }
long flops64() { return 2L * 12 * BYTES / 8; }
double run32(long rounds) { return run<float>(rounds); }
double run64(long rounds) { return run<double>(rounds); }
}
