"""
JSON schemas as the API takes them, and what to do with what a model writes to them.

The API holds a model to a schema only if it is *strict*: every object closed, every field required, and a few keywords
alone. A field that may be left out therefore becomes one that may be null, and a constraint that has no strict form
becomes words in the description. ``without_nulls`` undoes the first, validation by the type itself makes up for the
second.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import attrs

from ...errors import ConfigurationError
from ...wire import jsoncodec


__all__ = ["schema_of", "strict_schema", "text_format_of", "without_nulls"]

Schema = Mapping[str, Any]

# Keywords whose values are schemas, and how they are kept: one, a list of them, or one for each name.
_ONE, _EACH, _NAMED = ("items",), ("anyOf",), ("$defs", "definitions")
_KEPT = frozenset(
    {"$ref", "type", "enum", "title", "description", "pattern", "format", "multipleOf", "minimum", "maximum"}
    | {"exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"}
)  # fmt: skip
# Understood, but refused by the API in a strict schema: told to the model in words instead.
_TOLD = ("default", "minLength", "maxLength", "uniqueItems", "contentEncoding", "contentMediaType")
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
# Says nothing about which values fit.
_DROPPED = frozenset({"discriminator", "examples", "$schema", "$id", "$comment", "deprecated"})
_HANDLED = frozenset({"properties", "required", "additionalProperties", "const", "oneOf", "allOf"})
_TYPE_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_NULL = {"type": "null"}


def strict_schema(schema: Schema, where: str, *, hint: str = "") -> dict[str, Any]:
    """
    Return the strict form of an object's schema; that of a strict one is itself.

    Args:
        schema: A JSON schema; it is not changed.
        where: Whose it is, for messages.
        hint: What else could be done about a schema that cannot be made strict.

    Raises:
        ConfigurationError: It is no object's, or holds something that has no strict form, such as an object with any
            fields or a value of any type; the message names the place.
    """
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        raise ConfigurationError(
            f'{where}: the schema must be that of an object, as in {{"type": "object", "properties": {{…}}}}; '
            "put a list or a choice into a field of a class."
        )
    try:
        return _Strict(schema, where, hint).schema({"properties": {}, **schema}, "$")
    except RecursionError:
        raise ConfigurationError(
            f"{where}: the schema nests too deep, or contains itself."
        ) from None


@attrs.frozen
class _Strict:
    """
    Makes schemas strict.

    Attributes:
        root: Where references point into.
        where: Whose schema it is, for messages; so is each ``path``.
        hint: What else could be done.
    """

    root: Schema
    where: str
    hint: str

    def schema(self, schema: Any, path: str) -> dict[str, Any]:
        if not isinstance(schema, Mapping):
            raise self._error(path, f"is {schema!r}, which is no schema")
        schema = self._plain(schema, path)
        strict = {name: value for name, value in schema.items() if name in _KEPT}
        for name in _NAMED:
            if name in schema:
                strict[name] = self._each_named(schema[name], f"{path}.{name}")
        for name in _ONE:
            if name in schema:
                strict[name] = self.schema(schema[name], f"{path}.{name}")
        for name in _EACH:
            if name in schema:
                strict[name] = [
                    self.schema(one, f"{path}.{name}[{index}]")
                    for index, one in enumerate(schema[name])
                ]
        if "object" in _kinds(schema) or "properties" in schema:
            strict |= self._object(schema, path)
        return self._described(strict, schema, path)

    def _plain(self, schema: Schema, path: str) -> dict[str, Any]:
        """Put what can be said in several ways into the one that is strict; refuse what cannot be said."""
        plain = dict(schema)
        if "const" in plain:
            plain["enum"] = [plain.pop("const")]
        if "oneOf" in plain and "anyOf" not in plain:
            plain["anyOf"] = plain.pop("oneOf")
        whole = plain.get("allOf")
        if isinstance(whole, list) and len(whole) == 1 and isinstance(whole[0], Mapping):
            plain = {**whole[0], **{n: value for n, value in plain.items() if n != "allOf"}}
            return self._plain(plain, path)
        known = {*_KEPT, *_TOLD, *_DROPPED, *_ONE, *_EACH, *_NAMED, *_HANDLED} - {"oneOf", "allOf"}
        strange = sorted(set(plain) - known)
        if strange:
            raise self._error(path, f"uses {', '.join(strange)}, which strict schemas do not have")
        if "enum" in plain and "type" not in plain:
            kinds = sorted({_TYPE_NAMES.get(type(value), "object") for value in plain["enum"]})
            plain["type"] = kinds[0] if len(kinds) == 1 else kinds
        if not plain.keys() & {"type", "$ref", "anyOf", "properties"}:
            raise self._error(path, "takes any value, and a strict schema has to say which")
        if "array" in _kinds(plain) and "items" not in plain:
            raise self._error(
                path, "is a list of any values, and a strict schema has to say of which"
            )
        if "$ref" in plain and not _resolved(plain, self.root):
            raise self._error(path, f"refers to {plain['$ref']!r}, which is not there")
        return plain

    def _each_named(self, schemas: Any, path: str) -> dict[str, Any]:
        if not isinstance(schemas, Mapping):
            raise self._error(path, "is no object of schemas")
        return {name: self.schema(one, f"{path}.{name}") for name, one in schemas.items()}

    def _object(self, schema: Schema, path: str) -> dict[str, Any]:
        if schema.get("additionalProperties") or "properties" not in schema:
            raise self._error(path, "is an object with any fields; give it a class with named ones")
        required = schema.get("required", ())
        fields = self._each_named(schema["properties"], path)
        for name, field in fields.items():
            if name not in required and not _takes_null(field, self.root):
                fields[name] = _nullable(field)
        return {
            "type": schema.get("type", "object"),
            "properties": fields,
            "required": list(fields),
            "additionalProperties": False,
        }

    def _described(self, strict: dict[str, Any], schema: Schema, path: str) -> dict[str, Any]:
        told = [f"{name}: {_words(schema[name])}" for name in _TOLD if schema.get(name) is not None]
        if "format" in strict and strict["format"] not in _FORMATS:
            told.append(f"format: {strict.pop('format')}")
        if told:
            words = f"({', '.join(told)})"
            strict["description"] = f"{strict.get('description', '')} {words}".strip()
        if "$ref" in strict and len(strict) > 1 and path != "$":
            # Nothing may stand beside a reference.
            strict["anyOf"] = [{"$ref": strict.pop("$ref")}]
        return strict

    def _error(self, path: str, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self.where}: {path} {problem}.{self.hint}")


def _kinds(schema: Schema) -> Collection[str]:
    kinds = schema.get("type", ())
    return (kinds,) if isinstance(kinds, str) else kinds


def _words(value: Any) -> str:
    try:
        return jsoncodec.encode(value).decode()
    except ValueError:
        return repr(value)


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    above: dict[str, Any] = {
        name: schema.pop(name) for name in ("title", "description") if name in schema
    }
    choices = schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
    return {**above, "anyOf": [*choices, _NULL]}


def _resolved(schema: Any, root: Schema) -> Schema:
    """Follow a reference into the root's definitions; what leads nowhere is a schema that says nothing."""
    for _ in range(8):  # References to references are rare, and circles of them no schema at all.
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        schema = root
        for name in reference.removeprefix("#").split("/")[1:]:
            schema = schema.get(name) if isinstance(schema, Mapping) else None
    return {}


