"""The one file that touches numba's internals: Python functions to unoptimised LLVM modules.

Typing and lowering are numba's; everything around them is left out, because it costs more than a kernel does:

* contexts of our own, with only the registries that kernels need, so that neither the user's numba nor ours sees the other;
* a short list of passes (kernels have no closures, exceptions, ``with`` or objects);
* the minimal calling convention, ``int32 f(result*, arguments...)``, without exception slots;
* a code library that links and never optimises or loads: `onnx_numba.compile.llvm` does the first, once, and nobody the second.

Callables are typed by what they are: records of `onnx_numba.native`, plain Python functions and numba dispatchers. The latter
two are compiled for each signature and marked ``alwaysinline``, so that LLVM vectorises the loop around the call.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir as llvm_ir
from numba.core import callconv, cgutils, codegen, compiler, cpu, datamodel, lowering, typing
from numba.core import ir as numba_ir
from numba.core import types as numba_types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.dispatcher import Dispatcher
from numba.core.errors import TypingError
from numba.core.ir_utils import find_const
from numba.core.typed_passes import NativeLowering, NoPythonBackend, NopythonTypeInference, PreLowerStripPhis
from numba.core.typing import templates
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode

from onnx_numba.compile.bridge import define, python_names
from onnx_numba.compile.hints import gathered, side_by_side
from onnx_numba.compile.llvm import KERNEL_SIGNATURE, emit, isolate, optimise, parse_signature, target_machine, wrapper_text
from onnx_numba.compile.objects import check_symbols
from onnx_numba.compile.streaming import is_marked, with_streaming
from onnx_numba.native.loops import DOMAIN, FETCHED, STREAMED, apart, fetches, in_vectors, interleave, masked, streams, through_indices
from onnx_numba.native.registry import Function, Intrinsic, Overloaded, Preferred
from onnx_numba.target import Target

compiler_lock = global_compiler_lock
types: Any = numba_types  # most of its names are made at run time


# Code library and contexts


class _Library(codegen.CPUCodeLibrary):
    """Links what is added; leaves optimisation to whoever takes the module."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        seen = set()
        for library in self._linking_libraries:
            if library not in seen:
                seen.add(library)
                self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    @property
    def module(self) -> Any:
        """The linked module."""
        self._ensure_finalized()
        return self._final_module


class _Codegen(codegen.CPUCodegen):
    """Makes empty modules for the target; has no execution engine."""

    _library_class = _Library

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tm = target_machine(target)
        self._target_data = self._tm.target_data
        self._data_layout = str(self._target_data)

    def _create_empty_module(self, name: str) -> Any:
        module = llvm_ir.Module(cgutils.normalize_ir_text(name))
        module.triple = self._target.triple
        module.data_layout = self._data_layout
        return module

    def _add_module(self, module: Any) -> None:
        raise NotImplementedError("kernels are not loaded where they are compiled")


class _TypingContext(typing.Context):
    """Knows the callables of kernels besides numba's builtins."""

    def init(self) -> None:
        self.callables: dict[Any, _Callable] = {}
        self.resolved: dict[Any, Any] = {}
        super().init()

    def load_additional_registries(self) -> None:
        from numba.core.typing import builtins, mathdecl

        self.install_registry(mathdecl.registry)
        self.insert_attributes(builtins.NumberAttribute(self))  # the parts of complex numbers

    def install_registry(self, registry: Any) -> None:
        # Attributes written as overloads pull in all of numba, and SciPy, as soon as they are installed; kernels have none.
        loader = self._registries.setdefault(registry, templates.RegistryLoader(registry))
        for template in loader.new_registrations("functions"):
            self.insert_function(template(self))
        for value, kind in loader.new_registrations("globals"):
            known = self._lookup_global(value)
            if known is not None:
                self._remove_global(value)
            self._insert_global(value, kind if known is None else known.augment(kind))

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        # numba asks every template anew at each sum and index, in each round of its inference. Here nothing is added to them later.
        if kws:
            return super().resolve_function_type(func, args, kws)
        call = func, tuple(args)
        known = self.resolved.get(call)
        if known is None:
            known = self.resolved[call] = super().resolve_function_type(func, args, kws)
        return known

    def resolve_value_type(self, val: Any) -> Any:
        if isinstance(val, Dispatcher):
            val = val.py_func
        elif callable(val):
            val = _BUILTINS.get(val) or python_names().get(val, val)
        if isinstance(val, Preferred):
            val = val.instruction if val.has(self.target_context.compiled_for) else val.portable
        if not isinstance(val, (Intrinsic, Function, Overloaded, FunctionType)):
            # Of a class, `range` for one, numba asks whether it is one of its containers before it looks it up, and imports all of these.
            builtin = isinstance(val, type) and val.__module__ == "builtins"
            return (self._lookup_global(val) if builtin else None) or super().resolve_value_type(val)
        known = self.callables.get(val)
        if known is None:
            known = self.callables[val] = _CALLABLE_TYPES[type(val)](val)
        return known


