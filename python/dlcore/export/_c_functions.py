"""Functions of float32 in C, without the library of C: those of cpp/simd/math.hpp for one number.

Largest errors, in ULP, are about those of the kernels without multiply-add: exp 1.1, expm1 1.8,
sigmoid 2.4, tanh 2.5, log1p 0.9, the normal distribution 6. NaN stays NaN. ``@`` is the name that the
header begins its names with.
"""

from __future__ import annotations

# By name: what a function calls, and its text.
FUNCTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "bits": (
        (),
        """\
typedef union {
    float f;
    uint32_t u;
} @_bits;""",
    ),
    "power_of_two": (
        ("bits",),
        """\
/* 2^n of a normal number. */
static inline float @_power_of_two(int32_t n) {
    @_bits b;
    b.u = (uint32_t)(n + 127) << 23;
    return b.f;
}""",
    ),
    "exponent": (
        (),
        """\
/* x = n ln 2 + r with a small r: returns n. */
static inline int32_t @_exponent(float x) {
    const float n = x * 1.44269504f;
    return (int32_t)(n < 0.0f ? n - 0.5f : n + 0.5f);
}""",
    ),
    "small_expm1": (
        (),
        """\
/* e^r - 1, r being x less n ln 2. */
static inline float @_small_expm1(float x, int32_t n) {
    const float k = (float)n;
    const float r = (x - k * 0.693359375f) - k * -2.12194440e-4f;
    const float p = 0.00139262508f;
    return ((((p * r + 0.00836323295f) * r + 0.0416665542f) * r + 0.166665763f) * r + 0.5f) *
               (r * r) + r;
}""",
    ),
    "exp": (
        ("power_of_two", "exponent", "small_expm1"),
        """\
static inline float @_exp(float x) {
    const float low = x < -104.0f ? -104.0f : x;
    const float c = low > 89.0f ? 89.0f : low;
    const float z = x == x ? c : 0.0f;
    const int32_t n = @_exponent(z);
    const int32_t half = n / 2; /* 2^n itself may be beyond the normal numbers */
    const float e = (1.0f + @_small_expm1(z, n)) * @_power_of_two(half) * @_power_of_two(n - half);
    return x == x ? e : x;
}""",
    ),
    "expm1": (
        ("power_of_two", "exponent", "small_expm1"),
        """\
static inline float @_expm1(float x) {
    const float low = x < -18.0f ? -18.0f : x;
    const float c = low > 88.7f ? 88.7f : low;
    const float z = x == x ? c : 0.0f;
    const int32_t n = @_exponent(z);
    const float s = @_power_of_two(n - 1);
    const float half = s * @_small_expm1(z, n) + (s - 0.5f);
    return x == x && x != 0.0f ? half + half : x;
}""",
    ),
    "log1p": (
        (),
        """\
/* For x from 0 to 1. */
static inline float @_log1p(float x) {
    const float s = x / (x + 2.0f);
    const float z = s * s;
    const float half = 0.5f * x * x;
    const float p = 0.232243292f;
    const float q = (((p * z + 0.217065758f) * z + 0.28592358f) * z + 0.399997063f) * z;
    return x - (half - s * (z * (q + 0.666666673f) + half));
}""",
    ),
    "abs": (
        (),
        """\
static inline float @_abs(float x) {
    return x < 0.0f ? -x : x;
}""",
    ),
    "inverse_root": (
        ("bits",),
        """\
/* 1 / sqrt(x) by Newton's method. */
static inline float @_inverse_root(float x) {
    @_bits b;
    float r;
    int i;
    b.f = x;
    b.u = 0x5f375a86u - (b.u >> 1);
    r = b.f;
    for (i = 0; i < 4; ++i) r = r * (1.5f - 0.5f * x * r * r);
    return r;
}""",
    ),
    "copy": (
        (),
        """\
/* In two turns, of which compilers make no call of memcpy. */
static inline void @_copy(float *to, const float *x, int n) {
    int i;
    for (i = 0; i < n; i += 2) to[i] = x[i];
    for (i = 1; i < n; i += 2) to[i] = x[i];
}""",
    ),
    "fill": (
        (),
        """\
/* In two turns, of which compilers make no call of memset. */
static inline void @_fill(float *to, float value, int n) {
    int i;
    for (i = 0; i < n; i += 2) to[i] = value;
    for (i = 1; i < n; i += 2) to[i] = value;
}""",
    ),
    "nan": (
        ("bits",),
        """\
static inline float @_nan(void) {
    @_bits b;
    b.u = 0x7fc00000u;
    return b.f;
}""",
    ),
    "code": (
        (),
        """\
/* The code that a number is, of so many, or -1. */
static inline int @_code(float x, int size, int missing) {
    int code;
    if (x != x) return missing;
    if (!(x >= 0.0f && x < (float)size)) return -1;
    code = (int)x;
    return (float)code == x ? code : -1;
}""",
    ),
    "turn": (
        (),
        """\
/* What is left of turns less the nearest whole number of them. */
static inline float @_turn(double turns) {
    const double size = turns < 0 ? -turns : turns;
    double rest;
    if (!(size < 4503599627370496.0)) return (float)(turns - turns);
    rest = size - (double)(int64_t)(size + 0.5);
    return (float)(turns < 0 ? -rest : rest);
}""",
    ),
    "cosine": (
        (),
        """\
/* The cosine of an angle of at most half a turn less so many quarters: with 1 the sine. */
static inline float @_cosine(float turn, int32_t quarters) {
    const float z = turn == turn ? 4.0f * turn : 0.0f;
    const int32_t n = (int32_t)(z < 0.0f ? z - 0.5f : z + 0.5f);
    const float r = z - (float)n, q = r * r;
    const float s = ((-0.00462190732f * q + 0.0796870201f) * q - 0.64596402f) * q * r +
                    (r * -4.37113900e-08f + r * 1.57079637f);
    const float c =
        (((0.000906727458f * q - 0.0208613515f) * q + 0.25366941f) * q - 1.23370055f) * q + 1.0f;
    const int32_t k = (n + 4 - quarters) & 3;
    const float w = (k & 1) ? s : c;
    return turn == turn ? (((k + 1) & 2) ? -w : w) : turn;
}""",
    ),
    "smooth_clip": (
        ("inverse_root",),
        """\
/* x / sqrt(1 + (x / bound)^2) */
static inline float @_smooth_clip(float x, float bound) {
    const float z = x / bound;
    const float low = z < -1e18f ? -1e18f : z; /* whose square is a number */
    const float c = low > 1e18f ? 1e18f : low;
    return bound * (c * @_inverse_root(1.0f + c * c));
}""",
    ),
    "sum": (
        (),
        """\
static inline float @_sum(const float *x, int n) {
    float s[4];
    int i;
    s[0] = s[1] = s[2] = s[3] = 0.0f;
    for (i = 0; i < n; ++i) s[i & 3] += x[i];
    return (s[0] + s[1]) + (s[2] + s[3]);
}""",
    ),
    "square_sum": (
        (),
        """\
static inline float @_square_sum(const float *x, int n) {
    float s[4];
    int i;
    s[0] = s[1] = s[2] = s[3] = 0.0f;
    for (i = 0; i < n; ++i) s[i & 3] += x[i] * x[i];
    return (s[0] + s[1]) + (s[2] + s[3]);
}""",
    ),
    "relu": (
        (),
        """\
static inline float @_relu(float x) {
    return x < 0.0f ? 0.0f : x;
}""",
    ),
    "leaky_relu": (
        (),
        """\
static inline float @_leaky_relu(float x, float negative_slope) {
    return x > 0.0f ? x : x * negative_slope;
}""",
    ),
    "elu": (
        ("expm1",),
        """\
static inline float @_elu(float x, float alpha) {
    const float e = alpha * @_expm1(x > 0.0f ? 0.0f : x);
    return x > 0.0f ? x : e;
}""",
    ),
    "sigmoid": (
        ("exp", "abs"),
        """\
static inline float @_sigmoid(float x) {
    const float e = @_exp(-@_abs(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}""",
    ),
    "tanh": (
        ("expm1", "abs"),
        """\
static inline float @_tanh(float x) {
    const float t = @_expm1(-2.0f * @_abs(x));
    const float r = t / (t + 2.0f);
    return x < 0.0f ? r : 0.0f - r;
}""",
    ),
    "silu": (
        ("sigmoid",),
        """\
static inline float @_silu(float x) {
    return x < -200.0f ? 0.0f : x * @_sigmoid(x);
}""",
    ),
    "mish": (
        ("exp", "abs"),
        """\
static inline float @_mish(float x) {
    const float e = @_exp(-@_abs(x));
    const float t = x < 0.0f ? e * (e + 2.0f) : 1.0f + 2.0f * e;
    return x < -200.0f ? 0.0f : x * (t / (t + (x < 0.0f ? 2.0f : 2.0f * e * e)));
}""",
    ),
    "selu": (
        ("expm1",),
        """\
static inline float @_selu(float x) {
    const float e = 1.75809934f * @_expm1(x > 0.0f ? 0.0f : x);
    return x > 0.0f ? 1.05070099f * x : e;
}""",
    ),
    "softplus": (
        ("exp", "log1p", "abs"),
        """\
static inline float @_softplus(float x, float beta, float threshold) {
    const float z = beta * x;
    const float smooth = ((z > 0.0f ? z : 0.0f) + @_log1p(@_exp(-@_abs(z)))) / beta;
    return z > threshold ? x : (x == x ? smooth : x);
}""",
    ),
    "log_sigmoid": (
        ("exp", "log1p", "abs"),
        """\
static inline float @_log_sigmoid(float x) {
    return (x < 0.0f ? x : 0.0f) - @_log1p(@_exp(-@_abs(x)));
}""",
    ),
    "log": (
        ("bits", "log1p"),
        """\
/* For x from 1 on. */
static inline float @_log(float x) {
    @_bits b;
    float n;
    b.f = x;
    n = (float)((int32_t)(b.u >> 23) - 127);
    b.u = (b.u & 0x007fffffu) | 0x3f800000u;
    return x == x ? n * 0.693147182f + @_log1p(b.f - 1.0f) : x;
}""",
    ),
    "log_sum": (
        ("exp", "log"),
        """\
/* The logarithm of the sum of what these are the logarithms of. */
static inline float @_log_sum(const float *x, int n) {
    float largest = x[0], sum = 0.0f;
    int i;
    for (i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
    for (i = 0; i < n; ++i) sum += @_exp(x[i] - largest);
    return largest + @_log(sum);
}""",
    ),
    "log_add": (
        ("exp", "log1p", "abs"),
        """\
/* The logarithm of the sum of what two are the logarithms of. */
static inline float @_log_add(float x, float y) {
    return (x > y ? x : y) + @_log1p(@_exp(-@_abs(x - y)));
}""",
    ),
    "gelu": (
        ("exp", "abs", "bits"),
        """\
/* x times the standard normal distribution function, whose tail is exp(-x^2 / 2) times a polynomial
   over 1 + |x|; x^2 / 2 is in two parts, since exp multiplies the error of its argument. */
static inline float @_gelu(float x) {
    const float a = @_abs(x) < 40.0f ? @_abs(x) : 40.0f;
    const float t = (a - 4.0f) / (a + 4.0f);
    const float p = -7.4374544e-05f;
    const float q = ((((p * t - 6.6737185e-05f) * t + 0.00069084486f) * t - 0.00029991876f) * t -
                     0.0050021409f) * t + 0.01793945f;
    const float r = ((((q * t - 0.032197815f) * t + 0.028600032f) * t + 0.013999637f) * t -
                     0.096703468f) * t + 0.4720532f;
    @_bits b;
    float high, rest, tail;
    b.f = a;
    b.u &= 0xfffff000u;
    high = 0.5f * b.f * b.f;
    rest = 0.5f * ((a - b.f) * (a + b.f));
    tail = @_exp(-high) * @_exp(-rest) * r / (a + 1.0f);
    return x < 0.0f ? (x < -40.0f ? 0.0f : x * tail) : x * (1.0f - tail);
}""",
    ),
    "gelu_tanh": (
        ("sigmoid",),
        """\
static inline float @_gelu_tanh(float x) {
    const float z = 1.59576912f * (x + 0.044715f * x * x * x);
    return x < -40.0f ? 0.0f : x * @_sigmoid(z);
}""",
    ),
}


def functions(name: str, wanted: set[str]) -> list[str]:
    """Return the texts of some functions and of what they call, in an order that compiles."""
    found: dict[str, str] = {}

    def take(function: str) -> None:
        if function not in found:
            calls, text = FUNCTIONS[function]
            for called in calls:
                take(called)
            found[function] = text.replace("@", name)

    for function in FUNCTIONS:
        if function in wanted:
            take(function)
    return list(found.values())