def _choices(schema: Schema, root: Schema) -> Iterator[Schema]:
    for name in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(name) or ():
            yield _resolved(one, root)


def _takes_null(schema: Any, root: Schema) -> bool:
    schema = _resolved(schema, root)
    if "null" in _kinds(schema):
        return True
    if "enum" in schema or "const" in schema:
        return None in schema.get("enum", (schema.get("const", ...),))
    choices = list(_choices(schema, root))
    if choices:
        return any(_takes_null(one, root) for one in choices)
    return not _kinds(schema)


def without_nulls(value: Any, schema: Schema, root: Schema | None = None) -> Any:
    """
    Take out of a value the nulls that stand for fields left out, which only its strict schema asked for.

    Args:
        value: A JSON value; it is not changed.
        schema: The schema before it was made strict.
        root: Where references point into; None means into the schema itself.
    """
    root = schema if root is None else root
    schema = _resolved(schema, root)
    choices = [one for one in _choices(schema, root) if _fits(value, one, root)]
    if choices:
        schema = choices[0]
    if isinstance(value, dict):
        fields, required = schema.get("properties") or {}, schema.get("required") or ()
        return {
            name: without_nulls(field, fields.get(name, {}), root)
            for name, field in value.items()
            if field is not None or name in required or _takes_null(fields.get(name, {}), root)
        }
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [without_nulls(one, schema["items"], root) for one in value]
    return value