class _TargetContext(cpu.CPUContext):
    """numba's CPU context for any target, with the minimal calling convention."""

    def __init__(self, typing_context: _TypingContext, target: Target) -> None:
        self.compiled_for = target
        super().__init__(typing_context)
        self.data_model_manager = datamodel.default_manager.copy()
        for kind in _CALLABLE_TYPES.values():
            self.data_model_manager.register(kind, datamodel.models.OpaqueModel)

    def init(self) -> None:
        self.is32bit = False
        self._internal_codegen = _Codegen(self.compiled_for)

    @functools.cached_property
    def call_conv(self) -> Any:
        return callconv.MinimalCallConv(self)

    def load_additional_registries(self) -> None:
        from numba.cpython import builtins, iterators, mathimpl, numbers, rangeobj, tupleobj  # noqa: F401  (they register themselves)

        self.install_registry(mathimpl.registry)

    def post_lowering(self, mod: Any, library: Any) -> None:
        """Leave numba's runtime out."""

    def get_function(self, fn: Any, sig: Any, _firstcall: bool = True) -> Any:
        if isinstance(fn, _Callable):
            return functools.partial(_call, fn, self, sig)
        item = _POINTER_ITEMS.get(getattr(fn, "typing_key", fn))
        if item is not None and isinstance(sig.args[0], types.CPointer):
            return functools.partial(item, self, sig)
        if getattr(fn, "typing_key", fn) is operator.mul and isinstance(sig.return_type, types.Complex):
            return functools.partial(_complex_product, self, sig)
        return super().get_function(fn, sig, _firstcall)


def _call(fn: _Callable, context: Any, signature: Any, builder: Any, args: Any, loc: Any = None) -> Any:
    return fn.lower(context, builder, signature, args)


# numba's own lowering of pointer items takes the stored form of a value for the value: bool is i8 in memory and i1 in registers.


def _load_element(context: Any, signature: Any, builder: Any, args: Any, loc: Any = None) -> Any:
    pointer, index = args
    stored = builder.load(builder.gep(pointer, [index]))
    return builder.icmp_unsigned("!=", stored, stored.type(0)) if signature.args[0].dtype == types.boolean else stored


def _store_element(context: Any, signature: Any, builder: Any, args: Any, loc: Any = None) -> Any:
    pointer, index, value = args
    builder.store(context.get_value_as_data(builder, signature.args[0].dtype, value), builder.gep(pointer, [index]))


_POINTER_ITEMS: dict[Any, Any] = {operator.getitem: _load_element, operator.setitem: _store_element}


def _complex_product(context: Any, signature: Any, builder: Any, args: Any, loc: Any = None) -> Any:
    """The plain formula, as NumPy has it; numba's own looks for infinities where that gives NaN."""
    (a, b), (c, d) = ((builder.extract_value(x, 0), builder.extract_value(x, 1)) for x in args)
    real = builder.fsub(builder.fmul(a, c), builder.fmul(b, d))
    imag = builder.fadd(builder.fmul(a, d), builder.fmul(b, c))
    made = context.get_constant_null(signature.return_type)
    return builder.insert_value(builder.insert_value(made, real, 0), imag, 1)


# Types of callables


