"""Convolutions as reductions over windows: what the operators that are convolutions share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Contraction, Tensor
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.window import Window, window

Extent = Dim | int
Index = tuple[Dim, ...]
Ints = Sequence[int] | None


def windows_of(
    b: Builder, x: Tensor, w: Tensor, *, auto_pad: str, dilations: Ints, group: int, kernel_shape: Ints, pads: Ints, strides: Ints
) -> Window:  # fmt: skip
    """The windows of a convolution of ``x`` with the filters ``w``, which are checked against each other."""
    check_kernel(b, x, w, kernel_shape)
    require_groups(b, w.shape[0], group, "output channels")
    b.require_equal(w.shape[1] * group, x.shape[1], "input channels")
    return window(b, x.shape[2:], w.shape[2:], strides=strides, pads=pads, dilations=dilations, auto_pad=auto_pad)


def require_groups(b: Builder, channels: Extent, group: int, what: str) -> None:
    """Demand that groups share channels equally."""
    if group < 1:
        b.fail(f"{group} groups")
    b.require_equal(d.floordiv(channels, group) * group, channels, f"{what} that {group} groups share")


def check_kernel(b: Builder, x: Tensor, w: Tensor, kernel_shape: Ints) -> None:
    """Demand that an image, filters and the stated size of windows fit each other."""
    if x.rank < 3 or w.rank != x.rank or len(kernel_shape or w.shape[2:]) != x.rank - 2:
        b.fail(f"an image of rank {x.rank}, weights of rank {w.rank} and kernel_shape {kernel_shape} do not fit each other")
    for k, extent in enumerate(kernel_shape or ()):
        b.require_equal(w.shape[2 + k], extent, f"kernel_shape[{k}]")


def convolve(b: Builder, x: Tensor, w: Tensor, view: Window, group: int) -> Tensor:
    """The convolution of an image with filters: products over windows, added up."""

    def term(inside: Expr, image: Expr, weight: Expr) -> Expr:
        return e.guard(inside, image * weight, 0)

    return convolution(b, "conv", (x, w), view, group, term)


def convolution(
    b: Builder, kind: str, operands: tuple[Tensor, ...], view: Window, group: int, term: Callable[[Expr, Expr, Expr], Expr]
) -> Tensor:  # fmt: skip
    """The sums of ``term(whether the place is inside the image, what is there, weight)`` over windows and the channels of a group.

    Operands are the image and the filters, and whatever else a tuned kernel of this kind reads.
    """
    x, w = operands[:2]
    features, channels = w.shape[:2]
    shape = (x.shape[0], features, *view.outputs)

    def element(p: Index, r: Index) -> Expr:
        at, inside = view.source(p[2:], r[1:])
        channel = r[0] + _group(p[1], features, group) * channels
        return term(inside, x[(p[0], channel, *at)], w[(p[1], *r)])

    params = {"strides": view.strides, "dilations": view.dilations, "pads": (*view.before, *view.after), "group": group}
    return b.reduction("sum", shape, (channels, *view.kernel), element, x.dtype, Contraction(kind, operands, params))


def _group(feature: Extent, features: Extent, group: int) -> Extent:
    return 0 if group == 1 else d.floordiv(feature, d.floordiv(features, group))


def biased(b: Builder, x: Tensor, bias: Tensor) -> Tensor:
    """The tensor with a number added to every channel."""
    if bias.rank != 1:
        b.fail(f"a bias of rank 1 is expected, one of rank {bias.rank} came")
    b.require_equal(bias.size, x.shape[1], "elements of the bias")
    return b.compute(x.shape, lambda *i: x[i] + bias[(i[1],)], x.dtype)
