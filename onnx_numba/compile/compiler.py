"""From a generated module to machine code: what the store has is taken from there, the rest is compiled and kept."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from onnx_numba.compile.keys import kernel_entries
from onnx_numba.compile.llvm import KERNEL_SIGNATURE
from onnx_numba.compile.objects import ObjectError, check_symbols
from onnx_numba.compile.store import Store, key
from onnx_numba.compile.worker import Job, run
from onnx_numba.target import Target

Progress = Callable[[int, int], None]

_OBJECT = "object"
_compiling = threading.Lock()


def symbol_of(digest: str) -> str:
    """The exported symbol of the function with this digest."""
    return f"k{digest}"


def compile_module(
    source: str,
    kernels: Mapping[str, str],
    target: Target,
    store: Store | None = None,
    progress: Progress | None = None,
    signatures: Mapping[str, str] | None = None,
    namespace: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """Objects of the functions of a generated module.

    Parameters
    ----------
    source : str
        The module.
    kernels : mapping
        Digest of the canonical source by function name. Functions with the same digest are one.
    target : Target
        What to compile for.
    store : Store, optional
        Where objects are looked up and kept.
    progress : callable, optional
        Called as ``progress(done, total)`` while compiling; ``total`` counts what is missing.
    signatures : mapping, optional
        C signature of functions that are not kernels.
    namespace : mapping, optional
        Names that the source uses instead of those of `onnx_numba.native`; digests must account for them.

    Returns
    -------
    dict
        Object by digest. Its symbol is `symbol_of` the digest.
    """
    names = {digest: name for name, digest in reversed(list(kernels.items()))}
    wanted = {digest: (signatures or {}).get(name, KERNEL_SIGNATURE) for digest, name in names.items()}
    objects = _find(wanted, target, store)
    if len(objects) == len(wanted):
        return objects
    with _compiling:
        # Another thread may have compiled the same while this one waited.
        objects |= _find({digest: wanted[digest] for digest in wanted if digest not in objects}, target, store)
        missing = {names[digest]: digest for digest in wanted if digest not in objects}
        job = Job(
            source,
            {name: symbol_of(digest) for name, digest in missing.items()},
            {name: wanted[digest] for name, digest in missing.items()},
            target,
        )
        for done, (name, data) in enumerate(run(job, namespace), 1):
            digest = missing[name]
            objects[digest] = data
            if store is not None:
                entries = kernel_entries(target, digest, wanted[digest])
                store.put("kernel", key(entries), {_OBJECT: data}, entries)
            if progress is not None:
                progress(done, len(missing))
    return objects


def _find(wanted: Mapping[str, str], target: Target, store: Store | None) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    if store is None:
        return found
    for digest, signature in wanted.items():
        files = store.get("kernel", key(kernel_entries(target, digest, signature)))
        # The store vouches for the bytes; what they need is looked at again, for that depends on this process.
        if files is None:
            continue
        with contextlib.suppress(ObjectError, KeyError):
            data = bytes(files[_OBJECT])
            check_symbols(data, target, symbol_of(digest))
            found[digest] = data
    return found