class _Callable(types.Callable, types.Opaque):
    """The type of one callable."""

    def __init__(self, source: Any, name: str) -> None:
        self.source = source
        super().__init__(name)

    @property
    def key(self) -> Any:
        return self.source

    def lower(self, context: Any, builder: Any, signature: Any, args: Any) -> Any:
        raise NotImplementedError

    def get_call_signatures(self) -> tuple[list[Any], bool]:
        return [], True

    def get_impl_key(self, sig: Any) -> Any:
        return self

    def refuse(self, args: Any) -> TypingError:
        return TypingError(f"{self.name} does not take ({', '.join(map(str, args))})")


class _IntrinsicType(_Callable):
    """An `Intrinsic`: types are tried without literal values first, then with them."""

    def __init__(self, source: Intrinsic) -> None:
        super().__init__(source, source.name)

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        if kws:
            raise TypingError(f"{self.name} takes no keyword arguments")
        for candidate in (tuple(types.unliteral(arg) for arg in args), tuple(args)):
            result = self.source.typing(*candidate)
            if isinstance(result, templates.Signature):
                return result
            if result is not None:
                return templates.signature(result, *candidate)
        raise self.refuse(args)

    def lower(self, context: Any, builder: Any, signature: Any, args: Any) -> Any:
        result = self.source.emit(context, builder, signature, args)
        return context.get_dummy_value() if result is None else result


class _FunctionType(_Callable):
    """A Python function, compiled for each target and signature and inlined; numba has one object of a type for all contexts."""

    def __init__(self, source: Function | FunctionType) -> None:
        self.python = source.python if isinstance(source, Function) else source
        self.signature = inspect.signature(self.python)
        self.compiled: dict[Any, Any] = {}
        super().__init__(source, self.python.__qualname__)

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        plain = templates.fold_arguments(self.signature, args, kws, _typed_argument, _typed_default, _refuse_varargs)
        place = context.target_context.compiled_for, plain
        if place not in self.compiled:
            self.compiled[place] = _compile(self.python, plain, None, context, context.target_context)
        return templates.signature(self.compiled[place].signature.return_type, *plain).replace(pysig=self.signature)

    def lower(self, context: Any, builder: Any, signature: Any, args: Any) -> Any:
        result = self.compiled[context.compiled_for, signature.args]
        context.add_linking_libs([result.library])
        return context.call_internal(builder, result.fndesc, signature, args)


def _typed_argument(index: int, parameter: Any, kind: Any) -> Any:
    return types.unliteral(kind)


def _typed_default(index: int, parameter: Any, value: Any) -> Any:
    return types.Omitted(value)


def _refuse_varargs(index: int, parameter: Any, kinds: Any) -> Any:
    raise TypingError(f"*{parameter.name} is not supported")


