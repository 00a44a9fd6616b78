"""Weighted sums of rows, and rows mixed entry by entry."""

import numpy as np

from merging.methods.loops.compiling import TILE, compiled, part


@compiled
def weighted_sum(tensors, weights):
    n, m = tensors.shape
    out = np.empty(m, np.float32)
    for at in range(0, m, TILE):
        part = out[at : at + TILE]
        scale(tensors[0, at : at + TILE], weights[0], part)
        for k in range(1, n):
            add_scaled(tensors[k, at : at + TILE], weights[k], part)
    return out


@compiled
def add_weighted(base, tensors, weights):
    out = weighted_sum(tensors, weights)
    for i in range(out.size):
        out[i] += base[i]
    return out


@part
def scale(x, weight, out):
    for i in range(out.size):
        out[i] = x[i] * weight


@part
def add_scaled(x, weight, out):
    for i in range(out.size):
        out[i] += x[i] * weight


@compiled
def add_changes(base, models, weights):
    n, m = models.shape
    out = np.empty(m, np.float32)
    for at in range(0, m, TILE):
        part, from_base = out[at : at + TILE], base[at : at + TILE]
        part[:] = 0
        for k in range(n):
            add_scaled_change(models[k, at : at + TILE], from_base, weights[k], part)
        for i in range(part.size):
            part[i] += from_base[i]
    return out


@part
def add_scaled_change(x, base, weight, out):
    for i in range(out.size):
        out[i] += (x[i] - base[i]) * weight


@compiled
def blend(x, y, of_x, of_y):
    out = np.empty(x.size, np.float32)
    for i in range(out.size):
        out[i] = x[i] * of_x + y[i] * of_y
    return out


@compiled
def near_swap(base, model, t):
    out = np.empty(base.size, np.float32)
    for i in range(out.size):
        share = min(t / max(abs(model[i] - base[i]), np.float32(1e-6)), np.float32(1))
        out[i] = model[i] * share + base[i] * (np.float32(1) - share)
    return out


@compiled
def mix_rows(tensors, weights, row):
    n, m = tensors.shape
    out = np.empty(m, np.float32)
    for r in range(weights.shape[1]):
        at, end = r * row, (r + 1) * row
        part = out[at:end]
        scale(tensors[0, at:end], weights[0, r], part)
        for k in range(1, n):
            add_scaled(tensors[k, at:end], weights[k, r], part)
    return out


@compiled
def mix_columns(tensors, weights):
    n, m = tensors.shape
    row = weights.shape[1]
    out = np.empty(m, np.float32)
    out[:] = 0
    for at in range(0, m, max(1, row)):
        for k in range(n):
            add_product(tensors[k, at : at + row], weights[k], out[at : at + row])
    return out


@part
def add_product(x, y, out):
    for i in range(out.size):
        out[i] += x[i] * y[i]
