"""A function's parameters as a model sees them: their schema, read from types and docstring, and how to fill them."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, get_type_hints

import attrs

from ...errors import ConfigurationError
from ...wire import jsoncodec
from ..stream.parsing import validated
from ..vocabulary.schema import schema_of


__all__ = ["Parameters", "check_synchronous", "described"]

_SECTION = re.compile(
    r"(Args|Arguments|Parameters|Returns|Return|Yields|Raises|Attributes|Examples?|Notes?|Warnings?|Todo|See Also):"
)
_ARGUMENTS = ("Args:", "Arguments:", "Parameters:")
# A parameter's line: its name, perhaps its type in brackets, and what it is.
_PARAMETER = re.compile(r"\*{0,2}(\w+)(?:\s*\([^)]*\))?\s*:\s*(.*)")
# The same in NumPy's form, whose sections are underlined and whose parameters are not indented, and in Sphinx's.
_UNDERLINED = re.compile(
    r"(Other )?Parameters|Returns|Yields|Receives|Raises|Warns|Warnings|See Also|Notes|References|Examples|"
    r"Attributes|Methods"
)
_UNINDENTED = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?")
_FIELD = re.compile(
    r":(?:(?:param|parameter|arg|argument|key|keyword)(?:\s+[^:]+)??\s+\*{0,2}(?P<name>\w+)"
    r"|(?:type|rtype|returns?|yields?|raises?|except|exception)\b[^:]*):\s*(?P<words>.*)"
)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@attrs.frozen(eq=False)
class Parameters:
    """
    How to fill a function's parameters from a JSON object.

    Attributes:
        signature: The function's, or None if Python cannot tell it.
        schema: The JSON schema of the object, not strict; None if nobody knows the types.
        kind: The msgspec class that checks the object, or None.
    """

    signature: inspect.Signature | None
    schema: dict[str, Any] | None = None
    kind: Any = None

    @classmethod
    def untyped(cls, fn: Callable[..., Any]) -> Parameters:
        """Look at a function whose types do not matter."""
        try:
            return cls(inspect.signature(fn))
        except (ValueError, TypeError):  # Some built-in functions have none.
            return cls(None)

    @classmethod
    def typed(cls, fn: Callable[..., Any], where: str, words: Mapping[str, str]) -> Parameters:
        """
        Read a function's types.

        Args:
            fn: The function.
            where: Whose it is, for messages.
            words: What parameters are for, by name.

        Raises:
            ConfigurationError: As ``tool`` says.
        """
        msgspec = _msgspec(where)
        signature = _signature(fn, where)
        hints = _hints(fn, signature, where)
        fields = [
            (name, hints[name])
            if parameter.default is parameter.empty
            else (name, hints[name], msgspec.field(default=None))
            for name, parameter in signature.parameters.items()
        ]
        try:
            kind = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
        except (TypeError, ValueError) as exc:
            raise ConfigurationError(f"{where}: its parameters make no schema: {exc}.") from None
        try:
            schema = schema_of(kind, where)
        except ConfigurationError:
            # One of them is why, and its name says more than the whole.
            for name in signature.parameters:
                schema_of(hints[name], f"{where}: parameter {name!r}")
            raise
        schema.pop("title", None)
        for name, field in schema["properties"].items():
            _describe(field, words.get(name) or _annotated(hints[name]))
            _tell_default(msgspec, field, signature.parameters[name].default)
        return cls(signature, schema, kind)

    def read(
        self, arguments: dict[str, Any], schema: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """
        Return what to call the function with.

        Args:
            arguments: The JSON object, without nulls that stand for nothing.
            schema: The schema before it was made strict.

        Raises:
            ValueError: A value does not fit its type, or a field is missing or not known.
            TypeError: The same, if nobody knows the types.
        """
        if self.kind is not None:
            checked = validated(arguments, self.kind, schema)
            arguments = {name: getattr(checked, name) for name in arguments}
        if self.signature is None:
            return (), arguments
        return _bound(self.signature, arguments)


def _bound(
    signature: inspect.Signature, arguments: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    named = dict(arguments)
    positional: list[Any] = []
    for name, parameter in signature.parameters.items():
        if parameter.kind is not parameter.POSITIONAL_ONLY:
            break
        if name not in named and parameter.default is parameter.empty:
            raise TypeError(f"missing a required argument: {name!r}")
        positional.append(named.pop(name, parameter.default))
    signature.bind(*positional, **named)
    return tuple(positional), named


def _msgspec(where: str) -> Any:
    try:
        import msgspec
    except ImportError:
        raise ConfigurationError(
            f"{where}: @tool reads types with msgspec: install llmws[fast], or use Tool(name, schema, fn)."
        ) from None
    return msgspec


def check_synchronous(fn: Callable[..., Any], where: str) -> None:
    """Refuse a function that would have to be awaited."""
    for one in (fn, type(fn).__call__):
        if inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one):
            raise ConfigurationError(
                f"{where} is asynchronous: llmws calls tools in threads; give a def."
            )


def _signature(fn: Callable[..., Any], where: str) -> inspect.Signature:
    check_synchronous(fn, where)
    try:
        signature = inspect.signature(fn)
    except (ValueError, TypeError) as exc:
        raise ConfigurationError(f"{where}: {exc}; use Tool(name, schema, fn).") from None
    for name, parameter in signature.parameters.items():
        if parameter.kind in _VARIADIC:
            raise ConfigurationError(
                f"{where} takes {parameter}, which has no schema: name each parameter, or use Tool(name, schema, fn)."
            )
        if parameter.annotation is parameter.empty:
            method = " For a method, tool(instance.method)." if name in ("self", "cls") else ""
            raise ConfigurationError(
                f"{where}: parameter {name!r} has no type; write {name}: str, or the like.{method}"
            )
    return signature


def _hints(fn: Callable[..., Any], signature: inspect.Signature, where: str) -> dict[str, Any]:
    # Of the parameters alone: what a function returns is often named for the type checker only.
    written = {name: one.annotation for name, one in signature.parameters.items()}
    try:
        return get_type_hints(
            SimpleNamespace(__annotations__=written), _namespace(fn), include_extras=True
        )
    except (NameError, AttributeError, SyntaxError, TypeError) as exc:
        raise ConfigurationError(
            f"{where}: a type cannot be resolved: {exc}. Types have to be importable from the function's module."
        ) from None


def _namespace(fn: Any) -> dict[str, Any]:
    fn = inspect.unwrap(fn)
    while isinstance(fn, functools.partial):
        fn = inspect.unwrap(fn.func)
    fn = getattr(fn, "__func__", fn)  # Of a method.
    namespace: dict[str, Any] = getattr(
        fn if hasattr(fn, "__globals__") else type(fn).__call__, "__globals__", {}
    )
    return namespace


def _annotated(hint: Any) -> str:
    """Return the strings in ``Annotated[type, "…"]``."""
    return " ".join(note for note in getattr(hint, "__metadata__", ()) if isinstance(note, str))


def _describe(field: dict[str, Any], words: str) -> None:
    if words and "description" not in field:
        field["description"] = words


def _tell_default(msgspec: Any, field: dict[str, Any], default: Any) -> None:
    field.pop("default", None)
    # NOTHING is how attrs tells of a factory; a member of an enum, it would be told as its number.
    if default is inspect.Parameter.empty or default is attrs.NOTHING or default is None:
        return
    try:
        field["default"] = jsoncodec.decode(jsoncodec.encode(msgspec.to_builtins(default)))
    except (TypeError, ValueError, RecursionError):
        return  # It has no form that a model could read, and the function knows it.


def described(fn: Any) -> tuple[str | None, dict[str, str]]:
    """
    Read a docstring of Google's, NumPy's or Sphinx's form.

    Args:
        fn: Whose.

    Returns:
        The text up to the first section, or None if there is none, and what each parameter is for.
    """
    while isinstance(fn, functools.partial):  # Its own docstring is that of its class.
        fn = fn.func
    lines = (inspect.getdoc(fn) or "").splitlines()
    starts = [index for index in range(len(lines)) if _begins_section(lines, index)]
    text = "\n".join(lines[: starts[0]] if starts else lines).strip()
    words: dict[str, str] = {}
    for start, stop in pairwise([*starts, len(lines)]):
        field = _FIELD.fullmatch(lines[start])
        if lines[start] in _ARGUMENTS:
            words |= _entries(lines[start + 1 : stop])
        elif field is not None and field["name"]:
            words[field["name"]] = _joined([field["words"], *lines[start + 1 : stop]])
        elif lines[start].endswith("Parameters"):
            words |= _unindented_entries(lines[start + 2 : stop])
    return text or None, words


def _begins_section(lines: list[str], index: int) -> bool:
    line, below = lines[index], "".join(lines[index + 1 : index + 2])
    underlined = len(below) >= 3 and not below.strip("-") and _UNDERLINED.fullmatch(line)
    return bool(underlined or _SECTION.fullmatch(line) or _FIELD.fullmatch(line))


def _joined(pieces: Iterable[str]) -> str:
    return " ".join(filter(None, (piece.strip() for piece in pieces)))


def _unindented_entries(lines: list[str]) -> dict[str, str]:
    entries: dict[str, list[str]] = {}
    names: list[str] = []
    for line in lines:
        found = _UNINDENTED.fullmatch(line)
        if found:
            names = [name.strip().lstrip("*") for name in found[1].split(",")]
        for name in names:
            entries.setdefault(name, []).append("" if found else line)
    return {name: _joined(pieces) for name, pieces in entries.items()}


def _entries(lines: list[str]) -> dict[str, str]:
    entries: dict[str, list[str]] = {}
    name, margin = "", 0
    for line in lines:
        indent = len(line) - len(line.lstrip())
        found = _PARAMETER.fullmatch(line.strip())
        if found and (not entries or indent <= margin):
            name, margin = found[1], indent
            entries[name] = [found[2]]
        elif name:
            entries[name].append(line)
    return {name: _joined(pieces) for name, pieces in entries.items()}
