"""Fusion: which tensors are stored, and which of them one kernel computes together.

Three decisions, each a function:

1. `stored_tensors`: what must lie in memory (outputs, operands of calls and tuned kernels, reductions) and what is worth it (a map that
   costs more to recompute than to read back). Everything else is inlined where it is used.
2. `_legal`: whether a kernel may also compute one more tensor: the same domain, other members read at the same element only, no cycle.
3. `fuse`: greedy, producers first; a map that was stored only for consumers which ended up in its own kernel is not written at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set

from onnx_numba.ir import dims as d
from onnx_numba.ir import expr as e
from onnx_numba.ir.dims import Dim, Sym
from onnx_numba.ir.loop import (
    Check,
    Concat,
    Input,
    Map,
    Object,
    Program,
    Reduce,
    Reshape,
    Result,
    Tensor,
    Weight,
    call_dims,
)
from onnx_numba.schedule.expand import Expander, cost, linear, loads, nesting, root
from onnx_numba.schedule.place import Places, placed, wholes
from onnx_numba.schedule.steps import CallStep, Group, Member, Step
from onnx_numba.schedule.uses import definition_dims, dim_tensors, expression_dims, live_values, uses

INLINE_COST = 4
"""A map at most this costly is recomputed by each of its consumers."""
INLINE_LIMIT = 250
"""A map whose expression has grown beyond this is stored, lest kernels grow with the graph."""
INLINE_DEPTH = 64
"""Likewise a map at the end of a chain of so many maps and operations, which are inlined by recursion."""
GROUP_DEPTH = 128
"""Operations lie no deeper than this within each other in one kernel, whose members are written by recursion."""
BUFFER_LIMIT = 24
"""Most tensors one kernel reads and writes."""
SERIAL_ROWS, SERIAL_WORK = 2, 65536
"""A reduction of this much work onto so few elements stays alone: what it would join would lose its parallelism."""


Variables = tuple[Sym, ...]


def stored_tensors(program: Program, values: Sequence[Tensor | Object]) -> tuple[set[Tensor], set[Tensor]]:
    """Tensors that lie in memory, and those among them that do so only because recomputing them would cost more."""
    forced: set[Tensor] = {root(v) for _, v in program.outputs if isinstance(v, Tensor)}
    readers: dict[Tensor, list[Tensor]] = defaultdict(list)
    for value in values:
        definition = value.definition
        if isinstance(definition, Result):
            forced |= {root(t) for t in definition.call.inputs if isinstance(t, Tensor)}
        if isinstance(value, Tensor):
            if not isinstance(definition, (Map, Reshape)):
                forced.add(value)
            if isinstance(definition, Reduce) and definition.hint and definition.hint.tuned:
                forced |= {root(t) for t in definition.hint.operands}
            for operand in uses(value):
                if isinstance(operand, Tensor):
                    readers[root(operand)].append(value)
        if isinstance(value, Tensor) or isinstance(definition, Result):
            dims = value.shape if isinstance(value, Tensor) else ()
            forced |= dim_tensors(dims) | {t for u in definition_dims(definition) for t in dim_tensors([u])}
            if isinstance(value, Tensor):
                forced |= dim_tensors(x for c in value.checks for x in (c.a, c.b))
    finished = _finished(values, readers)
    worth: set[Tensor] = set()
    total: dict[Tensor, int] = {}
    depth: dict[Tensor, int] = {}
    for value in values:
        if isinstance(value, Tensor) and isinstance(value.definition, Reshape):
            depth[value] = depth.get(value.definition.source, 0)
        if not isinstance(value, Tensor) or not isinstance(value.definition, Map) or value in forced:
            continue
        depth[value] = 1 + nesting(value.definition.expr, depth)
        used = {root(x.tensor) for x in loads(value.definition.expr)}
        own = cost(value.definition.expr)
        total[value] = own + sum(total.get(t, 0) for t in used if t not in forced and t not in worth)
        consumers = [c for c in dict.fromkeys(readers[value]) if not isinstance(c.definition, Reshape)]
        consumers += [c for r in readers[value] if isinstance(r.definition, Reshape) for c in readers.get(r, ())]
        reused = len(consumers) > 1 or any(_repeats(c, value) for c in consumers)
        late = value in finished and not (total[value] <= INLINE_COST and len(used) == 1 and _folded(consumers))
        if total[value] > INLINE_LIMIT or depth[value] >= INLINE_DEPTH or (reused and total[value] > INLINE_COST) or late:
            worth.add(value)
            depth[value] = 0
    return forced | worth, worth


def _finished(values: Sequence[Tensor | Object], readers: Mapping[Tensor, Sequence[Tensor]]) -> set[Tensor]:
    """Maps to store in place of the tuned product that they are made of: its kernel can do so where no one reads the product itself."""
    made_of: dict[Tensor, set[Tensor]] = {}  # products, and what is computed from them element by element
    for value in values:
        if not isinstance(value, Tensor):
            continue
        definition = value.definition
        if isinstance(definition, Reduce) and definition.hint and definition.hint.tuned:
            made_of[value] = {value}
        elif isinstance(definition, Map):
            at = tuple(d.dim(v) for v in definition.vars)
            own = [x.tensor for x in loads(definition.expr) if x.index == at and x.tensor.shape == value.shape]
            found = {p for t in own for p in made_of.get(t, ())}
            if found:
                made_of[value] = found
    inside = {p for p in made_of if p in made_of[p] and all(p in made_of.get(r, ()) for r in readers[p])}
    return {t for t, found in made_of.items() if any(p in inside and any(p not in made_of.get(r, ()) for r in readers[t]) for p in found)}


def _folded(consumers: Iterable[Tensor]) -> bool:
    """Whether something is folded, as by a softmax: what is cheap costs less beside that than on the way to memory and back."""
    return any(isinstance(c.definition, Reduce) and not (c.definition.hint and c.definition.hint.tuned) for c in consumers)


def _repeats(consumer: Tensor, used: Tensor) -> bool:
    """Whether the consumer reads elements of ``used`` more than once (by broadcast, a gather, or an inner product)."""
    definition = consumer.definition
    if isinstance(definition, Map):
        domain = consumer.size
    elif isinstance(definition, Reduce):
        domain = d.product(v.extent for v in definition.order if v.extent is not None)
    else:
        return False
    return domain != used.size


def members_of(
    tensor: Tensor, expander: Expander, places: Places
) -> Iterable[tuple[Member, tuple[Sym, ...], tuple[Sym, ...], tuple[Sym, ...]]]:
    """The loops that compute a stored map, reduction or concatenation: (member, pvars, rvars, order); none for parts in their places."""
    definition = tensor.definition
    if isinstance(definition, Map):
        position = linear([d.dim(v) for v in definition.vars], tensor.shape)
        yield Member(tensor, "map", expander(definition.expr), position, tensor, False), definition.vars, (), definition.vars
    elif isinstance(definition, Reduce):
        position = linear([d.dim(v) for v in definition.vars], tensor.shape)
        member = Member(
            tensor, definition.kind, expander(definition.expr), position, tensor, False, rvars=definition.rvars, hint=definition.hint
        )
        yield member, definition.vars, definition.rvars, definition.order
    elif isinstance(definition, Concat):
        for number, (part, offset) in enumerate(zip(definition.parts, definition.offsets, strict=True)):
            place = places.get(root(part))
            if place is not None and place.whole is tensor and place.number == number:
                continue
            variables = tuple(Sym(f"i{k}", extent=x) for k, x in enumerate(part.shape))
            at: list[Dim | int] = [d.dim(v) for v in variables]
            value = expander(part[tuple(at)])
            at[definition.axis] = at[definition.axis] + offset
            yield Member(part, "map", value, linear(at, tensor.shape), tensor, False), variables, (), variables


class Fuser:
    """Builds the steps of a program one stored tensor at a time."""

    def __init__(self, stored: Set[Tensor], optional: Set[Tensor], pinned: Set[Tensor], places: Places) -> None:
        self.stored = stored
        self.optional = optional
        self.pinned = pinned
        self.places = places
        self.steps: list[Step] = []
        self.step_of: dict[object, list[Step]] = defaultdict(list)  # tensor or object → steps that write it
        self.needs: dict[int, set[int]] = {}  # step id → ids of steps it depends on
        self.by_id: dict[int, Step] = {}
        self.number: dict[int, int] = {}  # step id → position in ``steps``
        self.sweeps: dict[Tensor, list[Step]] = defaultdict(list)  # tensor → groups that reduce what they read of it

    def add(self, value: Tensor | Object) -> None:
        """Schedule one value, if it is computed at all."""
        definition = value.definition
        if isinstance(definition, Result):
            self._add_call(value, definition)
        elif isinstance(value, Tensor) and value in self.stored and not isinstance(definition, (Input, Weight, Reshape)):
            expander = Expander(lambda t: t in self.stored)
            for member, pvars, rvars, order in members_of(value, expander, self.places):
                checks = list(dict.fromkeys([*value.checks, *expander.checks]))
                origins = list(dict.fromkeys([*reversed(expander.origins), *([value.origin] if value.origin else [])]))
                self._add_member(member, pvars, rvars, order, checks, origins)

    def _add_call(self, value: Tensor | Object, result: Result) -> None:
        existing = self.step_of[result.call]
        if existing:
            step = existing[0]
            assert isinstance(step, CallStep)
        else:
            step = CallStep(result.call, [], [], [value.origin] if value.origin else [])
            self._register(step)
            self.step_of[result.call].append(step)
            call = result.call
            used: set[object] = {root(x) if isinstance(x, Tensor) else x for x in call.inputs if x is not None}
            self._depend(step, used | dim_tensors(call_dims(call)))
        step.outputs.append(value)
        if isinstance(value, Tensor):
            step.checks += value.checks
            self._depend(step, dim_tensors(x for c in value.checks for x in (c.a, c.b)))
            self._depend(step, dim_tensors(s for s in value.shape if not self._own_dim(s, step)))
        self._made_by(value, step)

    def _own_dim(self, value: Dim | int, step: CallStep) -> bool:
        return any(isinstance(s.source, tuple) and s.source[0] in step.outputs for s in d.symbols(value))

    def _register(self, step: Step) -> None:
        self.steps.append(step)
        self.needs[id(step)] = set()
        self.by_id[id(step)] = step
        self.number[id(step)] = len(self.number)

    def _depend(self, step: Step, used: Iterable[object]) -> None:
        for item in used:
            self.needs[id(step)] |= {id(s) for s in self.step_of.get(item, ()) if s is not step}

    def _add_member(
        self, member: Member, pvars: Variables, rvars: Variables, order: Variables, checks: list[Check], origins: list[str]
    ) -> None:
        used = {x.tensor for x in loads(member.expr)}
        dims = dim_tensors(
            [*expression_dims(member.expr), *member.tensor.shape, *(v.extent for v in order if v.extent is not None)]
            + [member.position, *member.target.shape]
            + [x for c in checks for x in (c.a, c.b)]
        )
        made = [s for t in sorted(used, key=lambda t: t.name) for s in self.step_of.get(t, ())]
        # Sums over the same rows are taken in one sweep: what is read once need not be read again.
        beside = [s for t in sorted(used, key=lambda t: t.name) for s in self.sweeps.get(t, ())] if rvars else []
        candidates = [s for s in (*made, *beside) if isinstance(s, Group)]
        for group in sorted(dict.fromkeys(map(id, candidates)), key=lambda k: -self.number[k]):
            target = self.by_id[group]
            assert isinstance(target, Group)
            joined = _legal(target, member, pvars, rvars, order)
            apart = dims.isdisjoint(target.writes) and not any(t in used | dims for t in wholes(target.writes, self.places))
            if joined is None or not apart or self._cycle(target, used | dims):
                continue
            _join(target, joined, rvars, order)
            target.checks = list(dict.fromkeys([*target.checks, *checks]))
            target.origins = list(dict.fromkeys([*target.origins, *origins]))
            self._depend(target, used | dims)
            self._written_by(target, member, used if rvars else ())
            return
        member.inner = False
        member.depth = nesting(member.expr, {})
        step = Group(pvars, rvars, order, [member], checks, origins)
        self._register(step)
        self._depend(step, used | dims)
        self._written_by(step, member, used if rvars else ())

    def _made_by(self, value: Tensor | Object, step: Step) -> None:
        """Note which step makes a value, and thereby something of what it is a part of."""
        self.step_of[value].append(step)
        if isinstance(value, Tensor):
            for whole in wholes([value], self.places):
                self.step_of[whole].append(step)

    def _written_by(self, step: Step, member: Member, reduced: Iterable[Tensor]) -> None:
        self._made_by(member.target, step)
        for tensor in reduced:
            self.sweeps[tensor].append(step)

    def _cycle(self, group: Group, used: Iterable[object]) -> bool:
        """Whether something among ``used`` that the group does not compute depends on the group."""
        stack = [id(s) for item in used for s in self.step_of.get(item, ()) if s is not group]
        seen: set[int] = set()
        while stack:
            step = stack.pop()
            if step == id(group):
                return True
            if step not in seen:
                seen.add(step)
                stack.extend(self.needs[step])
        return False

    def finish(self) -> list[Step]:
        """Drop writes nobody needs and order the steps."""
        readers: dict[Tensor, set[int]] = defaultdict(set)
        for step in self.steps:
            if isinstance(step, Group):
                for member in step.members:
                    for load in loads(member.expr):
                        readers[load.tensor].add(id(step))
        for step in self.steps:
            if isinstance(step, Group):
                for member in step.members:
                    if self._internal(member, readers[member.target], step):
                        member.stored = False
        done: dict[int, None] = {}
        for step in self.steps:
            self._visit(id(step), done)
        return [self.by_id[s] for s in done]

    def _internal(self, member: Member, readers: set[int], step: Step) -> bool:
        movable = member.target in self.optional or (member.kind != "map" and member.target not in self.pinned)
        return movable and readers == {id(step)}

    def _visit(self, step: int, done: dict[int, None]) -> None:
        stack = [(step, iter(sorted(self.needs[step], key=self.number.__getitem__)))]
        active = {step}
        while stack:
            current, needs = stack[-1]
            following = next((n for n in needs if n not in done and n not in active), None)
            if following is None:
                stack.pop()
                active.discard(current)
                done[current] = None
            else:
                active.add(following)
                stack.append((following, iter(sorted(self.needs[following], key=self.number.__getitem__))))


def _strip(variables: Iterable[Sym]) -> list[Sym]:
    return [v for v in variables if v.extent != 1]


def _legal(group: Group, member: Member, pvars: tuple[Sym, ...], rvars: tuple[Sym, ...], order: tuple[Sym, ...]) -> Member | None:
    """The member rewritten over the group's variables, or None where it may not join."""
    full, level = _strip(group.order), [v for v in _strip(group.order) if v in group.pvars]
    own = _strip(order)
    tuned = any(m.hint is not None and m.hint.tuned for m in (member, *group.members))
    alone = not (rvars and _one_sweep(group, member))
    if rvars:
        if tuned or not _same_extents(own, full):
            return None
        reduced = {full[k] for k, v in enumerate(own) if v in rvars}
        if (alone and _serial(pvars, rvars)) or (group.rvars and reduced != {v for v in group.rvars if v.extent != 1}):
            return None
        onto, inner = full, True
    elif [v.extent for v in own] == [v.extent for v in level]:
        onto, inner = level, False
    elif group.rvars and not tuned and [v.extent for v in own] == [v.extent for v in full]:
        onto, inner = full, True
    else:
        return None
    if alone and group.rvars and _serial(group.pvars, group.rvars):
        return None
    table: dict[Sym, Dim | int] = {v: 0 for v in order if v.extent == 1}
    table |= {v: d.dim(w) for v, w in zip(own, onto, strict=True)}
    value = e.substitute(member.expr, table)
    position = d.substitute(member.position, table)
    single: dict[Sym, Dim | int] = {v: 0 for v in group.order if v.extent == 1}
    places = {m.target: d.substitute(m.position, single) for m in group.members}
    inside = [x for x in loads(value) if x.tensor in places]
    if any(x.index[0] != places[x.tensor] or isinstance(x.tensor.definition, Concat) for x in inside):
        return None
    buffers = {x.tensor for m in group.members for x in loads(m.expr)} | {x.tensor for x in loads(value)} | set(group.writes)
    depth = nesting(value, {m.target: m.depth for m in group.members if m.kind == "map"})
    if len(buffers) >= BUFFER_LIMIT or depth > GROUP_DEPTH:
        return None
    return Member(
        member.tensor, member.kind, value, position, member.target, inner and member.kind == "map",
        rvars=tuple(w for v, w in zip(own, onto, strict=True) if v in rvars), hint=member.hint, depth=depth,
    )  # fmt: skip


