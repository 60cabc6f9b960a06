"""Print the polynomial coefficients of math.hpp (needs mpmath).

Each polynomial interpolates its function at Chebyshev nodes in 60 digits, which is within a small
factor of the minimax error printed beside it.
"""

from mpmath import atanh, chebyfit, cos, erfc, exp, expm1, log, log1p, mp, mpf, nstr, pi, sin, sqrt

mp.dps = 60


def exp_remainder(r):
    """(e^r - 1 - r) / r^2, on |r| <= ln(2) / 2."""
    if abs(r) < mpf("1e-15"):
        return mpf(1) / 2 + r / 6 + r * r / 24
    return (expm1(r) - r) / r**2


def normal_tail(t):
    """e^(a^2/2) Q(a) (1 + a) with Q the upper tail of the normal distribution, t = (a-4)/(a+4)."""
    a = 4 * (1 + t) / (1 - t)
    return exp(a * a / 2) * erfc(a / sqrt(2)) / 2 * (1 + a)


def atanh_remainder(z):
    """(2 atanh(s) / s - 2) / z with z = s^2: log(1 + f) is s (2 + z times this), s = f / (2 + f)."""
    if z < mpf("1e-12"):
        return mpf(2) / 3 + 2 * z / 5
    s = sqrt(z)
    return (2 * atanh(s) / s - 2) / z


def log1p_remainder(t):
    """(x - log(1 + x)) / x^2 with x = t + 1/2."""
    x = t + mpf(1) / 2
    if x < mpf("1e-12"):
        return mpf(1) / 2 - x / 3
    return (x - log1p(x)) / x**2


def sine_remainder(z):
    """(sin(pi r / 2) / r - pi / 2) / z with z = r^2, r in quarter turns."""
    if z < mpf("1e-12"):
        return -((pi / 2) ** 3) / 6 + z * (pi / 2) ** 5 / 120
    r = sqrt(z)
    return (sin(pi * r / 2) / r - pi / 2) / z


def cosine_remainder(z):
    """(cos(pi r / 2) - 1) / z with z = r^2, r in quarter turns."""
    if z < mpf("1e-12"):
        return -((pi / 2) ** 2) / 2 + z * (pi / 2) ** 4 / 24
    return (cos(pi * sqrt(z) / 2) - 1) / z


def show(name, function, low, high, terms):
    coefficients, error = chebyfit(function, [low, high], terms, error=True)
    print(f"{name}: error {nstr(error, 3)}")
    print(", ".join(repr(float(c)) for c in reversed(coefficients)))


half = log(2) / 2 * mpf("1.001")  # a little more than half, for arguments rounded to the neighbour
quarter = mpf(1) / 4 * mpf("1.001")  # the square of half a quarter turn, and a little more
show("exp_remainder, float", exp_remainder, -half, half, 5)
show("exp_remainder, double", exp_remainder, -half, half, 10)
show("normal_tail, float, a <= 15", normal_tail, -1, mpf(15 - 4) / (15 + 4), 11)
show("normal_tail, double, a <= 39", normal_tail, -1, mpf(39 - 4) / (39 + 4), 22)
show("atanh_remainder, float, f <= 1", atanh_remainder, 0, mpf(1) / 9, 5)
show("log1p_remainder, float, x <= 1", log1p_remainder, -mpf(1) / 2, mpf(1) / 2, 10)
show("atanh_remainder, double, f <= 1", atanh_remainder, 0, mpf(1) / 9, 10)
show("sine_remainder, float", sine_remainder, 0, quarter, 3)
show("cosine_remainder, float", cosine_remainder, 0, quarter, 4)
show("sine_remainder, double", sine_remainder, 0, quarter, 7)
show("cosine_remainder, double", cosine_remainder, 0, quarter, 7)
