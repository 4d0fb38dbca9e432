"""Tools: Python functions that a model may call, what the API is told of them, and one call of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

import attrs

from ...errors import ConfigurationError
from ...wire import jsoncodec
from ..vocabulary.items import ToolCall
from ..vocabulary.schema import strict_schema, without_nulls
from ..vocabulary.views import shorten
from .outputs import Output, ToolError, answered, unfit
from .parameters import Parameters, check_synchronous, described


__all__ = ["AnyTool", "CustomTool", "Tool", "Toolbox", "listed", "tool"]

P = ParamSpec("P")
R = TypeVar("R")

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_HINT = " Or pass strict=False."


@attrs.frozen(eq=False, repr=False)
class Tool(Generic[P, R]):
    """
    A function that a model may call with JSON arguments.

    Immutable, and still a function: calling it calls ``fn``. Calls may run on several threads at once.

    Attributes:
        name: What the model calls it: up to 128 letters, digits, ``_`` and ``-``.
        schema: The JSON schema of its arguments, an object's.
        fn: What to call, with the arguments by name. A ``str`` that it returns is the output as it is, and so is a list
            of content parts (``{"type": "input_text", …}``, ``input_image``, ``input_file``); anything else is written
            as JSON.
        description: What the model is told of it, or None.
        strict: Whether the API holds the model to the schema, which is made strict for it: every field required, and
            null where one may be left out.

    Raises:
        ConfigurationError: The name or the schema cannot be sent, ``strict`` is no truth value, or ``fn`` cannot be
            called or is asynchronous.
    """

    name: str
    schema: Mapping[str, Any]
    fn: Callable[P, R]
    description: str | None = None
    strict: bool = True
    _parameters: Parameters | None = attrs.field(default=None, kw_only=True)
    _wire: dict[str, Any] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        where = _checked(self.name, self.fn, "Tool(name, schema, fn)")
        if not isinstance(self.strict, bool):
            raise ConfigurationError(f"{where}: strict={shorten(self.strict)}: give True or False.")
        if self.strict:
            schema = strict_schema(self.schema, where, hint=_HINT)
        elif isinstance(self.schema, Mapping):
            schema = dict(self.schema)
        else:
            raise ConfigurationError(
                f"{where}: schema={self.schema!r} is no JSON schema: give a dict."
            )
        wire = {"type": "function", "name": self.name, "parameters": schema, "strict": self.strict}
        # A frozen class is set up this way.
        object.__setattr__(self, "_wire", _with_words(wire, where, description=self.description))

    def wire(self) -> dict[str, Any]:
        """Return the entry for the request's ``tools``; what is in it is shared and not to be changed."""
        return dict(self._wire)

    def call(self, call: ToolCall | str) -> Output | ToolError:
        """
        Answer a call: check the arguments, call the function, and put what it returns into the wire's form.

        Arguments are not mixed up (``"3"`` is no integer), but a date or an enum is made of its text, and a class of
        its fields, where ``@tool`` has read the types. One without types gets the JSON values as they are.

        Args:
            call: The call, or only its arguments as JSON text.

        Returns:
            The output, or what went wrong; never raises an ``Exception``.
        """
        call = _call_of(self.name, call)
        try:
            positional, named = self._read(call.arguments_text)
        except Exception as exc:  # noqa: BLE001  A parameter's class may raise anything.
            return unfit(call, exc)
        return answered(call, lambda: self.fn(*positional, **named))

    def _read(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        # A model that has nothing to say may say nothing.
        arguments = jsoncodec.decode(text.encode()) if text.strip() else {}
        if not isinstance(arguments, dict):
            raise ValueError(f"they are a JSON {type(arguments).__name__}, not an object")
        arguments = without_nulls(arguments, self.schema)
        parameters = self._parameters or Parameters.untyped(self.fn)
        return parameters.read(arguments, self.schema)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, as before it was a tool."""
        return self.fn(*args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[P, R]:
        return self.fn

    def __repr__(self) -> str:
        return f"Tool({self.name!r}, strict={self.strict})"


@attrs.frozen(eq=False, repr=False)
class CustomTool:
    """
    A function that a model calls with free text.

    Attributes:
        name: What the model calls it, as for ``Tool``.
        fn: What to call, with the text; what it returns is treated as a ``Tool``'s.
        description: What the model is told of it, or None.
        format: The wire's ``format``, such as ``{"type": "grammar", "syntax": "regex", "definition": "[a-z]+"}`` for a
            text that has to follow a grammar, or None for any text.

    Raises:
        ConfigurationError: The name or the format cannot be sent, or ``fn`` cannot be called or is asynchronous.
    """

    name: str
    fn: Callable[[str], Any]
    description: str | None = None
    format: Mapping[str, Any] | None = None
    _wire: dict[str, Any] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        where = _checked(self.name, self.fn, "CustomTool(name, fn)")
        _check_format(self.format, where)
        wire = {"type": "custom", "name": self.name}
        wire = _with_words(wire, where, description=self.description, format=self.format)
        object.__setattr__(self, "_wire", wire)

    def wire(self) -> dict[str, Any]:
        """Return the entry for the request's ``tools``; what is in it is shared and not to be changed."""
        return dict(self._wire)

    def call(self, call: ToolCall | str) -> Output | ToolError:
        """
        Answer a call.

        Args:
            call: The call, or only its text.

        Returns:
            The output, or what went wrong; never raises an ``Exception``.
        """
        call = _call_of(self.name, call)
        return answered(call, lambda: self.fn(call.arguments_text))

    def __call__(self, text: str) -> Any:
        """Call the function."""
        return self.fn(text)

    def __repr__(self) -> str:
        return f"CustomTool({self.name!r})"


AnyTool = Tool[..., Any] | CustomTool
# The type of the items that call them.
_CALLS: dict[type, str] = {Tool: "function_call", CustomTool: "custom_tool_call"}


@attrs.frozen(eq=False)
class Toolbox:
    """
    The tools of a request, by the calls that they answer.

    Attributes:
        tools: Those with a function: by the type of call, ``function_call`` or ``custom_tool_call``, and the name.
        declared: The names of functions and namespaces given as dicts, whose calls are the caller's to answer.
    """

    tools: Mapping[tuple[str, str], AnyTool]
    declared: frozenset[str]
    _wire: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, tools: Iterable[Any]) -> Toolbox:
        """
        Take tools in: ``Tool``, ``CustomTool``, and dicts, which are the wire's own entries.

        Raises:
            ConfigurationError: One is none of these, or two have the same name.
        """
        given = listed(tools)
        for one in given:
            if not isinstance(one, (Tool, CustomTool, Mapping)):
                raise ConfigurationError(
                    f"{shorten(one)} is no tool: decorate a function with @llmws.tool, make a "
                    "Tool(name, schema, fn), or give the wire's own dict."
                )
        names = [one.get("name") if isinstance(one, Mapping) else one.name for one in given]
        twice = next((name for name in names if name and names.count(name) > 1), None)
        if twice is not None:
            raise ConfigurationError(f"Two tools have the name {twice!r}: rename one.")
        return cls(
            {(_CALLS[type(one)], one.name): one for one in given if not isinstance(one, Mapping)},
            frozenset().union(*(_declared(one) for one in given if isinstance(one, Mapping))),
            tuple(one if isinstance(one, Mapping) else one.wire() for one in given),
        )

    def wire(self) -> list[dict[str, Any]]:
        """Return the request's ``tools``."""
        return [dict(one) for one in self._wire]