def _fits(value: Any, schema: Schema, root: Schema) -> bool:
    """Tell whether a choice may be the one a value was written to: by its kind, and by the tag of a class."""
    if isinstance(value, list):
        return "array" in _kinds(schema)
    if not isinstance(value, dict) or "object" not in _kinds(schema):
        return False
    fields = {name: _resolved(one, root) for name, one in (schema.get("properties") or {}).items()}
    tags = {name: one["enum"] for name, one in fields.items() if len(one.get("enum", ())) == 1}
    return all(value.get(name) in tag for name, tag in tags.items())


def schema_of(kind: Any, where: str) -> dict[str, Any]:
    """
    Return the JSON schema of a type, not made strict, with its ``$defs``.

    Args:
        kind: An attrs class, dataclass, ``TypedDict``, msgspec ``Struct``, or any type that msgspec knows.
        where: Whose it is, for messages.

    Raises:
        ConfigurationError: msgspec is not installed, or does not know the type.
    """
    try:
        import msgspec
    except ImportError:
        raise ConfigurationError(
            f"{where}: making a schema from a type needs msgspec: install llmws[fast], or write the schema as a dict."
        ) from None
    try:
        (schema,), definitions = msgspec.json.schema_components([kind])
    except (TypeError, ValueError, NameError, RecursionError) as exc:
        reason = str(exc).strip().splitlines()[-1]
        raise ConfigurationError(f"{where}: {kind!r} has no JSON schema: {reason}.") from None
    root = dict(_resolved(schema, {"$defs": definitions}) if "$ref" in schema else schema)
    name = schema.get("$ref", "").rpartition("/")[2]
    rest = {other: one for other, one in definitions.items() if other != name}
    if name and _refers(definitions, f"#/$defs/{name}"):
        rest = dict(definitions)
    return {**root, "$defs": rest} if rest else root


def _refers(value: Any, reference: str) -> bool:
    if isinstance(value, Mapping):
        return value.get("$ref") == reference or any(
            _refers(one, reference) for one in value.values()
        )
    return isinstance(value, list) and any(_refers(one, reference) for one in value)


def text_format_of(kind: Any) -> dict[str, Any]:
    """
    Return the request's ``text.format`` that has the model answer in JSON of a type.

    Args:
        kind: An attrs class, dataclass, ``TypedDict`` or msgspec ``Struct``, which needs the extra ``fast``; or the
            field itself as a dict, which passes through.

    Raises:
        ConfigurationError: msgspec is not installed, or the type has no strict schema.
    """
    if isinstance(kind, Mapping):
        return dict(kind)
    name = getattr(kind, "__name__", None)
    if not isinstance(name, str):
        raise ConfigurationError(
            f"text_format={kind!r}: give a class (attrs, dataclass, TypedDict, msgspec Struct) or a dict."
        )
    where = f"text_format={name}"
    schema = strict_schema(schema_of(kind, where), where)
    return {
        "type": "json_schema",
        "name": re.sub(r"[^a-zA-Z0-9_-]+", "_", name)[:64],
        "schema": schema,
        "strict": True,
    }
