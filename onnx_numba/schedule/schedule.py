"""From a program to its plan and kernels: fuse, write kernels, lay out the plan; subgraphs first, with the same kernels and weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onnx_numba.codegen import contraction, cpu, cuda, sliced, template
from onnx_numba.codegen.kernel import KernelSource
from onnx_numba.ir.loop import HostCall, KernelCall, Program, Result, TemplateCall, Tensor, bodies_of
from onnx_numba.ir.plan import Plan
from onnx_numba.record import record
from onnx_numba.schedule.blocks import in_blocks
from onnx_numba.schedule.fold import Evaluate, fold
from onnx_numba.schedule.fuse import fuse
from onnx_numba.schedule.layout import across, in_reading_order
from onnx_numba.schedule.planner import Planner, storage
from onnx_numba.schedule.pooled import in_planes, pooled
from onnx_numba.schedule.prologue import with_prologues
from onnx_numba.schedule.short import write_out
from onnx_numba.schedule.slices import in_slices
from onnx_numba.schedule.steps import CallStep, Group, Slices, Work
from onnx_numba.schedule.tabulate import tabulate
from onnx_numba.schedule.tune import tune
from onnx_numba.target import Target


@record
class Scheduled:
    """A plan, the kernels of it and of its subgraphs with the nodes that each serves."""

    plan: Plan
    kernels: tuple[tuple[KernelSource, list[str]], ...]


def schedule(
    program: Program, target: Target, evaluate: Evaluate, constant: bool = False, device: str = "CPU", embedded: bool = False
) -> Scheduled:
    """The plan of a program for a target; ``evaluate`` runs its constant part, unless it is ``constant`` as a whole.

    The plan of a body that will be part of another plan is ``embedded``.

    For the device ``CUDA``, kernels are those of ``numba.cuda``; the constant part is computed by the CPU all the same.
    """
    if not constant:
        if device == "CPU":
            tune(program, target)
            tabulate(program, target)
        fold(program, evaluate)
    write_out(program)
    in_reading_order(program)
    fused, places = fuse(program)
    parts = in_blocks(fused)
    if device == "CPU":
        parts = with_prologues(pooled(in_planes(across(parts, program.weights), target), program, places), program, places)
    steps: list[Work] = in_slices(parts, program, places) if device == "CPU" else [*parts]
    kernels: list[tuple[KernelSource, list[str]]] = []
    sources: dict[int, list[KernelSource]] = {}
    bodies: dict[int, list[Plan]] = {}
    for position, step in enumerate(steps):
        if isinstance(step, CallStep) and (programs := bodies_of(step.call)):
            scheduled = [schedule(p, target, evaluate, device=device, embedded=True) for p in programs]
            kernels += [kernel for each in scheduled for kernel in each.kernels]
            bodies[id(step)] = [each.plan for each in scheduled]
            continue
        if isinstance(step, CallStep) and isinstance(step.call, HostCall):
            params = _with_plans(step.call.params, target, evaluate, kernels, device)
            steps[position] = CallStep(replace(step.call, params=params), step.outputs, step.checks, step.origins)
            continue
        made = [_kernel(step, target) if device == "CPU" else _cuda_kernel(step)]
        sources[id(step)] = made
        kernels += [(kernel, step.origins) for kernel in made]
    plan = Planner(program, steps, sources, bodies, places, embedded).build()
    if program.otherwise is not None:
        other = schedule(program.otherwise, target, evaluate, constant, device)
        kernels += other.kernels
        plan = replace(plan, filled=tuple(sorted(program.filled)), otherwise=other.plan)
    return Scheduled(plan, tuple(kernels))


def _kernel(step: Work, target: Target) -> KernelSource:
    if isinstance(step, Slices):
        return sliced.generate(step, [_kernel(part, target) for part in step.parts])
    if isinstance(step, Group):
        hint = step.members[0].hint
        return contraction.generate(step) if hint is not None and hint.tuned else cpu.generate(step, target)
    outputs = _outputs(step)
    if isinstance(step.call, KernelCall):
        return template.given(step.call, outputs, step.origins)
    assert isinstance(step.call, TemplateCall)
    return template.generate(step.call, [t if storage(t) is t else storage(t) for t in outputs], step.origins)


def _cuda_kernel(step: Work) -> KernelSource:
    if isinstance(step, Group):
        return cuda.generate(step)
    # Slices and kernels given as text are tuned for a processor, and chosen only for one.
    assert isinstance(step, CallStep) and isinstance(step.call, TemplateCall)
    return cuda.generate_template(step.call, [storage(t) for t in _outputs(step)], step.origins)


def _outputs(step: CallStep) -> list[Tensor]:
    """The tensors that a call makes, in its own order."""
    numbered = {t.definition.index: t for t in step.outputs if isinstance(t, Tensor) and isinstance(t.definition, Result)}
    return [numbered[k] for k in sorted(numbered)]


def _with_plans(value: Any, target: Target, evaluate: Evaluate, kernels: list[tuple[KernelSource, list[str]]], device: str) -> Any:
    """Parameters of a host step with the programs among them scheduled."""
    if isinstance(value, Program):
        made = schedule(value, target, evaluate, device=device)
        kernels += made.kernels
        return made.plan
    if isinstance(value, dict):
        return {key: _with_plans(item, target, evaluate, kernels, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_with_plans(item, target, evaluate, kernels, device) for item in value)
    return value
