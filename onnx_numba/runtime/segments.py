"""Segments of a plan that are compiled when a run first reaches them, for what is known of their inputs by then.

First for the ranks of the inputs, so that other extents need no second compilation; where a lowering needs to know more, for shapes,
and then for values of small tensors. Each of these is prepared once per session, and kept in the store like any model: a later
process finds it there and imports neither onnx nor numba.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from onnx_numba.errors import DeferredError
from onnx_numba.ir.given import Given
from onnx_numba.ir.types import TensorType, ValueType
from onnx_numba.record import record
from onnx_numba.runtime.fork import on_fork
from onnx_numba.runtime.host import Host

if TYPE_CHECKING:
    from onnx_numba.prepare import PreparedModel
    from onnx_numba.runtime.session import Session

Array = np.ndarray[Any, Any]
Params = Mapping[str, Any]
Inputs = Sequence[tuple[str, ValueType]]

SMALL = 64
"""Elements up to which a tensor may hold axes, extents, scales or the like."""
FORMS = 256
"""Prepared forms of segments that a session keeps; those not used for longest go first."""


class Order(Protocol):
    """A segment to be prepared for what is given."""

    def stored(self) -> PreparedModel | None:
        """What the store has."""

    def built(self) -> PreparedModel:
        """What is compiled now."""


Facts = tuple[tuple[Any, ...], ...]
"""Per input of a segment what is known of it: ``("rank", n)``, ``("shape", dims)``, ``("value", dims, bytes)`` or nothing."""


@record
class Level:
    """How much is taken for known: all shapes or only ranks, and of tensors of up to `SMALL` elements the values that ``values`` says."""

    shapes: bool
    values: Literal["none", "whole", "all"]


LEVELS = (Level(False, "none"), Level(True, "none"), Level(False, "whole"), Level(True, "whole"), Level(True, "all"))
"""From the most general one; the lengths of small vectors of whole numbers, which may become ranks, are known in all."""


@record
class _Form:
    """A segment prepared for some facts, and the positions of the inputs that it takes."""

    model: PreparedModel
    taken: tuple[int, ...]


class WithSegments(Mapping[str, Host]):
    """Host steps by name, and ``deferred``."""

    def __init__(self, hosts: Mapping[str, Host], segments: Segments) -> None:
        self._hosts = hosts
        self._segments = segments

    def __getitem__(self, name: str) -> Host:
        """A step's function."""
        return self._segments.run if name == "deferred" else self._hosts[name]

    def __iter__(self) -> Iterator[str]:
        """All names."""
        yield "deferred"
        yield from self._hosts

    def __len__(self) -> int:
        """How many steps there are."""
        return len(self._hosts) + 1


class Segments:
    """The segments of a session, as far as they are prepared.

    Parameters
    ----------
    order : callable
        ``order(model, given)`` is an `Order`.
    """

    def __init__(self, order: Callable[[bytes, Given], Order]) -> None:
        self._order = order
        self._forms: OrderedDict[tuple[str, Facts], _Form] = OrderedDict()
        self._start: dict[tuple[str, Facts], int] = {}  # the first level that has ever sufficed
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """Make a lock that no thread holds."""
        self._lock = threading.RLock()

    def run(self, params: Params, *inputs: Any) -> tuple[Any, ...]:
        """Run a segment."""
        form = self._known(params, inputs)
        if form is None:
            with self._lock:
                form = self._known(params, inputs) or self._prepared(params, inputs)
        return form.model.run([inputs[position] for position in form.taken])

    def sessions(self) -> list[Session]:
        """What runs the forms that are prepared."""
        return [form.model.session for form in list(self._forms.values())]

    def _known(self, params: Params, inputs: Sequence[Any]) -> _Form | None:
        digest, named = params["digest"], params["named"]
        known = facts(named, inputs, LEVELS[0])
        start = self._start.get((digest, known), 0)
        return self._forms.get((digest, facts(named, inputs, LEVELS[start]) if start else known))

    def _prepared(self, params: Params, inputs: Sequence[Any]) -> _Form:
        """Prepare a segment; a form that the store has is the right one, for the more general ones failed when it was made."""
        digest, named = params["digest"], params["named"]
        every = [facts(named, inputs, level) for level in LEVELS]
        start = self._start.get((digest, every[0]), 0)
        numbers = [n for n in range(start, len(LEVELS)) if n == start or every[n] not in every[:n]]
        orders = {n: self._order(params["model"], given(named, every[n])) for n in numbers}
        stored = ((number, order.stored()) for number, order in orders.items())
        number, model = next(((n, m) for n, m in stored if m is not None), (start, None))
        if model is None:
            number, model = _built(orders)
        self._start[digest, every[0]] = number
        form = _Form(model, tuple(k for k, fact in enumerate(every[number]) if fact[:1] != ("value",)))
        self._forms[digest, every[number]] = form
        if len(self._forms) > FORMS:
            self._forms.popitem(last=False)
        return form


def _built(orders: Mapping[int, Order]) -> tuple[int, PreparedModel]:
    """The first form that can be built, with its number."""
    *general, last = orders
    for number in general:
        try:
            return number, orders[number].built()
        except DeferredError:
            continue  # more is known in the next
    return last, orders[last].built()


def facts(inputs: Inputs, values: Sequence[Any], level: Level) -> Facts:
    """What a form of a segment may rely on."""
    return tuple([_fact(kind, value, level) for (_, kind), value in zip(inputs, values, strict=True)])


def _fact(kind: ValueType, value: Any, level: Level) -> tuple[Any, ...]:
    if not isinstance(kind, TensorType) or value is None:
        return ()
    small, whole = value.size <= SMALL, kind.dtype.kind in "iub"
    if small and kind.dtype.kind != "s" and (level.values == "all" or (level.values == "whole" and whole)):
        return ("value", value.shape, value.tobytes())
    # Of strings it is known too whether there are any: the rank alone says that there are.
    if level.shapes or (small and whole and value.ndim <= 1) or (kind.dtype.kind == "s" and value.size == 0):
        return ("shape", value.shape)
    return ("rank", value.ndim)


def given(inputs: Inputs, known: Facts) -> Given:
    """Facts as what a model is specialised for."""
    types: dict[str, ValueType] = {}
    constants: dict[str, Array] = {}
    for (name, kind), fact in zip(inputs, known, strict=True):
        if not fact:
            continue
        assert isinstance(kind, TensorType)
        if fact[0] == "value":
            constants[name] = np.ndarray(fact[1], kind.dtype.numpy, fact[2])
        else:
            types[name] = TensorType(kind.dtype, fact[1] if fact[0] == "shape" else (None,) * fact[1])
    return Given(types, constants)
