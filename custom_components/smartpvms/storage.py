"""State that survives a restart: the codec between dataclasses and JSON."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import (
    Any,
    Final,
    NamedTuple,
    TypeAliasType,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from .northbound import Moment, PastMoment, to_epoch, to_monotonic, to_past

_UNEQUAL: Final = object()
_INVALID: Final = (ArithmeticError, AttributeError, TypeError, ValueError)


class _Codec(NamedTuple):
    encode: Callable[[Any], Any] | None
    """`None` if values are stored as they are."""
    decode: Callable[[Any, float], Any]


def encode(value: object) -> Any:
    """Return a dataclass in JSON-serializable form.

    Fields that equal their default are left out, and so are those with `init=False` or
    `metadata={"stored": False}`.
    """
    kind: Any = type(value)
    function = _codec(kind).encode
    return value if function is None else function(value)


def decode[T](kind: type[T], state: object, behind: float = 0.0) -> T:
    """Return a dataclass from the result of `encode`.

    Items of lists, sets and dicts that do not fit their type are left out. Raises
    `TypeError` or `ValueError` if anything else does not fit. `behind` are the seconds
    by which the clock is behind the moment at which the state was stored.
    """
    value: T = _codec(cast("Any", kind)).decode(state, behind)
    return value


def decode_parts[T](kind: type[T], state: object, behind: float = 0.0) -> T:
    """Return a dataclass whose fields have defaults, without fields that do not fit."""
    parts = {}
    if isinstance(state, Mapping):
        for name, codec in _fields(cast("Any", kind)).items():
            with suppress(*_INVALID):
                if name in state:
                    parts[name] = codec.decode(state[name], behind)
    return kind(**parts)


@cache
def _codec(kind: Any) -> _Codec:
    if kind in _SCALARS:
        return _SCALARS[kind]
    if isinstance(kind, TypeAliasType):
        return _codec(kind.__value__)
    if isinstance(kind, UnionType):
        return _union(get_args(kind))
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if is_dataclass(origin):
        return _dataclass(kind)
    if issubclass(origin, Enum):
        return _Codec(lambda value: value.value, lambda state, _: kind(state))
    if issubclass(origin, tuple) and parts[1:] != (...,):
        return _record([_codec(part) for part in parts])
    if issubclass(origin, Mapping):
        return _mapping(*parts)
    return _sequence(origin if issubclass(origin, set | tuple) else list, parts[0])


def _scalar(*kinds: type) -> _Codec:
    def decode(state: object, _: float) -> object:
        if isinstance(state, bool) != (bool in kinds) or not isinstance(state, kinds):
            raise TypeError(state)
        return state

    return _Codec(None, decode)


_SCALARS: Final[Mapping[Any, _Codec]] = {
    object: _Codec(None, lambda state, _: state),
    Any: _Codec(None, lambda state, _: state),
    bool: _scalar(bool),
    float: _scalar(int, float),
    int: _scalar(int),
    str: _scalar(str),
    datetime: _Codec(
        datetime.isoformat, lambda state, _: datetime.fromisoformat(state)
    ),
    Moment: _Codec(to_epoch, to_monotonic),
    PastMoment: _Codec(to_epoch, to_past),
}


def _union(kinds: tuple[Any, ...]) -> _Codec:
    """Return the codec of an optional type, or of several that are stored alike."""
    is_optional = NoneType in kinds
    codecs = [_codec(kind) for kind in kinds if kind is not NoneType]
    encode_value = codecs[0].encode

    def decode(state: object, behind: float) -> object:
        if state is None and is_optional:
            return None
        for codec in codecs[:-1]:
            with suppress(*_INVALID):
                return codec.decode(state, behind)
        return codecs[-1].decode(state, behind)

    if encode_value is None:
        return _Codec(None, decode)
    return _Codec(lambda value: None if value is None else encode_value(value), decode)


@cache
def _fields(kind: Any) -> dict[str, _Codec]:
    """Return the codecs of the stored fields of a dataclass."""
    hints = get_type_hints(kind)
    return {
        each.name: _codec(hints[each.name])
        for each in fields(kind)
        if each.init and each.metadata.get("stored", True)
    }


def _dataclass(kind: Any) -> _Codec:
    codecs = _fields(kind)
    table = []
    for each in fields(kind):
        if each.name not in codecs:
            continue
        default = each.default
        if default is MISSING:
            factory = each.default_factory
            default = _UNEQUAL if factory is MISSING else factory()
        table.append((each.name, default, codecs[each.name].encode))
    decoders = {name: codec.decode for name, codec in codecs.items()}

    def encode(value: object) -> dict[str, Any]:
        state = {}
        for name, default, encode_field in table:
            field = getattr(value, name)
            if field != default:
                state[name] = field if encode_field is None else encode_field(field)
        return state

    def decode(state: dict[str, Any], behind: float) -> object:
        return kind(
            **{
                name: decoders[name](state[name], behind)
                for name in decoders.keys() & state.keys()
            }
        )

    return _Codec(encode, decode)


def _record(codecs: list[_Codec]) -> _Codec:
    """Return the codec of a tuple with a type for each place."""

    def encode(values: tuple[Any, ...]) -> list[Any]:
        return [
            value if codec.encode is None else codec.encode(value)
            for codec, value in zip(codecs, values, strict=True)
        ]

    def decode(states: list[Any], behind: float) -> tuple[Any, ...]:
        return tuple(
            codec.decode(state, behind)
            for codec, state in zip(codecs, states, strict=True)
        )

    return _Codec(encode, decode)


def _sequence(kind: type, part: Any) -> _Codec:
    encode_item, decode_item = _codec(part)

    def encode(items: Any) -> list[Any]:
        return [*items] if encode_item is None else [*map(encode_item, items)]

    def decode(states: list[Any], behind: float) -> Any:
        items = []
        for state in _checked(states, list):
            with suppress(*_INVALID):
                items.append(decode_item(state, behind))
        return kind(items)

    return _Codec(encode, decode)


def _mapping(key_kind: Any, part: Any) -> _Codec:
    encode_item, decode_item = _codec(part)

    def encode(items: Mapping[Any, Any]) -> dict[str, Any]:
        if encode_item is None:
            return {str(key): value for key, value in items.items()}
        return {str(key): encode_item(value) for key, value in items.items()}

    def decode(states: dict[str, Any], behind: float) -> dict[Any, Any]:
        items = {}
        for key, state in _checked(states, dict).items():
            with suppress(*_INVALID):
                items[key_kind(key)] = decode_item(state, behind)
        return items

    return _Codec(encode, decode)


def _checked[T](state: object, kind: type[T]) -> T:
    if not isinstance(state, kind):
        raise TypeError(state)
    return state
