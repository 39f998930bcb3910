"""Segments of a plan that are compiled when a run first reaches them, for what is known of their inputs by then.

First for the ranks of the inputs, so that other extents need no second compilation; if a lowering needs to know more, for the values
of small integer tensors, or for all shapes and the values of all small tensors. Each of these is prepared once per session, and
kept in the store like any model: a later process finds it there and imports neither onnx nor numba.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from onnx_numba.errors import DeferredError
from onnx_numba.ir.given import Given
from onnx_numba.ir.types import TensorType, ValueType
from onnx_numba.runtime.fork import on_fork
from onnx_numba.runtime.host import HOST, Host

if TYPE_CHECKING:
    from onnx_numba.prepare import PreparedModel

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

LEVELS = (0, 1, 2)
"""How much is taken for known; see `facts`."""


@dataclass(frozen=True)
class _Form:
    """A segment prepared for some facts, and the positions of the inputs that it takes; no model where they do not suffice."""

    model: PreparedModel | None
    taken: tuple[int, ...] = ()


class SessionHosts(Mapping[str, Host]):
    """Host steps by name, with a session's own ``deferred`` among them; see `Segments` for the parameter."""

    def __init__(self, order: Callable[[bytes, Given], Order]) -> None:
        self._segments = Segments(order)

    def __getitem__(self, name: str) -> Host:
        """A step's function."""
        return self._segments.run if name == "deferred" else HOST[name]

    def __iter__(self) -> Iterator[str]:
        """All names."""
        yield "deferred"
        yield from HOST

    def __len__(self) -> int:
        """How many steps there are."""
        return len(HOST) + 1


class Segments:
    """The segments of a session, as far as they are prepared.

    Parameters
    ----------
    order : callable
        ``order(model, given)`` is an `Order`.
    """

    def __init__(self, order: Callable[[bytes, Given], Order]) -> None:
        self._order = order
        self._forms: OrderedDict[tuple[Any, ...], _Form] = OrderedDict()
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
        assert form.model is not None
        return form.model.run([inputs[position] for position in form.taken])

    def _known(self, params: Params, inputs: Sequence[Any]) -> _Form | None:
        """The most general form that suffices, if it has been prepared."""
        for level in LEVELS:
            form = self._forms.get((params["digest"], facts(params["named"], inputs, level)))
            if form is None or form.model is not None:
                return form
        return None

    def _prepared(self, params: Params, inputs: Sequence[Any]) -> _Form:
        """Prepare a segment; a form that the store has is the right one, for the more general ones failed when it was made."""
        levels = list(dict.fromkeys(facts(params["named"], inputs, level) for level in LEVELS))
        orders = [self._order(params["model"], given(params["named"], known)) for known in levels]
        stored = ((number, order.stored()) for number, order in enumerate(orders))
        number, model = next(((n, m) for n, m in stored if m is not None), (0, None))
        if model is None:
            number, model = _built(orders)
        for known in levels[:number]:
            self._keep((params["digest"], known), _Form(None))
        form = _Form(model, tuple(k for k, fact in enumerate(levels[number]) if fact[:1] != ("value",)))
        self._keep((params["digest"], levels[number]), form)
        return form

    def _keep(self, key: tuple[Any, ...], form: _Form) -> None:
        self._forms[key] = form
        if len(self._forms) > FORMS:
            self._forms.popitem(last=False)


def _built(orders: Sequence[Order]) -> tuple[int, PreparedModel]:
    """The first form that can be built, with its number."""
    for number, order in enumerate(orders[:-1]):
        try:
            return number, order.built()
        except DeferredError:
            continue  # more is known in the next
    return len(orders) - 1, orders[-1].built()


def facts(inputs: Inputs, values: Sequence[Any], level: int) -> Facts:
    """What a form of a segment may rely on.

    Level 0 has ranks, and the lengths of small integer vectors, which may become ranks; level 1 also the values of all small integer
    tensors; level 2 all shapes and the values of all small tensors.
    """
    return tuple([_fact(kind, value, level) for (_, kind), value in zip(inputs, values, strict=True)])


def _fact(kind: ValueType, value: Any, level: int) -> tuple[Any, ...]:
    if not isinstance(kind, TensorType) or value is None:
        return ()
    small = value.size <= SMALL
    whole = kind.dtype.kind in "iub"
    if small and kind.dtype.kind != "s" and (level == 2 or (level == 1 and whole)):
        return ("value", value.shape, value.tobytes())
    if level == 2 or (small and whole and value.ndim <= 1):
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
            constants[name] = np.frombuffer(fact[2], kind.dtype.numpy).reshape(fact[1])
        else:
            types[name] = TensorType(kind.dtype, fact[1] if fact[0] == "shape" else (None,) * fact[1])
    return Given(types, constants)
