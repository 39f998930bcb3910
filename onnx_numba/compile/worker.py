"""Compiling many functions at once, in processes: numba's compiler lock makes threads useless.

A helper is ``python -m onnx_numba.compile.worker``, so that callers need no ``__main__`` guard. It reads a job from its standard
input and writes the objects to its standard output; nothing else is shared. Where helpers cannot be had, everything is compiled
here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onnx_numba.record import record
from onnx_numba.target import Target

PER_PROCESS = 16
"""Functions that it takes to pay for starting a process: it imports numba first."""

_TIMEOUT = 600.0


@record
class Job:
    """Functions to compile: their symbols and C signatures by name, in a source that defines them all."""

    source: str
    symbols: Mapping[str, str]
    signatures: Mapping[str, str]
    target: Target

    def part(self, names: list[str]) -> Job:
        """The same for some of the functions."""
        return Job(self.source, {n: self.symbols[n] for n in names}, {n: self.signatures[n] for n in names}, self.target)


def run(job: Job, namespace: Mapping[str, Any] | None = None) -> Iterator[tuple[str, bytes]]:
    """Compile a job and yield objects by name, in no particular order."""
    names = list(job.symbols)
    count = 0 if namespace is not None else min(len(names) // PER_PROCESS, _cores()) - 1
    if count < 1 or not _can_start():
        yield from _compile(job, namespace)
        return
    shares = [names[i :: count + 1] for i in range(count + 1)]
    helpers = [_Helper(job.part(share)) for share in shares[1:]]
    try:
        yield from _compile(job.part(shares[0]), namespace)
        for helper in helpers:
            found = helper.result()
            yield from found.items()
            rest = [name for name in helper.job.symbols if name not in found]
            if rest:  # the helper died; if that was the source's fault, the error comes from here
                yield from _compile(job.part(rest), namespace)
    finally:
        for helper in helpers:
            helper.stop()


def _compile(job: Job, namespace: Mapping[str, Any] | None = None) -> Iterator[tuple[str, bytes]]:
    from onnx_numba.compile.numba_internals import compile_each

    return compile_each(job.source, job.symbols, job.symbols, job.target, job.signatures, namespace)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _can_start() -> bool:
    """Whether ``sys.executable`` is a Python and not a program with one inside, which would start itself again."""
    return bool(sys.executable) and not getattr(sys, "frozen", False) and Path(sys.executable).name.lower().startswith("python")


class _Helper:
    """One process, fed and read by a thread of its own so that neither pipe fills up."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._output = b""
        # -P: the working directory is no place to import from, unless it is in this process's path.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._thread = threading.Thread(target=self._communicate, daemon=True)
        self._thread.start()

    def _communicate(self) -> None:
        # A helper that dies or hangs shows in objects that are missing.
        try:
            self._output, _ = self._process.communicate(_encode_job(self.job), timeout=_TIMEOUT)
        except (OSError, subprocess.TimeoutExpired, ValueError):
            self._process.kill()

    def result(self) -> dict[str, bytes]:
        """What it has compiled."""
        self._thread.join()
        return dict(_decode_objects(self._output, self.job))

    def stop(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._thread.join()


def _encode_job(job: Job) -> bytes:
    return json.dumps(asdict(job)).encode()


def _decode_job(data: bytes) -> Job:
    fields = json.loads(data)
    return Job(fields["source"], fields["symbols"], fields["signatures"], Target(**fields["target"]))


def _encode_object(name: str, data: bytes) -> bytes:
    return f"{name} {len(data)}\n".encode() + data


def _decode_objects(output: bytes, job: Job) -> Iterator[tuple[str, bytes]]:
    position = 0
    while (end := output.find(b"\n", position)) >= 0:
        name, _, size = output[position:end].decode().rpartition(" ")
        position = end + 1 + int(size)
        if position > len(output) or name not in job.symbols:
            return
        yield name, output[end + 1 : position]


def main() -> None:
    """Compile the job on standard input."""
    job = _decode_job(sys.stdin.buffer.read())
    # Whatever prints must not get between the objects.
    output, sys.stdout = sys.stdout.buffer, sys.stderr
    for name, data in _compile(job):
        output.write(_encode_object(name, data))
        output.flush()


if __name__ == "__main__":
    main()
