"""The command line: ``onnx-numba``, also ``python -m onnx_numba``."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence

import onnx_numba
from onnx_numba.cli import commands
from onnx_numba.cli.commands import Command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, those of the process by default.

    Returns
    -------
    int
        The exit status: 0, 1 after an error, 130 after Ctrl-C. Errors go to stderr in one line.
    """
    arguments = parser().parse_args(argv)
    try:
        arguments.command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has gone; nothing more can be written, not even by the interpreter as it leaves.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("onnx-numba: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        else:
            print(f"onnx-numba: {_one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, onnx_numba.errors.OnnxNumbaError | OSError) else f"{type(error).__name__}: {text}"


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(prog="onnx-numba", description="Compile and run ONNX models with Numba.")
    top.add_argument("--version", action="version", version=f"onnx-numba {onnx_numba.__version__}")
    add = _Adder(top.add_subparsers(required=True, metavar="COMMAND"))

    add("demo", commands.demo, "run the iris sample and say what was compiled or loaded")

    run = add("run", commands.run, "run a model on files or on random inputs", model=True)
    _add_inputs(run)
    run.add_argument("--output", metavar="OUT.npz", help="where the outputs go; without it they are printed")

    inspect = add("inspect", commands.inspect, "show inputs, outputs, operators and how each is served")
    inspect.add_argument("model", metavar="MODEL", nargs="?", help="path of an ONNX file")
    inspect.add_argument("--coverage", action="store_true", help="print how every operator of the standard is served instead")
    inspect.add_argument("--source", action="store_true", help="print the generated module instead")

    add("compile", commands.compile, "compile a model into the store", model=True)

    bench = add("bench", commands.bench, "median latency, beside onnxruntime where that is installed", model=True)
    _add_inputs(bench)
    bench.add_argument("--seconds", type=float, default=2.0, help="how long to measure each runtime (default %(default)s)")

    add("cache", commands.cache, "the store of compiled models").add_argument("action", choices=["info", "clear", "path"])
    return top


class _Adder:
    """Adds commands with the options that all of them have."""

    def __init__(self, subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        self._subparsers = subparsers

    def __call__(self, name: str, command: Command, text: str, *, model: bool = False) -> argparse.ArgumentParser:
        sub = self._subparsers.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(command=command)
        sub.add_argument("--debug", action="store_true", help="show a traceback on errors")
        if name != "cache":
            sub.add_argument("--device", default="CPU", help="CPU or CUDA, with an optional index as in CUDA:0")
            sub.add_argument("--threads", type=int, help="number of threads (default: what this process may use)")
        if model:
            sub.add_argument("--fix", action="append", default=[], metavar="NAME=NUMBER", help="extent that a named dim will always have")
            sub.add_argument("model", metavar="MODEL", help="path of an ONNX file")
        return sub


def _add_inputs(sub: argparse.ArgumentParser) -> None:
    add: Callable[..., object] = sub.add_argument
    add(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="a .npy, .npz, .pb or .csv file; repeat it for several inputs. Without any, inputs are random",
    )
    add("--dim", action="append", default=[], metavar="NAME=NUMBER", help="extent of a named dim of random inputs")
    add("--seed", type=int, default=0, help="seed of random inputs (default %(default)s)")


__all__ = ["main", "parser"]
