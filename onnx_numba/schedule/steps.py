"""What the schedule is made of: groups of tensors computed by one kernel, and calls."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.expr import Expr
from onnx_numba.ir.loop import Call, Check, Contraction, Tensor


@dataclass(eq=False)
class Member:
    """A tensor that a kernel computes.

    ``expr`` is over the group's variables and loads stored tensors at row-major positions; ``position`` is where element
    (vars) lies in ``target``, the tensor whose memory receives it (itself, or the concatenation that it is a part of).
    ``kind`` is ``map`` or the kind of a reduction; ``inner`` says that a map runs over the reduction variables too; ``depth`` is how
    deep operations lie within each other in it, those of other members that it reads included.
    """

    tensor: Tensor
    kind: str
    expr: Expr
    position: Dim | int
    target: Tensor
    inner: bool
    stored: bool = True
    rvars: tuple[Sym, ...] = ()
    hint: Contraction | None = None
    depth: int = 0


@dataclass(eq=False)
class CallStep:
    """A call with the tensors it makes."""

    call: Call
    outputs: list[object]
    checks: list[Check]
    origins: list[str]


@dataclass(eq=False)
class Group:
    """Members with one parallel domain ``pvars`` and one reduced domain ``rvars``; ``order`` has all variables in axis order.

    With a ``pool``, a call of `onnx_numba.templates.pool.fold_windows`, what the members make is not stored but folded. ``pool_first`` says
    that this comes before all members but the first, which then have fewer elements. A ``prologue`` is a group of one map, which
    changes what the first member, a convolution, has read.
    """

    pvars: tuple[Sym, ...]
    rvars: tuple[Sym, ...]
    order: tuple[Sym, ...]
    members: list[Member]
    checks: list[Check] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    pool: CallStep | None = None
    pool_first: bool = False
    prologue: Group | None = None

    @property
    def writes(self) -> list[Tensor]:
        """Tensors whose memory the kernel writes."""
        if self.pool is not None:
            return [t for t in self.pool.outputs if isinstance(t, Tensor)]
        return list(dict.fromkeys(m.target for m in self.members if m.stored))


Step = Group | CallStep


Strides = dict[Tensor, tuple[Dim | int, ...]]


@dataclass(eq=False)
class Slices:
    """Groups that run one after the other for every slice of their tensors: ``each`` of the ``rows`` of one of several matrices, or less.

    ``axes`` are the extents of the axes that count matrices. ``parts`` are the groups of a slice with ``count`` rows, or ``each`` if all
    have as many, of which ``start`` is the first. ``strides`` says how many elements further on a tensor's next matrix lies along each
    axis, and its next row, be it 0; a slice's ``own`` tensors are of its size.
    """

    parts: list[Group]
    axes: tuple[Dim | int, ...]
    rows: Dim | int
    each: Dim | int
    count: Sym | None
    start: Sym
    strides: Strides
    own: list[Tensor]
    checks: list[Check] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)

    @property
    def writes(self) -> list[Tensor]:
        """Tensors whose memory the kernel writes."""
        return self.parts[-1].writes


Work = Step | Slices
