"""Tuning: contractions that a tuned kernel computes faster than plain loops get their operands in the form that it reads.

A matrix product `C = A @ B` becomes

    packed = KernelCall(pack_b_source …)(B)        # constant where B is: then it is packed while preparing
    C      = Reduce(…, hint=Contraction("gemm", (A, packed), {"body": Body(Gemm(…), …)}))

and is written by `onnx_numba.codegen.contraction`. Operands that are views (a transposed weight, the heads of an attention) are read
through strides; any other virtual operand is stored. A kernel that only the run tells to be of few rows reads B as well as what is packed
of it, of which there is nothing then. Contractions that stay loops lose their hint.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Opaque, Sym
from onnx_numba.ir.expr import Expr, Flat, Load
from onnx_numba.ir.loop import Check, Contraction, KernelCall, Map, Object, Program, Reduce, Reshape, Result, Shape, Tensor, Weight
from onnx_numba.ir.types import F32, I32, DType
from onnx_numba.native.small import has_half
from onnx_numba.native.tile import NARROW, Tile, byte_tile, tile_shape
from onnx_numba.native.vector import has_masks
from onnx_numba.record import record
from onnx_numba.schedule.expand import linear, loads, root, unravel, view_checks
from onnx_numba.target import Target
from onnx_numba.templates.conv import Conv, conv_tile, pack_filters_source, reads_plainly, uses_little
from onnx_numba.templates.depthwise import Depthwise, depthwise
from onnx_numba.templates.gemm import FEW_ROWS, Gemm
from onnx_numba.templates.packing import pack_b_source, packed_size
from onnx_numba.templates.pixels import PixelConv, pixel_tile, saves

Extent = Dim | int
LEAST_WORK = 256
"""Multiply-adds below which plain loops are as fast and compile sooner."""
SINGLE_TAPS = 16
"""A convolution of a single channel with at most so many taps is done plane by plane: twice as fast as by products of so little depth."""
SINGLE_PLANE = 1 << 14
"""The same where the plane has at most so many elements: products read a larger one once for all filters, while it is in cache."""
LIKELY_EXTENT = 40
"""What an axis of an image may have where only the run knows: few, and no multiple of a tile's columns."""
LEAST_NARROW = 1 << 16
"""Elements from which a weight of fewer bits than float32 stays as it is: what the first caches hold is read as fast as it is converted."""
MOST_ROWS = 40
"""Rows up to which it does where their number is known: of more, it is better spread to float32 once, while preparing."""


@record
class Body:
    """The tuned kernel of a contraction.

    Attributes
    ----------
    spec : Gemm, Conv, Depthwise or PixelConv
        What is fixed in its code.
    dims : tuple of Dim or int
        Its own dims.
    units : Dim or int
        Work units.
    unit_work : Dim or int
        Multiply-adds of one of them, about.
    batch, rows : int
        How many of the result's axes number matrices (or images), and how many of the following ones the rows of a block; the rest
        are its columns.
    image : tuple of Dim or int
        The shape of the image that a convolution reads, of whose tensor it may be a view.
    """

    spec: Gemm | Conv | Depthwise | PixelConv
    dims: tuple[Extent, ...]
    units: Extent
    unit_work: Extent
    batch: int
    rows: int
    image: Shape = ()


@record
class View:
    """Elements of a stored tensor at a stride per axis."""

    tensor: Tensor
    strides: tuple[Extent, ...]
    checks: tuple[Check, ...] = ()


def tune(program: Program, target: Target) -> None:
    """Choose kernels for a program's contractions, in place."""
    tuner = _Tuner(target)
    for value in program.values:
        if isinstance(value, Tensor) and isinstance(value.definition, Reduce) and value.definition.hint is not None:
            tuner.contraction(value, value.definition, value.definition.hint)
        tuner.values.append(value)
    program.values = tuner.values


