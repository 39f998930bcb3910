"""The discrete Fourier transform of complex lines."""

# Names of `onnx_numba.native` are put in when a model's module is written.
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

from __future__ import annotations

from typing import Any


def dft(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """Lines of ``n`` complex numbers to their first ``kept`` frequencies; a work unit is a line.

    The second buffer has the n-th roots of unity. Lengths that are powers of two go through butterflies in scratch, others are
    summed as the definition says.
    """
    source = f64_p(bufs, 0)
    roots = f64_p(bufs, 1)
    out = f64_p(bufs, 2)
    n = dims[0]
    kept = dims[1]
    work = f64_scratch(ctx, 0)
    for line in range(lo, hi):
        x = f64_at(source, line * n * 2)
        y = f64_at(out, line * kept * 2)
        if n & (n - 1) == 0:
            place = 0
            for k in range(n):
                work[2 * place] = x[2 * k]
                work[2 * place + 1] = x[2 * k + 1]
                bit = n >> 1
                while bit > 0 and place & bit:
                    place ^= bit
                    bit >>= 1
                place |= bit
            half = 1
            while half < n:
                step = n // (2 * half)
                for start in range(0, n, 2 * half):
                    for k in range(half):
                        a = 2 * (start + k)
                        c = 2 * (start + k + half)
                        wr = roots[2 * k * step]
                        wi = roots[2 * k * step + 1]
                        re = work[c] * wr - work[c + 1] * wi
                        im = work[c] * wi + work[c + 1] * wr
                        work[c] = work[a] - re
                        work[c + 1] = work[a + 1] - im
                        work[a] = work[a] + re
                        work[a + 1] = work[a + 1] + im
                half *= 2
            for k in range(2 * kept):
                y[k] = work[k]
        else:
            for k in range(kept):
                re = f64(0.0)
                im = f64(0.0)
                at = 0
                for m in range(n):
                    wr = roots[2 * at]
                    wi = roots[2 * at + 1]
                    re = re + x[2 * m] * wr - x[2 * m + 1] * wi
                    im = im + x[2 * m] * wi + x[2 * m + 1] * wr
                    at += k
                    if at >= n:
                        at -= n
                y[2 * k] = re
                y[2 * k + 1] = im
    return 0
