"""Which machine the object code is for."""

from __future__ import annotations

import functools
import platform
import sys

from onnx_numba.errors import OptionError
from onnx_numba.record import record


@record
class Target:
    """A triple, a CPU and its features, as LLVM spells them; part of every store key.

    Attributes
    ----------
    triple : str
        Normalised LLVM triple, such as ``x86_64-unknown-linux-gnu``.
    cpu : str
        CPU name: ``znver4``, ``x86-64``, ``generic`` …
    features : str
        Comma-separated ``+feature`` and ``-feature`` entries, or nothing for what the CPU name implies.
    """

    triple: str
    cpu: str
    features: str = ""

    @classmethod
    def generic(cls, triple: str | None = None) -> Target:
        """The least that every machine with this triple (default: the host's) offers."""
        triple = triple or host_triple()
        return cls(triple, "x86-64" if triple.startswith("x86_64") else _GENERIC_CPU.get(triple, "generic"))

    @classmethod
    def named(cls, cpu: str) -> Target:
        """The target that ``Options(cpu=…)`` asks for: ``"host"``, ``"generic"`` or a level of x86-64, as ``"x86-64-v3"``.

        Raises
        ------
        OptionError
            For another name, and for a level with features that this machine lacks: its code would end the process.
        """
        if cpu == "host":
            return host_target()
        if cpu == "generic":
            return cls.generic()
        host = host_target()
        levels = [level(name) for name in LEVELS] if host.arch == "x86_64" else []
        able = [target.cpu for target in levels if target.runs_on(host)]
        if cpu not in able:
            here = "this machine lacks features of it" if cpu in LEVELS else "it is not a known target"
            raise OptionError(f"cpu={cpu!r}: {here}; code for {', '.join(['host', 'generic', *able])} runs here")
        return next(target for target in levels if target.cpu == cpu)

    @property
    def arch(self) -> str:
        """``x86_64`` or ``aarch64``."""
        arch = self.triple.partition("-")[0]
        return "aarch64" if arch == "arm64" else arch

    @property
    def system(self) -> str:
        """``linux``, ``macos`` or ``windows``."""
        if "windows" in self.triple:
            return "windows"
        return "macos" if any(name in self.triple for name in ("macos", "darwin", "apple")) else "linux"

    @property
    def enabled(self) -> frozenset[str]:
        """Names of the features that are switched on explicitly."""
        return frozenset(entry[1:] for entry in self.features.split(",") if entry.startswith("+"))

    @property
    def lanes(self) -> int:
        """float32 elements of one vector register: 16 with AVX-512, 8 with AVX2, 4 otherwise."""
        if self.arch != "x86_64":
            return 4
        if {"avx512f", "avx512vl"} <= self.enabled:
            return 16
        return 8 if {"avx2", "fma"} <= self.enabled else 4

    @property
    def masks(self) -> bool:
        """Whether any instruction may leave out elements of a vector: without, masks are for loads and stores of few types alone."""
        return self.lanes == 16

    @property
    def orders(self) -> bool:
        """Whether extremes of float32 are found sooner among integers that stand for them.

        Others than x86-64 have a maximum of floats that passes NaN on, and SSE2 has none of integers.
        """
        return self.arch == "x86_64" and self.lanes > 4

    @property
    def has_fma(self) -> bool:
        """Whether a fused multiply-add is one instruction."""
        return self.arch == "aarch64" or self.lanes > 4 or "fma" in self.enabled

    @property
    def broadcasts(self) -> bool:
        """Whether a number from anywhere in memory is loaded into all elements of a vector as fast as a vector is."""
        return self.arch == "x86_64"

    @property
    def zen(self) -> bool:
        """Whether it is AMD's: fewer instructions than in Intel's wait for operands at once, and gathers take longer than loads."""
        return self.cpu.startswith("znver")

    @property
    def gathers(self) -> bool:
        """Whether LLVM has what lies at a vector of indices loaded by one instruction: with AVX2 it does so for Intel's from Skylake on,
        not for levels."""
        loads = self.zen or (self.lanes == 8 and (self.cpu in LEVELS or self.cpu in ("haswell", "broadwell")))
        return self.arch == "x86_64" and self.lanes >= 8 and not loads

    @property
    def streams(self) -> bool:
        """Whether there are stores that go around the caches, and they pay: others than x86-64 see for themselves that lines are written
        as a whole."""
        return self.arch == "x86_64"

    @property
    def fetches(self) -> bool:
        """Whether it pays to ask for what loops will read. Zen 4 does that of itself: what is asked for keeps it from loads, and a norm of
        100 MB takes three halves of the time. Others than x86-64 are not measured."""
        return self.arch == "x86_64" and not self.zen

    def runs_on(self, host: Target) -> bool:
        """Whether code for this target may be run on ``host``: same triple, and no feature that the host lacks."""
        return self.triple == host.triple and self.enabled <= host.enabled

    def describe(self) -> dict[str, str]:
        """Named entries for a store key."""
        return {"triple": self.triple, "cpu": self.cpu, "features": self.features}


_GENERIC_CPU = {"arm64-apple-macosx": "apple-m1"}

# The levels of the psABI (https://gitlab.com/x86-psABIs/x86-64-ABI, "Micro-architecture levels"), each with what it adds.
_V2 = "+cx16,+popcnt,+sahf,+sse3,+sse4.1,+sse4.2,+ssse3"
_V3 = f"{_V2},+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave"
LEVELS = {"x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": f"{_V3},+avx512bw,+avx512cd,+avx512dq,+avx512f,+avx512vl"}
"""Features of the levels of x86-64 by name."""


def level(name: str) -> Target:
    """The target of one of `LEVELS` on this system."""
    return Target(host_triple(), name, LEVELS[name])


TARGETS: dict[str, Target] = {
    "x86-64": Target("x86_64-unknown-linux-gnu", "x86-64"),
    "aarch64-linux": Target("aarch64-unknown-linux-gnu", "generic"),
    "arm64-macos": Target("arm64-apple-macosx", "apple-m1"),
    "x86_64-windows": Target("x86_64-pc-windows-msvc", "x86-64"),
}
"""Targets that code is emitted for in tests, wherever they run."""


@functools.cache
def host_triple() -> str:
    """The triple of this process, without LLVM."""
    machine = platform.machine().lower()
    arch = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if sys.platform == "darwin":
        return f"{'arm64' if arch == 'aarch64' else arch}-apple-macosx"
    return f"{arch}-pc-windows-msvc" if sys.platform == "win32" else f"{arch}-unknown-linux-gnu"


@functools.cache
def host_target() -> Target:
    """The machine this process runs on, with every feature it has."""
    import llvmlite.binding as llvm

    try:
        features = llvm.get_host_cpu_features()
        flat = ",".join(f"{'+' if features[name] else '-'}{name}" for name in sorted(features))
    except RuntimeError:  # LLVM cannot tell them on every system; the CPU name implies most of them
        flat = ""
    return Target(host_triple(), llvm.get_host_cpu_name(), flat)