def _same_extents(own: Sequence[Sym], full: Sequence[Sym]) -> bool:
    """Whether loops are as long as others, those included that are shorter for the last rounds of one around them."""
    table: dict[Sym, Dim | int] = {}
    for v, w in zip(own, full, strict=False):
        if v.extent is None or d.substitute(v.extent, table) != w.extent:
            return False
        table[v] = d.dim(w)
    return len(own) == len(full)


def _one_sweep(group: Group, member: Member) -> bool:
    """Whether all that a group and a reduction do is to fold what others have made, which `onnx_numba.schedule.blocks` divides as one."""
    results = {m.target for m in group.members}
    alike = all(m.kind != "map" and not m.kind.startswith("arg") and not m.hint for m in (member, *group.members))
    return alike and not any(load.tensor in results for load in loads(member.expr))


def _serial(pvars: Sequence[Sym], rvars: Sequence[Sym]) -> bool:
    rows = d.product(v.extent for v in pvars if v.extent is not None)
    work = d.product(v.extent for v in rvars if v.extent is not None)
    return isinstance(rows, int) and rows <= SERIAL_ROWS and isinstance(work, int) and work >= SERIAL_WORK


def _join(group: Group, member: Member, rvars: tuple[Sym, ...], order: tuple[Sym, ...]) -> None:
    if rvars and not group.rvars:  # a group of maps becomes the rows and columns of a reduction
        group.rvars = tuple(v for v in group.order if v in member.rvars)
        group.pvars = tuple(v for v in group.pvars if v not in group.rvars)
        for earlier in group.members:
            earlier.inner = True
    group.members.append(member)


def fuse(program: Program) -> tuple[list[Step], Places]:
    """The program's steps in an order in which each comes after what it reads, and the places of parts in concatenations."""
    values = live_values(program)
    stored, optional = stored_tensors(program, values)
    given = {root(v) for _, v in program.outputs if isinstance(v, Tensor)}
    places = placed(values, stored, given)
    pinned = given | set(places)
    for value in values:
        if isinstance(value.definition, Result):
            pinned |= {root(t) for t in value.definition.call.inputs if isinstance(t, Tensor)}
        if isinstance(value, Tensor):
            pinned |= dim_tensors([*value.shape, *definition_dims(value.definition)])
            pinned |= dim_tensors(x for c in value.checks for x in (c.a, c.b))
            if isinstance(value.definition, Reduce) and value.definition.hint and value.definition.hint.tuned:
                pinned |= {root(t) for t in value.definition.hint.operands}
    fuser = Fuser(stored, optional - set(places), pinned, places)
    for value in values:
        fuser.add(value)
    return fuser.finish(), places
