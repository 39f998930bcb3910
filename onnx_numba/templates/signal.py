"""The discrete Fourier transform of complex lines."""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

from __future__ import annotations

from typing import Any


def dft(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Lines of ``n`` complex numbers to their first ``kept`` frequencies; a work unit is ``LANES`` lines, side by side in vectors.

    ``X`` is the type of lines, of the n-th roots of unity (the second buffer) and of the arithmetic. The prime factors of ``n`` are
    taken in turn (J. Cooley and J. Tukey, 1965), between two halves of the scratch so that the order comes out right (T. Stockham,
    1966). For an odd factor the terms j and p - j share their cosines, and their sines but for the sign.
    """
    source = X_p(bufs, 0)
    roots = X_p(bufs, 1)
    out = X_p(bufs, 2)
    lines = dims[0]
    n = dims[1]
    kept = dims[2]
    half = 2 * n * LANES
    work = X_scratch(ctx, 0)
    sums = X_at(work, 2 * half)
    for block in range(lo, hi):
        first = block * LANES
        count = min(lines - first, LANES)
        for k in range(2 * n):
            for v in range(count):
                work[k * LANES + v] = source[(first + v) * 2 * n + k]
            for v in range(count, LANES):
                work[k * LANES + v] = X(0.0)
        place = 0
        done = 1
        left = n
        p = 2
        while left > 1:
            while left % p != 0:
                p = left if p * p > left else 3 if p == 2 else p + 2
            rest = left // p
            turn = n // p
            x = X_at(work, place)
            y = X_at(work, half - place)
            for k in range(done):
                for i in range(rest):
                    a = X_at(x, 2 * LANES * (i + rest * p * k))
                    c = X_at(y, 2 * LANES * (i + rest * k))
                    if p == 2:
                        b = X_at(a, 2 * LANES * rest)
                        for v in range(2 * LANES):
                            c[v] = a[v] + b[v]
                        wr = roots[2 * done * i]
                        wi = roots[2 * done * i + 1]
                        c = X_at(c, 2 * LANES * rest * done)
                        for v in range(LANES):
                            re = a[v] - b[v]
                            im = a[LANES + v] - b[LANES + v]
                            c[v] = re * wr - im * wi
                            c[LANES + v] = re * wi + im * wr
                    else:
                        for v in range(2 * LANES):
                            c[v] = a[v]
                        for m in range(1, p // 2 + 1):
                            b = X_at(a, 2 * LANES * rest * m)
                            d = X_at(a, 2 * LANES * rest * (p - m))
                            for v in range(2 * LANES):
                                c[v] = c[v] + (b[v] + d[v])
                        for u in range(1, p // 2 + 1):
                            for v in range(2 * LANES):
                                sums[v] = a[v]
                                sums[2 * LANES + v] = X(0.0)
                            for m in range(1, p // 2 + 1):
                                b = X_at(a, 2 * LANES * rest * m)
                                d = X_at(a, 2 * LANES * rest * (p - m))
                                cosine = roots[2 * turn * (u * m % p)]
                                sine = roots[2 * turn * (u * m % p) + 1]
                                for v in range(2 * LANES):
                                    sums[v] = sums[v] + cosine * (b[v] + d[v])
                                    sums[2 * LANES + v] = sums[2 * LANES + v] + sine * (b[v] - d[v])
                            for turned in (0, 1):
                                j = p - u if turned else u
                                sign = X(-1.0) if turned else X(1.0)
                                wr = roots[2 * done * i * j]
                                wi = roots[2 * done * i * j + 1]
                                c = X_at(y, 2 * LANES * (i + rest * (k + done * j)))
                                for v in range(LANES):
                                    re = sums[v] - sign * sums[3 * LANES + v]
                                    im = sums[LANES + v] + sign * sums[2 * LANES + v]
                                    c[v] = re * wr - im * wi
                                    c[LANES + v] = re * wi + im * wr
            place = half - place
            done *= p
            left = rest
        x = X_at(work, place)
        for v in range(count):
            for k in range(2 * kept):
                out[(first + v) * 2 * kept + k] = x[k * LANES + v]
    return 0
