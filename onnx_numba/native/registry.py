"""How a name that kernels may use is declared, apart from numba, so that the twins run where numba is not installed.

There are four kinds of records, and all of them can be called from Python, which runs the twin:

* `Intrinsic`: a twin in Python and an LLVM emitter;
* `Function`: one Python function over other records, which is its own twin and is compiled by numba as it stands;
* `Overloaded`: a `Function` per floating type, chosen by the type of the first argument;
* `Preferred`: one record on the targets that have an instruction for it, and on the others a `Function` that gives the same.

Every module of this package gathers its records in a tuple named ``RECORDS``. The globals of a `Function` hold records too, some
of them private helpers in no such tuple; the compiler types and lowers each by what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnx_numba.record import record

Twin = Callable[..., Any]
Typing = Callable[..., Any]
Emit = Callable[[Any, Any, Any, Any], Any]


@record(eq=False)
class Intrinsic:
    """A name with an LLVM emitter.

    Attributes
    ----------
    name : str
        The name in kernels.
    twin : callable
        The same in Python over NumPy scalars and 1-d arrays.
    typing : callable
        ``typing(*numba_types)`` gives numba's type of the result, or None when it takes no such arguments. One that needs a
        literal returns None for the type without its value; numba then tries again with the literal type.
    emit : callable
        ``emit(context, builder, signature, args)``, as numba calls it, gives the LLVM value of the result.
    """

    name: str
    twin: Twin
    typing: Typing
    emit: Emit

    def __call__(self, *args: Any) -> Any:
        """Run the twin."""
        return self.twin(*args)


@record(eq=False)
class Function:
    """A name written in Python over other records; it must be inlined where it is called, else loops around it stay scalar."""

    name: str
    python: Any  # a function of Python; by its own type, which has `__get__`, type checkers would take the field for a descriptor

    def __call__(self, *args: Any) -> Any:
        """Run it as Python."""
        return self.python(*args)


@record(eq=False)
class Overloaded:
    """A name with one `Function` per floating type of its first argument: variants are keyed ``f32`` and ``f64``."""

    name: str
    variants: Mapping[str, Function]

    def __call__(self, *args: Any) -> Any:
        """Run the variant for the first argument as Python."""
        return self.variants["f64" if isinstance(args[0], (np.float64, float)) else "f32"].python(*args)


@record(eq=False)
class Preferred:
    """A name for an instruction that not every machine has.

    Attributes
    ----------
    name : str
        The name in kernels.
    has : callable
        Whether a `onnx_numba.target.Target` has the instruction.
    instruction : Intrinsic or Function
        What is used there.
    portable : Function
        What is used elsewhere, and the twin.
    """

    name: str
    has: Callable[[Any], bool]
    instruction: Intrinsic | Function
    portable: Function

    def __call__(self, *args: Any) -> Any:
        """Run the portable function as Python."""
        return self.portable.python(*args)


Record = Intrinsic | Function | Overloaded | Preferred


def intrinsic(typing: Typing, emit: Emit, name: str | None = None) -> Callable[[Twin], Intrinsic]:
    """Declare the decorated twin as an `Intrinsic`, named like it unless ``name`` says otherwise."""

    def declare(twin: Twin) -> Intrinsic:
        return Intrinsic(name or twin.__name__, twin, typing, emit)

    return declare


def function(python: Any) -> Function:
    """Declare the decorated Python function as a `Function`."""
    return Function(python.__name__, python)


def overloaded(name: str, f32: Function, f64: Function) -> Overloaded:
    """One name for two functions."""
    return Overloaded(name, {"f32": f32, "f64": f64})
