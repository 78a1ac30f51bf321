"""Parsed JSON to attrs classes and named tuples, strictly: no coercion, no unknown fields, every fault named."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
from cattrs import Converter
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError
from cattrs.gen import make_dict_structure_fn

from pinch.errors import Invalid

T = TypeVar("T")
Hook = Callable[[Any, Any], Any]

KINDS = {str: "a string", bool: "a boolean", int: "an integer", float: "a number", list: "an array", dict: "an object"}


def structure(raw: Any, cls: type[T]) -> T:
    """Build `cls` from parsed JSON.

    Raises:
        Invalid: names the first field that is missing, unknown or of another type.
    """
    try:
        return _CONVERTER.structure(raw, cls)
    except Exception as error:  # noqa: BLE001 - cattrs raises groups of whatever its hooks raised
        try:
            raise _fault(error, "") from None
        finally:
            _forget(error)


def _forget(error: BaseException) -> None:
    """Drop the frames an error was raised in: they hold it, and the body, in a cycle that only a collection ends."""
    error.__traceback__ = None
    for one in getattr(error, "exceptions", ()):
        _forget(one)


class _Place(str):
    """A note on an error that says at which place of a list it happened."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return str(self)


def _expect(value: Any, kind: type) -> None:
    if type(value) is not kind:
        raise TypeError(f"expected {KINDS[kind]}, found {KINDS.get(type(value), 'null')}")


def _exactly(kind: type) -> Hook:
    def check(value: Any, _: Any) -> Any:
        _expect(value, kind)
        return value

    return check


def _integer(value: Any, _: Any) -> int:
    """Return a number without a fraction: to JSON, and to its schemas, 6.0 is the integer 6."""
    if type(value) is float and value.is_integer():
        return int(value)
    _expect(value, int)
    return int(value)


def _number(value: Any, _: Any) -> float:
    if type(value) is int:
        return float(value)
    _expect(value, float)
    return float(value)


def _list_hook(cls: Any) -> Hook:
    (inner,) = get_args(cls)

    def check(value: Any, _: Any) -> Any:
        _expect(value, list)
        built = []
        for place, part in enumerate(value):
            try:
                built.append(_CONVERTER.structure(part, inner))
            except Exception as error:
                error.add_note(_Place(f"[{place}]"))
                raise
        return built

    return check


def _optional_hook(cls: Any) -> Hook:
    (inner,) = (part for part in get_args(cls) if part is not type(None))

    def check(value: Any, _: Any) -> Any:
        return None if value is None else _CONVERTER.structure(value, inner)

    return check


def _object_hook(cls: Any) -> Hook:
    build = make_dict_structure_fn(cls, _CONVERTER, _cattrs_forbid_extra_keys=True)

    def check(value: Any, kind: Any) -> Any:
        _expect(value, dict)
        return build(value, kind)

    return check


def _tuple_hook(cls: Any) -> Hook:
    hints = get_type_hints(cls)

    def check(value: Any, _: Any) -> Any:
        _expect(value, dict)
        if unknown := value.keys() - hints.keys():
            raise ForbiddenExtraKeysError(None, cls, unknown)
        built = {}
        for name, part in value.items():
            try:
                built[name] = _CONVERTER.structure(part, hints[name])
            except Exception as error:  # noqa: BLE001 - it is raised again, with its place
                error.add_note(_Place(name))
                raise ClassValidationError("", [error], cls) from None
        for name in cls._fields:
            if name not in built and name not in cls._field_defaults:
                raise KeyError(name)
        return cls(**built)

    return check


def _is_tuple(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path and not name.startswith("[") else f"{path}{name}"


def _fault(error: BaseException, path: str) -> Invalid:
    while isinstance(error, ClassValidationError | IterableValidationError):
        # An unknown field explains a missing one better than the other way round.
        first = next((e for e in error.exceptions if isinstance(e, ForbiddenExtraKeysError)), error.exceptions[0])
        for note in reversed(getattr(first, "__notes__", [])):
            name = getattr(note, "name", None)
            if name:
                path = _below(path, name)
        error = first
    if isinstance(error, ForbiddenExtraKeysError):
        name = min(str(extra) for extra in error.extra_fields)
        where = _below(path, name)[:80]
        known = ", ".join(get_type_hints(error.cl))
        return Invalid(f"there is no field {where!r}", param=where, hint=f"the fields are {known}")
    if isinstance(error, KeyError):
        where = _below(path, str(error.args[0])) if path != error.args[0] else path
        return Invalid(f"field {where!r} is missing", param=where)
    return Invalid(f"{path or 'body'}: {error}", param=path or "body")


def _is_list(cls: Any) -> bool:
    return get_origin(cls) is list


_CONVERTER = Converter()
_CONVERTER.register_structure_hook(str, _exactly(str))
_CONVERTER.register_structure_hook(bool, _exactly(bool))
_CONVERTER.register_structure_hook(int, _integer)
_CONVERTER.register_structure_hook(float, _number)
_CONVERTER.register_structure_hook_factory(_is_list, _list_hook)
_CONVERTER.register_structure_hook_factory(lambda cls: get_origin(cls) in {types.UnionType, Union}, _optional_hook)
_CONVERTER.register_structure_hook_factory(attrs.has, _object_hook)
_CONVERTER.register_structure_hook_factory(_is_tuple, _tuple_hook)
