"""Regular expressions as automata that compiled code can run.

The plain part of RE2's syntax, in which an expression says which strings match and nothing else: characters, classes, groups,
alternatives, repetitions. Whoever needs more (anchors, flags, classes by property) has RE2 do it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from onnx_numba.record import record

Ranges = tuple[tuple[int, int], ...]
"""Code points from the first to the last number of each pair."""

MOST_STATES = 200
MOST_REPEATS = 50
LAST = 0x10FFFF

_DIGIT: Ranges = ((48, 57),)
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = ((9, 10), (12, 13), (32, 32))
_ESCAPES = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "a": 7}
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}


class NotPlain(Exception):
    """The expression has something that automata here do not do."""


@record
class Automaton:
    """What matches: from state 0 a character leads on by its class; the longest way to an accepting state counts.

    Attributes
    ----------
    bounds : tuple of int
        Where each run of characters of one class begins, from 0.
    classes : tuple of int
        Their classes.
    steps : tuple of tuple of int
        Per state the next one for every class, or -1.
    accepting : tuple of bool
        Per state.
    """

    bounds: tuple[int, ...]
    classes: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]
    accepting: tuple[bool, ...]


def automaton(expressions: Sequence[str]) -> Automaton | None:
    """What matches any of some expressions; None if one is not plain."""
    net = _Net()
    try:
        return _determined(net, frozenset(_Parser(expression, net).whole(0) for expression in expressions))
    except (NotPlain, RecursionError):
        return None


def one_character(expression: str) -> bool:
    """Whether whatever matches is one character."""
    net = _Net()
    try:
        end = _Parser(expression, net).whole(0)
    except (NotPlain, RecursionError):
        return False
    starts = net.closed([0])
    after = net.closed([target for state in starts for _, target in net.moves.get(state, ())])
    return end not in starts and not any(net.moves.get(state) for state in after)


@dataclass
class _Net:
    """States joined by characters (``moves``) and by nothing (``free``); 0 is where it begins."""

    count: int = 1
    moves: dict[int, list[tuple[Ranges, int]]] = field(default_factory=dict)
    free: dict[int, list[int]] = field(default_factory=dict)

    def state(self) -> int:
        self.count += 1
        if self.count > 20 * MOST_STATES:
            raise NotPlain
        return self.count - 1

    def join(self, start: int, end: int) -> None:
        self.free.setdefault(start, []).append(end)

    def closed(self, states: Iterable[int]) -> frozenset[int]:
        """States and all that can be reached from them for free."""
        found, stack = set(states), list(states)
        while stack:
            for target in self.free.get(stack.pop(), ()):
                if target not in found:
                    found.add(target)
                    stack.append(target)
        return frozenset(found)


class _Parser:
    """Reads an expression into a net: each method begins at a state and gives the one at which it ends."""

    def __init__(self, text: str, net: _Net) -> None:
        self.text, self.at, self.net = text, 0, net

    def whole(self, start: int) -> int:
        # A way of its own, so that repetitions do not lead back to where others begin.
        begin = self.net.state()
        self.net.join(start, begin)
        end = self.alternatives(begin)
        if self.at < len(self.text):
            raise NotPlain
        return end

    def peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def take(self) -> str:
        if self.at >= len(self.text):
            raise NotPlain
        self.at += 1
        return self.text[self.at - 1]

    def alternatives(self, start: int) -> int:
        end = self.net.state()
        while True:
            self.net.join(self.sequence(start), end)
            if self.peek() != "|":
                return end
            self.at += 1

    def sequence(self, start: int) -> int:
        while self.peek() not in ("", "|", ")"):
            start = self.repeated(start)
        return start

    def repeated(self, start: int) -> int:
        begin, first = self.at, self.net.state()
        self.net.join(start, first)
        end = self.item(first)
        least, most = self.counts()
        stop, after = self.at, [first] if least == 0 else []
        for number in range(1, most or max(least, 1)):
            if number >= least:
                after.append(end)
            self.at, inner = begin, self.net.state()
            self.net.join(end, inner)
            first, end = inner, self.item(inner)
        self.at, last = stop, self.net.state()
        self.net.join(end, last)
        if most is None:
            self.net.join(end, first)
        for state in after:
            self.net.join(state, last)
        return last

    def counts(self) -> tuple[int, int | None]:
        """How often the item before is repeated."""
        mark = self.peek()
        if mark not in ("*", "+", "?", "{") or not mark:
            return 1, 1
        self.at += 1
        least, most = {"*": (0, None), "+": (1, None), "?": (0, 1), "{": (0, 0)}[mark]
        if mark == "{":
            inside, found, rest = self.text[self.at :].partition("}")
            low, comma, high = inside.partition(",")
            if not found or not low.isascii() or not low.isdigit() or (high and not (high.isascii() and high.isdigit())):
                raise NotPlain
            least, most = int(low), int(high) if high else None if comma else int(low)
            self.at = len(self.text) - len(rest)
            if max(least, most or 0) > MOST_REPEATS or most == 0:
                raise NotPlain
        if self.peek() in ("*", "+", "?", "{"):
            raise NotPlain
        return least, most

    def item(self, start: int) -> int:
        mark = self.take()
        if mark == "(":
            if self.peek() == "?":
                if self.text[self.at : self.at + 2] != "?:":
                    raise NotPlain
                self.at += 2
            end = self.alternatives(start)
            if self.take() != ")":
                raise NotPlain
            return end
        if mark in "^$*+?{":
            raise NotPlain
        ranges: Ranges = ((ord(mark), ord(mark)),)
        if mark == ".":
            ranges = _others(((10, 10),))
        elif mark == "\\":
            ranges = self.escape()
        elif mark == "[":
            ranges = self.bracket()
        end = self.net.state()
        self.net.moves.setdefault(start, []).append((ranges, end))
        return end

    def escape(self) -> Ranges:
        mark = self.take()
        if mark.lower() in _CLASSES:
            known = _CLASSES[mark.lower()]
            return known if mark.islower() else _others(known)
        if mark in _ESCAPES:
            return ((_ESCAPES[mark], _ESCAPES[mark]),)
        if not mark.isascii() or mark.isalnum():
            raise NotPlain
        return ((ord(mark), ord(mark)),)

    def bracket(self) -> Ranges:
        turned = self.peek() == "^"
        self.at += turned
        ranges: list[tuple[int, int]] = []
        first = True
        while first or self.peek() != "]":
            first = False
            if self.text[self.at : self.at + 2] in ("[:", "[.", "[="):
                raise NotPlain
            found = self.bracket_item()
            if self.peek() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                last = self.bracket_item()
                if len(found) > 1 or len(last) > 1 or found[0][0] > last[0][1] or found[0][0] != found[0][1]:
                    raise NotPlain
                found = ((found[0][0], last[0][1]),)
            ranges += found
        self.at += 1
        return _others(tuple(ranges)) if turned else tuple(ranges)

    def bracket_item(self) -> Ranges:
        mark = self.take()
        return self.escape() if mark == "\\" else ((ord(mark), ord(mark)),)


def _others(ranges: Ranges) -> Ranges:
    """All characters but those."""
    result, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            result.append((start, low - 1))
        start = max(start, high + 1)
    return (*result, (start, LAST)) if start <= LAST else tuple(result)


def _determined(net: _Net, ends: frozenset[int]) -> Automaton:
    """One state for each set of states that the net can be in."""
    every = {edge for moves in net.moves.values() for ranges, _ in moves for low, high in ranges for edge in (low, high + 1)}
    bounds = sorted({0, *(edge for edge in every if edge <= LAST)})
    kinds: dict[tuple[tuple[int, int], ...], int] = {}
    classes = []
    for bound in bounds:
        # Characters that lead to the same states from every state are of one class.
        ways = tuple((s, t) for s, moves in net.moves.items() for ranges, t in moves if any(low <= bound <= high for low, high in ranges))
        classes.append(kinds.setdefault(ways, len(kinds)))
    states = {net.closed([0]): 0}
    order, steps = list(states), list[tuple[int, ...]]()
    for current in order:
        row = []
        for ways in kinds:
            targets = [target for start, target in ways if start in current]
            reached = net.closed(targets)
            if targets and reached not in states:
                states[reached] = len(states)
                order.append(reached)
            row.append(states[reached] if targets else -1)
        steps.append(tuple(row))
        if len(states) > MOST_STATES:
            raise NotPlain
    return Automaton(tuple(bounds), tuple(classes), tuple(steps), tuple(bool(state & ends) for state in order))
