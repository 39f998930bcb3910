"""A compiled model as data: what the pipeline makes, the store keeps and a session is made of. Imports neither onnx nor numba."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from onnx_numba.ir.plan import Kernel, Plan
from onnx_numba.record import record

Array = np.ndarray[Any, Any]
Served = tuple[tuple[str, str, str, int, str], ...]
ALIGNMENT = 64


@record
class Artefact:
    """A compiled model.

    Attributes
    ----------
    plan : Plan
    weights : tuple of ndarray
        What the plan's constants index.
    source : str
        The generated module.
    served : tuple
        Per node its name, operator, domain, schema version and how it is served.
    objects : mapping
        From the digest of each kernel to the exported symbol of its object and the object; empty where nothing was compiled.
    decisions : tuple of bool
        Which way branches go that the plan was made for.
    inputs : tuple of str
        All inputs of the model, in order; those that the plan does not have are constants in it.
    """

    plan: Plan
    weights: tuple[Array, ...]
    source: str
    served: Served
    objects: Mapping[str, tuple[str, bytes]]
    decisions: tuple[bool, ...] = ()
    inputs: tuple[str, ...] = ()


def plans(value: Any) -> Iterator[Plan]:
    """A plan, those of its subgraphs, and the one that is run otherwise."""
    if isinstance(value, Plan):
        yield value
        yield from plans(value.otherwise)
        for host in value.hosts:
            yield from plans(host.params)
    elif isinstance(value, dict):
        for item in value.values():
            yield from plans(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from plans(item)


def all_kernels(plan: Plan) -> list[Kernel]:
    """The kernels of a plan and its subgraphs."""
    return [kernel for each in plans(plan) for kernel in each.kernels]


def used_weights(plan: Plan, weights: list[Array]) -> tuple[Array, ...]:
    """The weights with those that no plan reads left empty: they were only needed to compute others."""
    used = {index for each in plans(plan) for index in each.constants.values()}
    nothing = np.empty(0, np.uint8)
    return tuple(w if k in used else nothing for k, w in enumerate(weights))


def encode(artefact: Artefact) -> dict[str, bytes]:
    """The files of a stored model; weights lie in one of their own, so that it can be mapped."""
    # The store holds machine code and is private to its user, so a pickle in it adds no way in.
    symbols = [(digest, symbol, len(data)) for digest, (symbol, data) in artefact.objects.items()]
    buffers: list[pickle.PickleBuffer] = []
    weights = pickle.dumps(artefact.weights, protocol=5, buffer_callback=buffers.append)
    blob, sizes = bytearray(), []
    for buffer in buffers:
        raw = buffer.raw()
        blob += b"\0" * (-len(blob) % ALIGNMENT)
        blob += raw
        sizes.append(raw.nbytes)
    parts = (artefact.plan, artefact.source, artefact.served, artefact.decisions, artefact.inputs, symbols, weights, sizes)
    head = pickle.dumps(parts, protocol=5)
    return {"head": head, "weights": bytes(blob), "objects": b"".join(data for _, data in artefact.objects.values())}


def decode(files: Mapping[str, Any]) -> Artefact:
    """The model that `encode` wrote; weights are views of the file."""
    plan, source, served, decisions, inputs, symbols, weights, sizes = pickle.loads(files["head"])
    view, at, buffers = memoryview(files["weights"]).toreadonly(), 0, []
    for size in sizes:
        at += -at % ALIGNMENT
        buffers.append(view[at : at + size])
        at += size
    objects, start = {}, 0
    for digest, symbol, length in symbols:
        objects[digest] = (symbol, bytes(files["objects"][start : start + length]))
        start += length
    return Artefact(plan, pickle.loads(weights, buffers=buffers), source, served, objects, decisions, inputs)