def _declared(entry: Mapping[str, Any]) -> set[str]:
    """Return the names of the functions in a wire's entry; a namespace has several."""
    inner = entry.get("tools")
    names = {entry["name"]} if isinstance(entry.get("name"), str) else set()
    for one in inner if isinstance(inner, (list, tuple)) else ():
        names |= _declared(one) if isinstance(one, Mapping) else set()
    return names


def listed(tools: Any) -> tuple[Any, ...]:
    """
    Return a request's tools as given.

    Raises:
        ConfigurationError: They are no list, but one tool, or something else.
    """
    single = isinstance(tools, (str, bytes, Mapping, Tool, CustomTool))
    if single or not isinstance(tools, Iterable):
        raise ConfigurationError(f"tools={shorten(tools)}: give a list of tools, as in tools=[…].")
    return tuple(tools)


@overload
def tool(fn: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, strict: bool = True
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool = True,
) -> Any:
    """
    Make a tool of a typed function; needs the extra ``fast``. For a method, ``tool(instance.method)``.

    Every parameter needs a type that JSON can be read as: plain types, lists, enums, ``Literal``, dates, and classes
    (attrs, dataclass, ``TypedDict``, msgspec ``Struct``). Its description is its line in the docstring's ``Args:``
    (NumPy's and Sphinx's forms are read too), or a string in ``Annotated[type, "…"]``. One with a default may be left
    out by the model.

    Args:
        fn: The function; None to give the other arguments first.
        name: What the model calls it; None for the function's own name.
        description: What the model is told of it; None for the docstring up to its first section.
        strict: As in ``Tool``.

    Raises:
        ConfigurationError: msgspec is not installed, a parameter has no type or one without a schema, or the function
            takes ``*args`` or ``**kwargs`` or is asynchronous.
    """
    if fn is None:
        return lambda fn: _tool_of(fn, name, description, strict)
    return _tool_of(fn, name, description, strict)


