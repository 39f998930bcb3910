"""Coupling of pairwise class probabilities."""

# The names X_p and the like are set by `onnx_numba.ops.builder.Builder.template`.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from typing import Any


def couple(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Class probabilities that fit those of pairs best, by fixed-point iteration.

    Buffers are the chances of the first class of every pair (0, 1), (0, 2) … (1, 2) …, the result, and room for a matrix and a
    vector per row. The dim is the number of classes; a work unit is a row.
    """
    chances = f32_p(bufs, 0)
    p = f32_p(bufs, 1)
    q = f32_p(bufs, 2)
    qp = f32_p(bufs, 3)
    n = dims[0]
    pairs = n * (n - 1) // 2
    one = f32(1.0)
    for row in range(lo, hi):
        base = row * n
        square = row * n * n
        for i in range(n * n):
            q[square + i] = f32(0.0)
        k = row * pairs
        for i in range(n):
            p[base + i] = one / f32(n)
            for j in range(i + 1, n):
                mine = chances[k]
                other = one - mine
                k += 1
                q[square + i * n + i] = q[square + i * n + i] + other * other
                q[square + j * n + j] = q[square + j * n + j] + mine * mine
                q[square + i * n + j] = -other * mine
                q[square + j * n + i] = -other * mine
        for _ in range(100):
            total = f32(0.0)
            for i in range(n):
                value = f32(0.0)
                for j in range(n):
                    value = value + q[square + i * n + j] * p[base + j]
                qp[base + i] = value
                total = total + p[base + i] * value
            worst = f32(0.0)
            for i in range(n):
                worst = max_(worst, abs_(qp[base + i] - total))
            if worst < f32(0.005) / f32(n):
                break
            for i in range(n):
                own = q[square + i * n + i]
                step = (total - qp[base + i]) / own
                p[base + i] = p[base + i] + step
                grown = one + step
                total = (total + step * (step * own + f32(2.0) * qp[base + i])) / grown / grown
                for j in range(n):
                    qp[base + j] = (qp[base + j] + step * q[square + i * n + j]) / grown
                    p[base + j] = p[base + j] / grown
    return 0