class _OverloadedType(_Callable):
    """An `Overloaded`: the type of the first argument chooses the function."""

    def __init__(self, source: Overloaded) -> None:
        super().__init__(source, source.name)

    def _variant(self, context: Any, args: Any) -> Any:
        name = {types.float32: "f32", types.float64: "f64"}.get(types.unliteral(args[0])) if args else None
        if name is None:
            raise self.refuse(args)
        return context.resolve_value_type(self.source.variants[name])

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        return self._variant(context, args).get_call_type(context, args, kws)

    def lower(self, context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return self._variant(context.typing_context, signature.args).lower(context, builder, signature, args)


_CALLABLE_TYPES: dict[type, Any] = {
    Intrinsic: _IntrinsicType, Function: _FunctionType, FunctionType: _FunctionType, Overloaded: _OverloadedType,
}  # fmt: skip


# numba has these as overloads, which it would compile through a dispatcher of its own, for the host.


def _min(a, b):  # type: ignore[no-untyped-def]
    return b if b < a else a


def _max(a, b):  # type: ignore[no-untyped-def]
    return b if b > a else a


_BUILTINS: dict[Any, Any] = {min: _min, max: _max}


# Compilation


class _Lower(lowering.Lower):
    """numba's, and what the functions of `onnx_numba.native.loops` say of the innermost loop around them.

    Of `interleave`, `through_indices`, `in_vectors`, `masked` and `apart` LLVM reads from the jump back; `streams` marks what the loop
    stores, `fetches` what it loads, `apart` both:

    store float %".51", float* %".52", !alias.scope !2
    br label %B22, !llvm.loop !0
    !0 = !{ !0, !1 }
    !1 = !{ !"llvm.loop.interleave.count", i32 2 }
    !2 = !{ !3 }
    !3 = !{ !"streams", !4 }
    !4 = !{ !"onnx-numba" }
    """

    _hints: tuple[tuple[str, int], ...] = ()
    _said: tuple[Any, ...] = ()
    _masked: int = 0
    _blocks: Sequence[tuple[llvm_ir.Block, int]] = ()  # since something was said, and how many LLVM had by then

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        # numba has LLVM parse a module for the size of each variable, to describe it to debuggers.
        return cgutils.alloca_once(self.builder, lltype, name=name)

    def pre_block(self, block: Any) -> None:
        super().pre_block(block)
        here = self.builder.block, len(self.function.blocks)
        self._blocks = [*self._blocks, here] if self._hints or self._said or self._masked else [here]

    def lower_inst(self, inst: Any) -> None:
        super().lower_inst(inst)
        if isinstance(inst, numba_ir.Assign) and isinstance(inst.value, numba_ir.Expr) and inst.value.op == "call":
            self._read_hint(inst.value)
        elif isinstance(inst, numba_ir.Jump) and self.blkmap[inst.target].is_terminated:
            target = self.context.compiled_for
            if self._masked:  # and nothing else that is said of a loop is worth its while in one vector
                self._hints = (("vectorize.predicate.enable", True), ("vectorize.width", self._masked), ("interleave.count", 1))
                self._said = tuple(said for said in self._said if said is apart)
            if streams in self._said and target.streams:
                self._mark("alias.scope", self._scope(STREAMED), llvm_ir.StoreInstr)
            if fetches in self._said and target.fetches:
                self._mark("alias.scope", self._scope(FETCHED), llvm_ir.LoadInstr)
            if self._hints or apart in self._said or in_vectors in self._said:
                self._describe_loop()
            self._hints, self._said, self._masked = (), (), 0

    def _read_hint(self, call: Any) -> None:
        source = getattr(self.typeof(call.func.name), "source", None)
        if source is interleave:
            count = side_by_side(self.context.compiled_for, find_const(self.func_ir, call.args[0]))
            self._hints += (("interleave.count", count),) if count else ()
        elif source is masked:
            self._masked = find_const(self.func_ir, call.args[0])
        elif source is through_indices:
            self._hints += gathered(self.context.compiled_for)
        elif source in (streams, fetches, apart, in_vectors):
            self._said += (source,)

    def _describe_loop(self) -> None:
        hints = [
            self.module.add_metadata([f"llvm.loop.{name}", llvm_ir.IntType(1 if isinstance(value, bool) else 32)(value)])
            for name, value in self._hints
        ]
        if apart in self._said:
            group = _AccessGroup(self.module, (), str(len(self.module.metadata)))
            self._mark("llvm.access.group", group, llvm_ir.LoadInstr, llvm_ir.StoreInstr)
            hints.append(self.module.add_metadata(["llvm.loop.parallel_accesses", group]))
        if in_vectors in self._said or self._masked:
            hints.append(self.module.add_metadata(["llvm.loop.unroll.disable"]))
        loop = llvm_ir.MDValue(self.module, hints, str(len(self.module.metadata)))
        loop.operands = (loop, *hints)  # which makes it this loop's own
        self.builder.block.terminator.set_metadata("llvm.loop", loop)

    def _scope(self, name: str) -> Any:
        add = self.module.add_metadata
        return add([add([name, add([DOMAIN])])])

    def _mark(self, name: str, mark: Any, *kinds: Any) -> None:
        """Put metadata on what the loop loads or stores of elements; anything else is a local variable of numba's."""
        blocks = [block for block, _ in self._blocks]
        for block in [*blocks, *self.function.blocks[self._blocks[0][1] :]]:  # calls make LLVM's blocks more
            for made in block.instructions:
                if isinstance(made, kinds) and isinstance(made.operands[-1], llvm_ir.GEPInstr):
                    made.set_metadata(name, mark)


class _AccessGroup(llvm_ir.MDValue):
    """What accesses to memory have in common: a node that is itself and no other."""

    def descr(self, buf: list[str]) -> None:
        buf += ("distinct !{}", "\n")


@register_pass(mutates_CFG=True, analysis_only=False)
class _NativeLowering(NativeLowering):
    """numba's, with `_Lower`."""

    _name = "kernel_lowering"

    @property
    def lowering_class(self) -> Any:
        return _Lower


class _Pipeline(compiler.CompilerBase):
    """numba's pipeline without what kernels never need."""

    def define_pipelines(self) -> list[Any]:
        manager = PassManager("kernel")
        for stage in (
            TranslateByteCode, FixupArgs, IRProcessing, ReconstructSSA,
            NopythonTypeInference, PreLowerStripPhis, _NativeLowering, NoPythonBackend,
        ):  # fmt: skip
            manager.add_pass(stage, stage.__name__)
        manager.finalize()
        return [manager]


def _flags() -> Any:
    flags = compiler.Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.nrt = False
    flags.forceinline = True
    return flags


def _compile(python: FunctionType, args: Any, result: Any, typing_context: Any, target_context: Any) -> Any:
    return compiler.compile_extra(typing_context, target_context, python, args, result, _flags(), {}, pipeline_class=_Pipeline)


@functools.cache
def _contexts(target: Target) -> tuple[_TypingContext, _TargetContext]:
    typing_context = _TypingContext()
    target_context = _TargetContext(typing_context, target)
    typing_context.target_context = target_context
    return typing_context, target_context


def numba_type(name: str) -> Any:
    """The numba type of a name in a signature, such as ``int64*``."""
    if name == "void**":
        return types.CPointer(types.voidptr)
    if name == "void*":
        return types.voidptr
    if name.endswith("*"):
        return types.CPointer(numba_type(name[:-1]))
    return getattr(types, name)


def compile_ir(python: FunctionType, signature: str, target: Target) -> tuple[Any, str]:
    """Lower a function to LLVM.

    Parameters
    ----------
    python : function
        Its globals are what it may use: native records, constants, other functions.
    signature : str
        Such as ``int32(int64*, int64)``.
    target : Target
        Decides the data layout; nothing is optimised yet.

    Returns
    -------
    tuple
        The LLVM module, with everything called linked in, and the name of the function in it. Its first parameter points to where
        the result goes.
    """
    result, arguments = parse_signature(signature)
    with compiler_lock:
        compiled = _compile(python, tuple(map(numba_type, arguments)), numba_type(result), *_contexts(target))
        return compiled.library.module, compiled.fndesc.llvm_func_name


def compile_each(
    source: str,
    names: Iterable[str],
    symbols: Mapping[str, str],
    target: Target,
    signatures: Mapping[str, str] | None = None,
    namespace: Mapping[str, Any] | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Compile functions of a module's source, each to an object of its own.

    Parameters
    ----------
    source : str
        Python source over the names of `onnx_numba.native`.
    names : iterable of str
        The functions to compile.
    symbols : mapping
        The exported symbol of each; it must be a content hash, for two equal symbols cannot be told apart once loaded.
    target : Target
        What to compile for; it need not be the host.
    signatures : mapping, optional
        C signature of functions that are not kernels, such as ``"int64(int64*, int64)"``.
    namespace : mapping, optional
        Names to use instead of those of `onnx_numba.native`.

    Yields
    ------
    tuple
        A function's name and its relocatable object: the same bytes for the same arguments in every process.
    """
    scope = define(source, names=namespace)
    for name in names:
        signature = (signatures or {}).get(name, KERNEL_SIGNATURE)
        try:
            yield name, _compile_object(scope[name], signature, symbols[name], target)
        except Exception as error:
            error.add_note(f"while compiling {name} for {target.triple}")
            raise


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python's garbage collector out of the way.

    Of the millions of objects that numba makes of a function almost none can go before it is done. A collector that looks for them all the
    time takes a fifth of numba's; afterwards it finds the function's garbage in one go.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _compile_object(python: FunctionType, signature: str, symbol: str, target: Target) -> bytes:
    with compiler_lock, _uncollected():
        linked, inner = compile_ir(python, signature, target)
        # As text it does not depend on what was compiled before: modules share LLVM's context and number equal types through it.
        text = str(linked) + wrapper_text(symbol, inner, signature)
        module = llvm.parse_assembly(text)
        isolate(module, symbol)
        optimise(module, target)
        if is_marked(text):
            module = with_streaming(module, symbol, target)
        data = emit(module, target)
    check_symbols(data, target, symbol)
    return data