class _Tuner:
    """Collects a program's values with the operands that tuned kernels add."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.values: list[Tensor | Object] = []
        self.made: dict[object, Tensor] = {}

    def contraction(self, tensor: Tensor, reduce: Reduce, hint: Contraction) -> None:
        """Choose what computes one contraction."""
        if hint.tuned:
            return
        chosen = None
        floats = tensor.dtype.name in ("f32", "f64")
        sums_of_bytes = hint.kind == "matmul" and tensor.dtype is I32 and all(x.dtype.name in ("u8", "i8") for x in hint.operands)
        if (floats or sums_of_bytes or hint.kind == "word_conv") and self._pays(tensor, reduce, hint):
            chosen = {"matmul": self._matmul, "conv": self._conv, "word_conv": self._conv}[hint.kind](tensor, reduce, hint)
        if chosen is None:
            tensor.definition = replace(reduce, hint=None)
            return
        body, operands, checks = chosen
        # What the loops would compute is of no interest any more, only that the kernel reads these tensors.
        first = [e.cast(Flat(root(t), (0,)), tensor.dtype) for t in operands]
        tensor.definition = replace(reduce, expr=functools.reduce(operator.mul, first), hint=Contraction("tuned", operands, {"body": body}))
        tensor.checks = tuple(dict.fromkeys([*tensor.checks, *checks]))

    def _pays(self, tensor: Tensor, reduce: Reduce, hint: Contraction) -> bool:
        """Whether the tuned kernel is faster, as far as that is known while planning."""
        work = d.product(v.extent for v in (*reduce.vars, *reduce.rvars) if v.extent is not None)
        if isinstance(work, int) and work < LEAST_WORK:
            return False
        rows = tensor.shape[-2]
        return hint.kind != "matmul" or not isinstance(rows, int) or rows > FEW_ROWS or _constant(hint.operands[1])

    def _kernel(self, key: tuple[object, ...], dtype: DType, size: Extent, call: KernelCall) -> Tensor:
        """The one result of a kernel; contractions that need the same share it."""
        if key not in self.made:
            source = call.inputs[0]
            made = Tensor(f"{source.name}_{call.label}", dtype, (size,), Result(call, 0), source.origin)
            self.made[key] = made
            self.values.append(made)
        return self.made[key]

    # -- matrix products ---------------------------------------------------------------------------------------------

    def _matmul(self, tensor: Tensor, reduce: Reduce, hint: Contraction) -> tuple[Body, tuple[Tensor, ...], list[Check]]:
        left, right = (strided(t) for t in hint.operands)
        fewer = self._narrow(tensor, hint.operands[1])
        right = fewer or right
        a_shape, a_strides = _matrix(hint.operands[0].shape, left.strides, bool(hint.params.get("trans_a")))
        b_shape, b_strides = _matrix(hint.operands[1].shape, right.strides, bool(hint.params.get("trans_b")))
        if any(s == 0 and x != 1 for s, x in zip(a_strides[-2:], a_shape[-2:], strict=True)):
            left = View(root(hint.operands[0]), _row_major(hint.operands[0].shape), view_checks(hint.operands[0]))
            a_shape, a_strides = _matrix(hint.operands[0].shape, left.strides, bool(hint.params.get("trans_a")))
        batch = tensor.shape[:-2]
        (m, n), k = tensor.shape[-2:], a_shape[-1]
        tile = self._tile(tensor.dtype, left.tensor.dtype, right.tensor.dtype, n if isinstance(n, int) else None)
        a_batch = _broadcast_strides(a_strides[:-2], a_shape[:-2], batch)
        b_batch = _broadcast_strides(_packed_steps(b_shape, b_strides), b_shape[:-2], batch)
        folded = _folded(batch, a_batch, b_batch, m, a_strides[-2])
        if folded is not None:
            (m, a_row), axes = folded, []
        else:
            a_row = a_strides[-2]
            own = _broadcast_strides(b_strides[:-2], b_shape[:-2], batch)
            axes = [(x, s, t, u) for x, s, t, u in zip(batch, a_batch, b_batch, own, strict=True) if x != 1]
        in_place = self.target.broadcasts and tile.dot is None
        spec = Gemm(tensor.dtype.name, tile, len(axes), in_place=in_place, columns=n if isinstance(n, int) else None)
        spec = spec.for_rows(m, a_row, a_strides[-1]) if fewer is None else spec.with_narrow(fewer.tensor.dtype.name, m)
        if not isinstance(m, int) and not _constant(hint.operands[1]):
            spec = replace(spec, unpacked=_unpacked(spec, n, a_strides[-1], b_strides))
        unpacked = [] if spec.unpacked is None else [right.tensor]
        wanted = d.compare("lt", spec.unpacked_rows, m) if unpacked else 1
        # By its own count of rows: that it is the other operand's count of columns is checked only before the product.
        packed = self._packed(right, b_shape, b_strides, n, b_shape[-2], tile, wanted)
        dims = spec.dims(m, n, k, a_row, a_strides[-1], axes, b_strides[-2 if spec.unpacked == "rows" else -1])
        rows = len(batch) + 1 if folded is not None else 1
        body = Body(spec, dims, spec.work_units(dims), spec.unit_work(dims), len(batch) + 1 - rows, rows)
        return body, (left.tensor, packed, *unpacked), [*left.checks, *right.checks]

    def _narrow(self, tensor: Tensor, right: Tensor) -> View | None:
        """A weight as elements of fewer bits than float32, where it is of such and to read it takes longer than to convert it."""
        rows = d.product(tensor.shape[:-1]) if right.rank == 2 else tensor.shape[-2]
        if tensor.dtype is not F32 or not isinstance(right.size, int) or right.size < LEAST_NARROW or not _constant(right):
            return None
        if isinstance(rows, int) and rows > MOST_ROWS:
            return None
        found = strided(right, converted=True)
        name = found.tensor.dtype.name
        by_hand = name == "f16" and not has_half(self.target)
        return found if name in NARROW and not by_hand else None

    def _tile(self, dtype: DType, left: DType, right: DType, columns: int | None) -> Tile:
        if dtype.is_float:
            return tile_shape(self.target, dtype.name, columns)
        return byte_tile(self.target, left.name, right.name, columns)

    def _packed(
        self, view: View, shape: Shape, strides: Shape, n: Extent, k: Extent, tile: Tile, wanted: Extent
    ) -> Tensor:
        """Packed matrices, if they are ``wanted``, which only the run may know."""
        kept = [(x, s) for x, s in zip(shape[:-2], strides[:-2], strict=True) if x != 1 and s != 0]
        count = d.product(x for x, _ in kept)
        dims = (n, k, strides[-2], strides[-1], *(v for axis in kept for v in axis))
        dtype = view.tensor.dtype if tile.dot is None else I32
        source = partial(pack_b_source, dtype=dtype.name, tile=tile, batch_rank=len(kept))
        call = KernelCall(source, "pack", (view.tensor,), dims, count * d.ceildiv(n, tile.columns) * wanted)
        return self._kernel(("pack", view.tensor, tile, dims, wanted), dtype, packed_size(n, k, tile, count), call)

    # -- convolutions ------------------------------------------------------------------------------------------------

    def _conv(self, tensor: Tensor, reduce: Reduce, hint: Contraction) -> tuple[Body, tuple[Tensor, ...], list[Check]] | None:
        x, w, *fill = hint.operands
        kernel, rank = w.shape[2:], x.rank - 2
        if not all(isinstance(v, int) and v > 0 for v in kernel) or rank > 3:
            return None
        taps: tuple[int, ...] = tuple(v for v in kernel if isinstance(v, int))
        strides, dilations, group = hint.params["strides"], hint.params["dilations"], hint.params["group"]
        pads, dtype = hint.params["pads"], tensor.dtype.name
        plane = d.product(tensor.shape[2:])
        small = math.prod(taps) <= SINGLE_TAPS and (not isinstance(plane, int) or plane <= SINGLE_PLANE)
        if tensor.dtype.is_float and w.shape[1] == 1 and (group > 1 or (strides[-1] == 1 and small)):
            single = depthwise(self.target, dtype, taps, strides, dilations)
            if single is not None:
                return self._depthwise(tensor, x, w, single, pads[:rank])
        channels, filters, size, out = w.shape[1], d.floordiv(w.shape[0], group), x.shape[2:], tensor.shape[2:]
        columns, before = d.product(out), pads[:rank]
        direct = reads_plainly(taps, strides, pads)
        if direct and taps[0] == 1:  # each output sees one element of a channel: all axes are one, whose rows are long
            taps, strides, dilations, before, size, out = (1,), (1,), (1,), (0,), (columns,), (columns,)
        tile = conv_tile(self.target, dtype, *(v if isinstance(v, int) else None for v in (filters, columns)))
        plain = direct and uses_little(tile, filters)
        spec = Conv(dtype, tile, taps, strides, dilations, fill=bool(fill), plain=plain, masks=has_masks(self.target))
        spec = self._with_rows(spec, group, channels, filters, out)
        if tensor.dtype.is_float and (direct or spec.taps > 1 or all(p == 0 for p in pads)):
            found = self._by_pixels(x, w, spec, group, channels, filters, size, out, before)
            if found is not None:
                return found
        weights = self._filters(w, spec, group, filters, channels)
        dims = spec.dims(x.shape[0], group, channels, filters, size, out, before)
        work = d.dmin(filters, dims[3]) * d.dmin(columns, dims[4]) * channels * spec.taps
        checks = [c for t in (x, *fill) for c in view_checks(t)]
        body = Body(spec, dims, spec.work_units(x.shape[0], dims), work, 1, 1, x.shape)
        return body, (root(x), weights, *map(root, fill)), checks

    def _with_rows(self, spec: Conv, group: int, channels: Extent, filters: Extent, out: Shape) -> Conv:
        """The same convolution with whole rows in its patch if those cost less, of a single image: how many there are may be unknown."""
        if len(spec.kernel) == 1 or spec.kernel[-1] == 1 or spec.plain or spec.far:
            return spec
        sizes = [n if isinstance(n, int) else LIKELY_EXTENT for n in out]
        tile = conv_tile(self.target, spec.dtype, filters if isinstance(filters, int) else None, math.prod(sizes), sizes[-1])
        whole = replace(spec, tile=tile, whole_rows=True)
        before = (0,) * len(sizes)
        costs = [v.cost(v.dims(1, group, channels, filters, sizes, sizes, before)) for v in (whole, spec)]
        return whole if d.compare("lt", *costs) == 1 else spec

    def _by_pixels(
        self, x: Tensor, w: Tensor, spec: Conv, group: int, channels: Extent, filters: Extent, size: Shape, out: Shape, before: Shape
    ) -> tuple[Body, tuple[Tensor, ...], list[Check]] | None:  # fmt: skip
        """The same convolution in tiles of pixels, where sizes are known and that is faster."""
        sizes = [v for v in (channels, filters, *size, *out) if isinstance(v, int) and v > 0]
        if len(sizes) < 2 + 2 * spec.rank or spec.rank > 2:
            return None
        depth, features, *_ = sizes

        def axes(values: Sequence[Extent], missing: int) -> tuple[int, int]:
            first, last = [missing, *(v for v in values if isinstance(v, int))][-2:]
            return first, last

        places, kernel = axes(out, 1), axes(spec.kernel, 1)
        tile = pixel_tile(self.target, spec.dtype, places[1])
        conv = PixelConv(spec.dtype, tile, kernel, axes(spec.strides, 1), axes(spec.dilations, 1), masks=spec.masks)
        sparse = any(1 < taps < stride for taps, stride in zip(conv.kernel, conv.strides, strict=True))
        if sparse or not all(isinstance(v, int) for v in before) or not saves(conv, spec, depth, features, places):
            return None
        dims = conv.dims(x.shape[0], group, depth, features, axes(size, 1), places, axes(before, 0))
        weights = self._filters(w, conv.packing, group, filters, channels)
        body = Body(conv, dims, conv.work_units(x.shape[0], dims), conv.unit_work(dims), 1, 1, x.shape)
        return body, (root(x), weights), [*view_checks(x)]

    def _filters(self, w: Tensor, spec: Conv, group: int, filters: Extent, channels: Extent) -> Tensor:
        depth = channels * spec.taps
        dims = (filters, depth, 1, depth, group, filters * depth)
        call = KernelCall(partial(pack_filters_source, conv=spec), "pack", (w,), dims, group * d.ceildiv(filters, spec.tile.rows))
        return self._kernel(("filters", root(w), spec.tile, dims), w.dtype, spec.packed_size(group, filters, channels), call)

    def _depthwise(
        self, tensor: Tensor, x: Tensor, w: Tensor, spec: Depthwise, before: Shape
    ) -> tuple[Body, tuple[Tensor, ...], list[Check]]:
        dims = spec.dims(x.shape[1], d.floordiv(w.shape[0], x.shape[1]), x.shape[2:], tensor.shape[2:], before)
        work = spec.unit_elements(dims) * d.product(spec.kernel)
        body = Body(spec, dims, spec.work_units(x.shape[0], dims), work, 1, 1, x.shape)
        return body, (root(x), root(w)), [*view_checks(x), *view_checks(w)]


def _constant(tensor: Tensor) -> bool:
    """Whether a tensor shows weights."""
    base = strided(tensor).tensor
    if isinstance(base.definition, Map):
        return all(_constant(x.tensor) for x in loads(base.definition.expr))
    return isinstance(base.definition, Weight)


def strided(tensor: Tensor, converted: bool = False) -> View:
    """A tensor as elements of a stored one: views that only permute and merge axes are looked through, and one that converts if asked.

    Only one: integers that were converted to others before may have wrapped.
    """
    variables = tuple(Sym(f"v{k}", extent=x) for k, x in enumerate(tensor.shape))
    index: tuple[Extent, ...] = tuple(d.dim(v) for v in variables)
    base, checks = tensor, list(tensor.checks)
    while True:
        definition, converts = base.definition, converted and base.dtype is tensor.dtype
        if isinstance(definition, Reshape):
            source = definition.source
            following = unravel(linear(index, base.shape), source.shape)
        elif isinstance(definition, Map) and (load := _loaded(definition.expr, base.dtype, converts)) is not None:
            source = load.tensor
            table = dict(zip(definition.vars, index, strict=True))
            following = tuple(d.substitute(i, table) for i in load.index)
        else:
            break
        if _strides(linear(following, source.shape), variables) is None:
            break
        base, index = source, following
        checks += base.checks if isinstance(base.definition, (Map, Reshape)) else ()
    strides = _strides(linear(index, base.shape), variables)
    assert strides is not None
    natural = _row_major(tensor.shape)
    return View(root(base), tuple(n if x == 1 else s for s, n, x in zip(strides, natural, tensor.shape, strict=True)), tuple(checks))


def _loaded(value: Expr, dtype: DType, converted: bool) -> Load | None:
    """The element that a value is, or is converted from if that will do."""
    if converted and isinstance(value, e.Op) and value.name == "cast":
        value = value.args[0]
    return value if isinstance(value, Load) and (converted or value.tensor.dtype is dtype) else None


def _strides(position: Extent, variables: Sequence[Sym]) -> tuple[Extent, ...] | None:
    """What each variable is multiplied by in a position that is nothing but their weighted sum."""
    terms: dict[Sym, dict[d.Monomial, int]] = {v: {} for v in variables}
    for monomial, factor in d._terms(position).items():
        if not factor:  # the position in a scalar
            continue
        own = [a for a in monomial if isinstance(a, Sym) and a in terms]
        others = [a for a in monomial if isinstance(a, Opaque)]
        if len(own) != 1 or any(a.op == "value" or d.symbols(d.dim(a)) & set(variables) for a in others):
            return None
        terms[own[0]][tuple(a for a in monomial if a is not own[0])] = factor
    return tuple(d._make(terms[v]) for v in variables)


def _row_major(shape: Shape) -> tuple[Extent, ...]:
    return tuple(d.product(shape[k + 1 :]) for k in range(len(shape)))


def _matrix(shape: Shape, strides: Shape, transposed: bool) -> tuple[Shape, Shape]:
    """Shape and strides with the last two axes exchanged if the matrix is to be taken transposed."""
    if not transposed:
        return shape, strides
    return (*shape[:-2], shape[-1], shape[-2]), (*strides[:-2], strides[-1], strides[-2])


def _packed_steps(shape: Shape, strides: Shape) -> list[Extent]:
    """The stride in packed matrices along each batch axis of an operand."""
    steps: list[Extent] = []
    below: Extent = 1
    for x, s in zip(reversed(shape[:-2]), reversed(strides[:-2]), strict=True):
        real = x != 1 and s != 0
        steps.append(below if real else 0)
        below = below * x if real else below
    return steps[::-1]


def _unpacked(spec: Gemm, n: Extent, a_col: Extent, b_strides: Shape) -> str | None:
    """How a right operand lies that a few rows can read unpacked: by rows of whole panels, or by columns, as rows of the left one do."""
    if spec.tile.dot is not None:
        return None
    if b_strides[-1] == 1 and isinstance(n, int) and n % spec.tile.columns == 0:
        return "rows"
    return "columns" if b_strides[-2] == 1 and a_col == 1 else None


def _broadcast_strides(strides: Sequence[Extent], own: Shape, full: Shape) -> list[Extent]:
    """Strides along the axes of the result: 0 where the operand is broadcast, which only the run may know."""
    found: list[Extent] = [0] * (len(full) - len(own))
    for stride, extent, whole in zip(strides, own, full[len(full) - len(own) :], strict=True):
        found.append(0 if extent == 1 else stride if extent == whole else stride * d.compare("ne", extent, 1))
    return found


def _folded(batch: Shape, a: Sequence[Extent], b: Sequence[Extent], m: Extent, row: Extent) -> tuple[Extent, Extent] | None:
    """Rows and their stride if all matrices of a stack are one, taken with the same right operand."""
    rows, step = m, row
    for extent, stride, other in zip(reversed(batch), reversed(a), reversed(b), strict=True):
        if extent == 1:
            continue
        if other != 0 or (rows != 1 and stride != rows * step) or stride == 0:
            return None
        step = stride if rows == 1 else step
        rows = rows * extent
    return rows, step
