"""Compiling many functions at once, in processes: numba's compiler lock makes threads useless.

A helper is ``python -m onnx_numba.compile.worker``, so that callers need no ``__main__`` guard. It reads a job from its standard
input, then names of functions one by one, and writes their objects to its standard output; nothing else is shared. This process compiles
too and everyone takes the next name when done with one, long functions first, so that all are done at about the same time.
Where helpers cannot be had, everything is compiled here.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from onnx_numba.record import record
from onnx_numba.target import Target

WORTH = 500
"""Lines of source that it takes to pay for starting a process, which imports numba first. How long a function takes follows from its lines
(3 to 4 ms each on Zen 4, all of a model together; their correlation is 0.9), wherever both take longer."""

_TIMEOUT = 600.0
_READY = b"ready\n"


@record
class Job:
    """Functions to compile: their symbols and C signatures by name, in a source that defines them all."""

    source: str
    symbols: Mapping[str, str]
    signatures: Mapping[str, str]
    target: Target


def run(job: Job, namespace: Mapping[str, Any] | None = None) -> Iterator[tuple[str, bytes]]:
    """Compile a job, long functions first, and yield objects by name as they are made."""
    lines = _lines(job.source)
    names = deque(sorted(job.symbols, key=lambda name: lines.get(name, 0), reverse=True))
    helped: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
    helpers: list[_Helper] = []
    most = _cores() - 1 if namespace is None and _can_start() else 0
    try:
        for _ in range(min(most, int(sum(lines.get(name, 0) for name in names) / WORTH))):
            helpers.append(_Helper(job, names, helped))  # one by one: those that run are stopped if another cannot be had
        for found in _compile(job, _taken(names), namespace):
            yield found
            yield from _arrived(helped)
        lost = [name for helper in helpers for name in helper.lost()]
        yield from _arrived(helped)
        # The helper that had them died; if that was the source's fault, the error comes from here.
        yield from _compile(job, lost, namespace)
    finally:
        for helper in helpers:
            helper.stop()


def _lines(source: str) -> dict[str, int]:
    """How long functions are, each up to the next."""
    starts = [(found[1], found.start()) for found in re.finditer(r"^def (\w+)", source, re.MULTILINE)]
    ends = [start for _, start in starts[1:]] + [len(source)]
    return {name: source.count("\n", start, end) for (name, start), end in zip(starts, ends, strict=True)}


def _taken(names: deque[str]) -> Iterator[str]:
    """Names that nobody else has taken yet."""
    while names:
        try:
            name = names.popleft()
        except IndexError:  # a helper was faster
            return
        yield name


def _arrived(helped: queue.SimpleQueue[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Objects that helpers have sent by now."""
    while not helped.empty():
        yield helped.get()


def _compile(job: Job, names: Iterable[str], namespace: Mapping[str, Any] | None = None) -> Iterator[tuple[str, bytes]]:
    from onnx_numba.compile.numba_internals import compile_each

    return compile_each(job.source, names, job.symbols, job.target, job.signatures, namespace)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _can_start() -> bool:
    """Whether ``sys.executable`` is a Python and not a program with one inside, which would start itself again."""
    return bool(sys.executable) and not getattr(sys, "frozen", False) and Path(sys.executable).name.lower().startswith("python")


class _Helper:
    """One process, and a thread that gives it names and takes its objects.

    Parameters
    ----------
    job : Job
        What it needs to know before the first name.
    names : deque of str
        Where names are taken from.
    helped : SimpleQueue
        Where objects go.
    """

    def __init__(self, job: Job, names: deque[str], helped: queue.SimpleQueue[tuple[str, bytes]]) -> None:
        self._job, self._names, self._helped = job, names, helped
        self._lost: list[str] = []
        self._ready = False
        # -P: the working directory is no place to import from, unless it is in this process's path.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        to, answers = self._process.stdin, self._process.stdout
        assert to is not None and answers is not None
        try:
            _send(to, _encode_job(self._job))
            if answers.readline() != _READY:
                return
            self._ready = True
            for name in _taken(self._names):
                self._lost.append(name)
                _send(to, name.encode())
                self._helped.put((name, _read_object(answers)))
                self._lost.remove(name)
        except (OSError, ValueError):
            self._process.kill()

    def lost(self) -> list[str]:
        """Wait until it has done what it has begun; the names that it has taken and given no object for."""
        if self._ready:
            self._thread.join(_TIMEOUT)
        self._process.kill()
        self._thread.join()
        return self._lost

    def stop(self) -> None:
        """End it if it still runs."""
        self._process.kill()
        self._thread.join()
        self._process.communicate()


def _send(to: IO[bytes], line: bytes) -> None:
    to.write(line + b"\n")
    to.flush()


def _encode_job(job: Job) -> bytes:
    return json.dumps(asdict(job)).encode()


def _decode_job(data: bytes) -> Job:
    fields = json.loads(data)
    return Job(fields["source"], fields["symbols"], fields["signatures"], Target(**fields["target"]))


def _read_object(answers: IO[bytes]) -> bytes:
    """An object with its size in a line before it; ValueError if it does not come whole."""
    size = int(answers.readline())
    data = answers.read(size)
    if len(data) != size:
        raise ValueError("the helper has ended")
    return data


def main() -> None:
    """Compile the job on standard input."""
    job = _decode_job(sys.stdin.buffer.readline())
    # Whatever prints must not get between the objects.
    output, sys.stdout = sys.stdout.buffer, sys.stderr
    names = (line.decode().rstrip("\n") for line in sys.stdin.buffer)
    compiled = _compile(job, names)
    output.write(_READY)
    output.flush()
    for _, data in compiled:
        output.write(f"{len(data)}\n".encode() + data)
        output.flush()


if __name__ == "__main__":
    main()