def _tool_of(
    fn: Callable[P, R], name: str | None, description: str | None, strict: bool
) -> Tool[P, R]:
    name = name or getattr(fn, "__name__", None)
    if not isinstance(name, str):
        raise ConfigurationError(f"{fn!r} has no name: pass tool(name=…)(…).")
    words, of_parameters = described(fn)
    parameters = Parameters.typed(_callable(fn, f"tool {name!r}"), f"tool {name!r}", of_parameters)
    schema = cast(dict[str, Any], parameters.schema)
    return Tool(name, schema, fn, description or words, strict, parameters=parameters)


def _callable(fn: Any, where: str) -> Any:
    if not callable(fn):
        raise ConfigurationError(f"{where}: {fn!r} cannot be called.")
    check_synchronous(fn, where)
    return fn


def _checked(name: Any, fn: Any, form: str) -> str:
    """Refuse what cannot be a tool; return what to call it in further messages."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{form}: name={name!r}; a name is up to 128 letters, digits, '_' and '-'."
        )
    _callable(fn, f"tool {name!r}")
    return f"tool {name!r}"


def _check_format(given: Any, where: str) -> None:
    form = dict(given) if isinstance(given, Mapping) else {}
    needed = ["type", *(("syntax", "definition") if form.get("type") == "grammar" else ())]
    if given is not None and not all(isinstance(form.get(name), str) for name in needed):
        raise ConfigurationError(
            f'{where}: format={shorten(given)}: give {{"type": "text"}}, or '
            '{"type": "grammar", "syntax": "regex", "definition": "…"}; the other syntax is "lark".'
        )


def _with_words(wire: dict[str, Any], where: str, **optional: Any) -> dict[str, Any]:
    description = optional["description"]
    if description is not None and not isinstance(description, str):
        raise ConfigurationError(
            f"{where}: description={shorten(description)}: give a string, or None."
        )
    entry = {**wire, **{name: value for name, value in optional.items() if value is not None}}
    try:
        jsoncodec.encode(entry)
    except jsoncodec.JSONError as exc:
        raise ConfigurationError(f"{where} cannot be sent as JSON: {exc}.") from None
    return entry


def _call_of(name: str, call: ToolCall | str) -> ToolCall:
    return ToolCall("", "", name, None, call) if isinstance(call, str) else call
