"""Sums over elements: magnitudes, squares and inner products, in float64."""

import numpy as np

from merging.methods.loops.compiling import LANES, compiled, part


@compiled
def absolute_sums(tensors):
    n, m = tensors.shape
    out, lanes = np.empty(n, np.float64), np.empty(LANES, np.float64)
    for k in range(n):
        lanes[:] = 0
        for at in range(0, m, LANES):
            add_magnitudes(tensors[k, at : at + LANES], lanes)
        out[k] = halved(lanes)
    return out


@part
def add_magnitudes(x, lanes):
    for i in range(x.size):
        lanes[i] += np.float64(abs(x[i]))


@compiled
def square_sums(tensors):
    n, m = tensors.shape
    out, lanes = np.empty(n, np.float64), np.empty(LANES, np.float64)
    for k in range(n):
        lanes[:] = 0
        for at in range(0, m, LANES):
            add_products(tensors[k, at : at + LANES], tensors[k, at : at + LANES], lanes)
        out[k] = halved(lanes)
    return out


@compiled
def gram(tensors):
    n = len(tensors)
    out, lanes = np.empty((n, n), np.float64), np.empty(LANES, np.float64)
    for j in range(n):
        for k in range(j + 1):
            out[j, k] = out[k, j] = inner_product(tensors[j], tensors[k], lanes)
    return out


@part
def inner_product(x, y, lanes):
    lanes[:] = 0
    for at in range(0, x.size, LANES):
        add_products(x[at : at + LANES], y[at : at + LANES], lanes)
    return halved(lanes)


@part
def add_products(x, y, lanes):
    for i in range(x.size):
        lanes[i] += np.float64(x[i]) * np.float64(y[i])


@compiled
def row_grams(tensors, row):
    n, m = tensors.shape
    out, lanes = np.empty((n, n, m // row), np.float64), np.empty(LANES, np.float64)
    for r in range(m // row):
        at, end = r * row, (r + 1) * row
        for j in range(n):
            for k in range(j + 1):
                out[j, k, r] = out[k, j, r] = inner_product(tensors[j, at:end], tensors[k, at:end], lanes)
    return out


@compiled
def column_grams(tensors, row):
    n, m = tensors.shape
    out = np.zeros((n, n, row), np.float64)
    for at in range(0, m, row):
        for j in range(n):
            for k in range(j + 1):
                add_products(tensors[j, at : at + row], tensors[k, at : at + row], out[j, k])
    for j in range(n):
        for k in range(j):
            out[k, j] = out[j, k]
    return out


@part
def halved(lanes):
    """The sum of LANES numbers, which are used up."""
    length = lanes.size
    while length > 1:
        length //= 2
        for i in range(length):
            lanes[i] += lanes[length + i]
    return lanes[0]
