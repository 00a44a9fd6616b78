"""Importance of changes, for Arcee Fusion, with exponentials and logarithms as polynomials, which vector units have."""

import math

import numpy as np

from merging.methods.loops.compiling import LANES, compiled, part
from merging.methods.loops.products import halved

R2, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12, R13 = (1 / math.factorial(n) for n in range(2, 14))  # of e^x


@compiled
def importance(base, model, row):
    out, lanes = np.empty(base.size, np.float32), np.empty(LANES, np.float64)
    p, q, powers = np.empty(row, np.float64), np.empty(row, np.float64), np.empty(row, np.int64)
    for at in range(0, base.size, row):
        x, y = model[at : at + row], base[at : at + row]
        soften(x, p, powers, lanes)
        soften(y, q, powers, lanes)
        weigh(x, y, divergence(p, q, lanes), out[at : at + row])
    return out


@part
def weigh(x, y, factor, out):
    for i in range(out.size):
        out[i] = np.float32(abs(np.float64(x[i]) - np.float64(y[i])) * factor)


@part
def soften(x, out, powers, lanes):
    """Softmax in float64, with 1e-8 added."""
    top = x[0]
    for i in range(x.size):
        top = max(top, x[i])
    for i in range(x.size):
        out[i] = max(np.float64(x[i]) - np.float64(top), -700.0)
    for i in range(out.size):  # e^y = 2^k e^r, with |r| at most half of log 2
        k = np.floor(out[i] * 1.4426950408889634 + 0.5)
        out[i] = (out[i] - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10
        powers[i] = (np.int64(k) + np.int64(1023)) << np.int64(52)
    scales = powers.view(np.float64)
    for i in range(out.size):
        r = out[i]
        e = R7 + r * (R8 + r * (R9 + r * (R10 + r * (R11 + r * (R12 + r * R13)))))
        e = 1 + r * (1 + r * (R2 + r * (R3 + r * (R4 + r * (R5 + r * (R6 + r * e))))))
        out[i] = e * scales[i]
    lanes[:] = 0
    for at in range(0, out.size, LANES):
        add_all(out[at : at + LANES], lanes)
    total = halved(lanes)
    share = 1 / total
    for i in range(out.size):
        out[i] = out[i] * share + 1e-8


@part
def add_all(x, lanes):
    for i in range(x.size):
        lanes[i] += x[i]


@part
def divergence(p, q, lanes):
    """The sum of p log(p / q), as that of p log(p / q) - (p - q): no term is negative, and no digits cancel."""
    apart = 0.0
    for i in range(p.size):
        apart = max(apart, abs(p[i] - q[i]) - 0.1 * (p[i] + q[i]))
    lanes[:] = 0
    for at in range(0, p.size, LANES):
        if apart > 0:
            add_far(p[at : at + LANES], q[at : at + LANES], lanes)
        else:
            add_near(p[at : at + LANES], q[at : at + LANES], lanes)
    return max(halved(lanes), 0.0)


@part
def add_far(p, q, lanes):
    for i in range(p.size):
        lanes[i] += p[i] * np.log(p[i] / q[i]) - (p[i] - q[i])


@part
def add_near(p, q, lanes):
    for i in range(p.size):  # log(p / q) = 2 artanh(s)
        s = (p[i] - q[i]) / (p[i] + q[i])
        z = s * s
        series = 1 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (1 / 11 + z * (1 / 13 + z * (1 / 15)))))))
        lanes[i] += p[i] * (2 * s * series) - (p[i] - q[i])


@compiled
def take_from(base, model, scores, cut):
    out = np.empty(base.size, np.float32)
    for i in range(out.size):
        out[i] = model[i] if np.float64(scores[i]) >= cut else base[i]
    return out
