"""Operators on strings."""

from __future__ import annotations

from typing import Any

from onnx_numba.errors import UnsupportedError
from onnx_numba.ir.loop import Object
from onnx_numba.ir.types import BOOL, I64, STRING, U8, TensorType
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.characters import Text, text_of, with_text
from onnx_numba.ops.common import AnyShape, broadcast_ranks, shape_of, tensor_type
from onnx_numba.ops.cutting import pieces, split_like_python, whole_match
from onnx_numba.ops.registry import op
from onnx_numba.runtime.regex import compiled


@op("StringConcat", since=20)
def string_concat(b: Builder, x: Object, y: Object) -> Any:
    """Strings joined pairwise."""
    return b.host("string_concat", [x, y], [tensor_type(STRING, broadcast_ranks([shape_of(x), shape_of(y)]))])


@op("StringSplit", since=20)
def string_split(b: Builder, x: Object, *, delimiter: str | None = None, maxsplit: int | None = None) -> Any:
    """Strings cut into pieces."""
    text, cut = text_of(b, x), split_like_python(b, delimiter, maxsplit)
    kind = tensor_type(STRING, (*text.shape, None))
    (made,) = b.host("string_split", [x], [kind], delimiter=delimiter, maxsplit=maxsplit)
    counts = cut.count(b, text)
    return with_text(b, made, lambda: pieces(b, text, cut, counts)), counts


@op("RegexFullMatch", since=20)
def regex_full_match(b: Builder, x: Object, *, pattern: str | None = None) -> Any:
    """Whether all of a string matches a pattern."""
    check_expression(b, pattern or "")
    matches = None if shape_of(x) is None else whole_match(b, text_of(b, x), pattern or "")
    return b.host("regex_full_match", [x], [tensor_type(BOOL, shape_of(x))], pattern=pattern or "") if matches is None else matches


def check_expression(b: Builder, expression: str) -> None:
    """Refuse what is no regular expression."""
    try:
        compiled(expression)
    except UnsupportedError as error:
        b.unsupported(str(error))
    except ValueError as error:
        b.fail(str(error))


@op("StringNormalizer", since=10)
def string_normalizer(
    b: Builder, x: Object, *, case_change_action: str, is_case_sensitive: int, locale: str | None = None,
    stopwords: tuple[str, ...] | None = None,
) -> Any:  # fmt: skip
    """Stop words taken out and case changed; Unicode's rules hold for every locale."""
    if case_change_action not in ("LOWER", "UPPER", "NONE"):
        b.fail(f"case_change_action must be LOWER, UPPER or NONE, not {case_change_action!r}")
    shape = shape_of(x)
    if shape is not None and (len(shape) not in (1, 2) or (len(shape) == 2 and isinstance(shape[0], int) and shape[0] != 1)):
        b.fail(f"the input must have shape [C] or [1, C], not {list(shape)}")
    result: AnyShape | None = None if shape is None else (None,) if len(shape) == 1 else (1, None)
    (made,) = b.host(
        "string_normalizer", [x], [tensor_type(STRING, result)],
        case_change_action=case_change_action, is_case_sensitive=is_case_sensitive, stopwords=stopwords or (),
    )  # fmt: skip
    made.filled = True  # where nothing is left there is an empty string
    if stopwords or case_change_action == "NONE" or result is None:
        return made

    def changed() -> Text:
        """The same as numbers: compiled code changes the case of ASCII."""
        return Text(*b.host("text", [x], [TensorType(I64, (*result, 2)), TensorType(U8, (None,))], change=case_change_action))

    return with_text(b, made, changed)
