"""Targets: their names, what they have, and which of them run here."""

from __future__ import annotations

import pytest

from onnx_numba import backend, samples
from onnx_numba.errors import OptionError
from onnx_numba.target import LEVELS, TARGETS, Target, host_target, level


def test_lanes_follow_the_features() -> None:
    assert [Target("x86_64-unknown-linux-gnu", name, features).lanes for name, features in LEVELS.items()] == [4, 8, 16]
    assert Target("x86_64-unknown-linux-gnu", "x86-64").lanes == 4
    assert Target("x86_64-unknown-linux-gnu", "q", "+avx2,+fma,-avx512f").lanes == 8
    assert TARGETS["arm64-macos"].lanes == 4
    assert TARGETS["arm64-macos"].has_fma


def test_platforms_that_have_targets() -> None:
    assert [(t.arch, t.system) for t in TARGETS.values()] == [
        ("x86_64", "linux"), ("aarch64", "linux"), ("aarch64", "macos"), ("x86_64", "windows"),
    ]  # fmt: skip


def test_names_of_targets() -> None:
    assert Target.named("host") == host_target()
    assert Target.named("generic") == Target.generic()
    for name in LEVELS if host_target().arch == "x86_64" else ():
        if level(name).runs_on(host_target()):
            assert Target.named(name) == level(name)


def test_a_target_that_the_host_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_numba.target.host_target", lambda: Target("x86_64-unknown-linux-gnu", "q", LEVELS["x86-64-v3"]))
    assert Target.named("x86-64-v3").cpu == "x86-64-v3"
    with pytest.raises(OptionError, match=r"x86-64-v4.*lacks features.*host, generic, x86-64-v2, x86-64-v3 runs here"):
        backend.prepare(samples.path(), cpu="x86-64-v4")
    with pytest.raises(OptionError, match=r"haswell.*not a known target"):
        backend.prepare(samples.path(), cpu="haswell")


def test_code_with_features_that_the_host_lacks_does_not_run() -> None:
    host = host_target()
    assert host.runs_on(host)
    assert Target.generic().runs_on(host)
    assert not Target(host.triple, host.cpu, host.features + ",+of-the-future").runs_on(host)
    assert not Target("riscv64-unknown-linux-gnu", "generic").runs_on(host)
