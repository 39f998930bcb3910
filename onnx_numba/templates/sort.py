"""The greatest or smallest elements of lanes, in order."""

# The names X_p and the like are set by `onnx_numba.ops.builder.Builder.template`.
# ruff: noqa: F821
# mypy: ignore-errors

from __future__ import annotations

from typing import Any


def top_k(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """The first k elements of every lane in order, and where they were.

    Buffers are the source, values and positions. Dims are the extent of the axis, that of all axes after it together, and k.
    A work unit is a lane. ``LARGEST`` puts the greatest first. NaN counts as greater than everything; of equal elements the
    earlier is first.

    The results themselves are the heap, its worst element at the root. Every step puts a root in place: first those of the
    initial heap from the last to the first, then one for each further element that is better than the worst, then one for each
    element taken off the heap to the end. Few of the further elements are better: where lanes are ``DENSE``, lying in one piece, 32 of
    them are compared at once.
    """
    x = X_p(bufs, 0)
    y = X_p(bufs, 1)
    where = i64_p(bufs, 2)
    n = dims[0]
    inner = dims[1]
    k = dims[2]
    for lane in range(lo, hi):
        source = lane // inner * n * inner + lane % inner
        target = lane // inner * k * inner + lane % inner
        for i in range(k):
            y[target + i * inner] = x[source + i * inner]
            where[target + i * inner] = i
        built = k // 2
        scanned = built + n - k
        end = scanned + k - 1 if k > 0 else 0
        following = 0
        while following < end:
            step = following
            following = step + 1
            root = i64(0)
            size = i64(k)
            if step < built:
                root = i64(built - 1 - step)
                v = y[target + root * inner]
                p = where[target + root * inner]
            elif step < scanned:
                p = i64(k + step - built)
                worst = y[target]
                if DENSE and urem(step - built, 32) == 0 and p + 32 <= n:
                    found = i32(0)
                    for j in range(32):
                        v = x[source + p + j]
                        if LARGEST:
                            found = ior(found, i32((v > worst) | ((v != v) & (worst == worst))))
                        else:
                            found = ior(found, i32((v < worst) | ((v == v) & (worst != worst))))
                    if found == 0:
                        following = step + 32
                        continue
                v = x[source + p * inner]
                if LARGEST:
                    better = v > worst or (v != v and worst == worst)
                else:
                    better = v < worst or (v == v and worst != worst)
                if not better:
                    continue
            else:
                size = i64(k - 1 - (step - scanned))
                last = target + size * inner
                v = y[last]
                p = where[last]
                y[last] = y[target]
                where[last] = where[target]
            child = 2 * root + 1
            while child < size:
                c = y[target + child * inner]
                q = where[target + child * inner]
                if child + 1 < size:
                    r = y[target + (child + 1) * inner]
                    s = where[target + (child + 1) * inner]
                    if LARGEST:
                        worse = r < c or (c != c and r == r)
                    else:
                        worse = r > c or (r != r and c == c)
                    if worse or ((r == c or (r != r and c != c)) and s > q):
                        c = r
                        q = s
                        child = child + 1
                if LARGEST:
                    worse = c < v or (v != v and c == c)
                else:
                    worse = c > v or (c != c and v == v)
                if not (worse or ((c == v or (c != c and v != v)) and q > p)):
                    break
                y[target + root * inner] = c
                where[target + root * inner] = q
                root = child
                child = 2 * root + 1
            y[target + root * inner] = v
            where[target + root * inner] = p
    return 0


def sorted_lanes(ctx: Any, bufs: Any, dims: Any, lo: int, hi: int) -> int:
    """The same by sorting whole lanes, for a k that is no small part of them.

    Buffers, dims and work units are those of `top_k`. Every element becomes a key whose bytes without a sign are in the order wanted, equal
    for elements that are; keys and places are sorted byte by byte from the last of ``BYTES``, each time into as many stretches as there are
    bytes. Bytes that all keys share are left out. In scratch lie counts of bytes, then keys and places, twice.
    """
    x = X_p(bufs, 0)
    y = X_p(bufs, 1)
    where = i64_p(bufs, 2)
    n = dims[0]
    inner = dims[1]
    k = dims[2]
    counts = i64_scratch(ctx, 0)
    keys = K_scratch(ctx, BYTES * 2048)
    places = i64_scratch(ctx, BYTES * 2048 + 16 * n)
    for lane in range(lo, hi):
        source = lane // inner * n * inner + lane % inner
        target = lane // inner * k * inner + lane % inner
        for j in range(BYTES * 256):
            counts[j] = 0
        for i in range(n):
            v = x[source + i * inner]
            if FLOAT:
                bits = bits_of(select(v == X(0.0), X(0.0), v))
                order = select(v != v, K(MOST), K(bits ^ iand(shr(bits, K(SIGN)), K(MOST))))
            else:
                order = K(v)
            key = K(order ^ K(FLIP))
            keys[i] = key
            places[i] = i
            for byte in range(BYTES):
                digit = byte * 256 + i64(iand(shr(key, K(8 * byte)), K(255)))
                counts[digit] = counts[digit] + 1
        front = i64(0)
        for byte in range(BYTES):
            start = i64(0)
            shared = False
            for j in range(256):
                count = counts[byte * 256 + j]
                counts[byte * 256 + j] = start
                start = start + count
                shared = shared or count == n
            if shared:
                continue
            back = n - front
            for i in range(n):
                key = keys[front + i]
                digit = byte * 256 + i64(iand(shr(key, K(8 * byte)), K(255)))
                at = counts[digit]
                counts[digit] = at + 1
                keys[back + at] = key
                places[back + at] = places[front + i]
            front = back
        for i in range(k):
            p = places[front + i]
            y[target + i * inner] = x[source + p * inner]
            where[target + i * inner] = p
    return 0
