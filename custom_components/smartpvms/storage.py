"""State that survives a restart: the codec between dataclasses and JSON."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from enum import Enum
from functools import cache
import math
from operator import attrgetter
import os
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

import orjson

from homeassistant.exceptions import UnsupportedStorageVersionError
from homeassistant.helpers.storage import STORAGE_DIR, Store
from homeassistant.util import dt as dt_util

from .const import LOGGER
from .northbound import (
    DeviceId,
    EpochTime,
    Moment,
    PastMoment,
    seconds_behind,
    to_epoch,
    to_monotonic,
    to_past,
)

# Larger floats are no exact integers, and much larger integers cannot be written.
_MAX_TIME: Final = 2**53
_INTEGERS: Final = range(-(2**63), 2**64)
_UNEQUAL: Final = object()
_INVALID: Final = (ArithmeticError, AttributeError, OSError, TypeError, ValueError)
# Errors of Home Assistant's store for a file of another version or shape.
_OTHER_FILE: Final = (
    AttributeError,
    LookupError,
    NotImplementedError,
    TypeError,
    UnsupportedStorageVersionError,
    ValueError,
)


class _Origin(NamedTuple):
    """Time to which the times of a stored state are relative."""

    saved: float
    """Epoch seconds."""
    behind: float
    """Seconds by which the clock is behind this time."""


_ZERO: Final = _Origin(0.0, 0.0)


class _Codec(NamedTuple):
    encode: Callable[[Any, float], Any] | None
    """`None` if values are stored as they are."""
    decode: Callable[[Any, _Origin], Any]


def encode(value: object, saved: float = 0.0) -> Any:
    """Return a dataclass in JSON-serializable form.

    Fields that equal their default are left out, and so are those with `init=False` or
    `metadata={"stored": False}`. A class with `is_record = True` is stored as a line of
    text with a list of its fields: Home Assistant stores one number per line. Times are
    stored in seconds after `saved`.
    """
    kind: Any = type(value)
    codec = _codec(kind)
    return value if codec.encode is None else codec.encode(value, saved)


def decode[T](kind: type[T], state: object, saved: float = 0.0) -> T:
    """Return a dataclass from the result of `encode`.

    Items of lists, sets and dicts that do not fit their type are left out, and so are
    fields with a default, but not those of a record, which belong together. Raises
    `TypeError` or `ValueError` if anything else does not fit.
    """
    origin = _Origin(_epoch_time(saved, _ZERO), seconds_behind(saved))
    value: T = _codec(cast("Any", kind)).decode(state, origin)
    return value


def decode_parts[T](kind: type[T], state: object, saved: float = 0.0) -> T:
    """Return a dataclass whose fields have defaults, without fields that do not fit."""
    return decode(kind, {**state} if isinstance(state, Mapping) else {}, saved)


def renamed(state: Any, names: Mapping[str, str]) -> Any:
    """Return an encoded state with other plant codes and device ids, by the old ones.

    Numbers are no ids, since ids are stored as texts.
    """
    # Names change only when a server moves, and the state of a fleet is large.
    if not names:
        return state
    match state:
        case dict():
            return {
                _renamed_text(key, names): renamed(each, names)
                for key, each in state.items()
            }
        case list():
            return [renamed(each, names) for each in state]
        case str():
            return _renamed_text(state, names)
    return state


def _renamed_text(text: str, names: Mapping[str, str]) -> str:
    if text.startswith("["):
        with suppress(ValueError):
            return orjson.dumps(renamed(orjson.loads(text), names)).decode()
    end = len(text)
    while end > 0:
        if (new := names.get(text[:end])) is not None:
            return f"{new}{text[end:]}"
        end = text.rfind("_", 0, end)
    return text


async def async_load_state(store: Store[dict[str, Any]]) -> dict[str, Any]:
    """Return the stored state of a file, or nothing.

    A file of another version or shape is renamed, as Home Assistant does with a file
    that is no JSON. Raises `HomeAssistantError` if the file cannot be read.
    """
    try:
        state = await store.async_load()
        return {} if state is None else _checked(state, dict)
    except _OTHER_FILE as err:
        name = f"{store.key}.corrupt.{dt_util.utcnow().isoformat()}"
        LOGGER.error(
            "Renaming the stored state in %s to %s, since it cannot be used: %s",
            store.key,
            name,
            type(err).__name__,
        )
        with suppress(OSError):
            await store.hass.async_add_executor_job(
                os.rename, store.path, store.hass.config.path(STORAGE_DIR, name)
            )
        return {}


@cache
def _codec(kind: Any, in_record: bool = False) -> _Codec:
    """Return the codec of a type, whose values may be part of a record."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if isinstance(kind, TypeAliasType):
        return _codec(kind.__value__, in_record)
    if isinstance(kind, UnionType):
        return _union(get_args(kind), in_record)
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if is_dataclass(origin):
        if not getattr(kind, "is_record", False):
            return _dataclass(kind, in_record)
        return _record(kind) if in_record else _line(_record(kind))
    if issubclass(origin, Enum):
        return _Codec(lambda value, _: value.value, lambda state, _: kind(state))
    if issubclass(origin, tuple) and parts[1:] != (...,):
        return _tuple([_codec(part, in_record) for part in parts])
    if issubclass(origin, Mapping):
        return _mapping(parts[0], _codec(parts[1], in_record))
    kind = origin if issubclass(origin, set | tuple) else list
    return _sequence(kind, _codec(parts[0], in_record))


def _scalar(*kinds: type) -> _Codec:
    def decode(state: object, _: _Origin) -> object:
        if isinstance(state, bool) != (bool in kinds) or not isinstance(state, kinds):
            raise TypeError(state)
        return state

    return _Codec(None, decode)


def _device_id(state: object, origin: _Origin) -> int:
    return _integer(int(_checked(state, str)), origin)


def _integer(state: object, _: _Origin) -> int:
    if isinstance(state, bool) or not isinstance(state, int):
        raise TypeError(state)
    if state not in _INTEGERS:
        raise ValueError(state)
    return state


def _number(state: object, _: _Origin) -> float:
    if isinstance(state, bool) or not isinstance(state, int | float):
        raise TypeError(state)
    if not math.isfinite(state):
        raise ValueError(state)
    return state


def _epoch_time(state: object, origin: _Origin) -> float:
    time = _number(state, origin) + origin.saved
    if abs(time) > _MAX_TIME:
        raise ValueError(state)
    return time


def _stamp(time: datetime, saved: float) -> float | str:
    """Return the seconds of a time in UTC, and the text of another time."""
    if time.tzinfo is not UTC:
        return time.isoformat()
    # The server's times are in milliseconds, and identify alarms.
    seconds = round(time.timestamp() - saved, 3)
    return int(seconds) if seconds.is_integer() else seconds


def _time(state: object, origin: _Origin) -> datetime:
    """Return a time that can be compared, and converted to other zones."""
    if isinstance(state, str):
        time = datetime.fromisoformat(state)
    else:
        time = datetime.fromtimestamp(_epoch_time(state, origin), UTC)
    if time.tzinfo is None or not MINYEAR < time.year < MAXYEAR:
        raise ValueError(state)
    return time


def _seconds(moment: Moment, saved: float) -> float:
    return round(to_epoch(moment) - saved)


_SCALARS: Final[Mapping[Any, _Codec]] = {
    object: _Codec(None, lambda state, _: state),
    Any: _Codec(None, lambda state, _: state),
    bool: _scalar(bool),
    float: _Codec(None, _number),
    int: _Codec(None, _integer),
    str: _scalar(str),
    DeviceId: _Codec(lambda device_id, _: str(device_id), _device_id),
    datetime: _Codec(_stamp, _time),
    EpochTime: _Codec(lambda time, saved: round(time - saved), _epoch_time),
    Moment: _Codec(
        _seconds,
        lambda state, origin: to_monotonic(_epoch_time(state, origin), origin.behind),
    ),
    PastMoment: _Codec(
        _seconds,
        lambda state, origin: to_past(_epoch_time(state, origin), origin.behind),
    ),
}


def _union(kinds: tuple[Any, ...], in_record: bool) -> _Codec:
    """Return the codec of an optional type, or of several that are stored alike."""
    is_optional = NoneType in kinds
    codecs = [_codec(kind, in_record) for kind in kinds if kind is not NoneType]
    encode_value = codecs[0].encode

    def decode(state: object, origin: _Origin) -> object:
        if state is None and is_optional:
            return None
        for codec in codecs[:-1]:
            with suppress(*_INVALID):
                return codec.decode(state, origin)
        return codecs[-1].decode(state, origin)

    if encode_value is None:
        return _Codec(None, decode)

    def encode(value: object, saved: float) -> object:
        return None if value is None else encode_value(value, saved)

    return _Codec(encode, decode)


@cache
def _fields(kind: Any, in_record: bool) -> dict[str, tuple[_Codec, Any]]:
    """Return the codecs and defaults of the stored fields of a dataclass."""
    hints = get_type_hints(kind)
    stored = {}
    for each in fields(kind):
        if each.init and each.metadata.get("stored", True):
            default = each.default
            if default is MISSING:
                factory = each.default_factory
                default = _UNEQUAL if factory is MISSING else factory()
            stored[each.name] = _codec(hints[each.name], in_record), default
    return stored


def _dataclass(kind: Any, in_record: bool) -> _Codec:
    parts = _fields(kind, in_record)
    table = [(name, default, codec.encode) for name, (codec, default) in parts.items()]

    def encode(value: object, saved: float) -> dict[str, Any]:
        state = {}
        for name, default, encode_field in table:
            field = getattr(value, name)
            if field != default:
                state[name] = (
                    field if encode_field is None else encode_field(field, saved)
                )
        return state

    def decode(state: dict[str, Any], origin: _Origin) -> object:
        values = {}
        for name in parts.keys() & state.keys():
            codec, default = parts[name]
            try:
                values[name] = codec.decode(state[name], origin)
            except _INVALID:
                if default is _UNEQUAL:
                    raise
        return kind(**values)

    return _Codec(encode, decode)


def _record(kind: Any) -> _Codec:
    """Return the codec of a dataclass that is stored as a list of its fields.

    Fields at the end of the list are left out if they equal their defaults, and ignored
    if a later version has added them.
    """
    parts = _fields(kind, True)
    names = [*parts]
    get = attrgetter(*names)
    fields_of = get if len(names) > 1 else lambda value: (get(value),)
    defaults = [default for _, default in parts.values()]
    encoders = [
        (place, codec.encode)
        for place, (codec, _) in enumerate(parts.values())
        if codec.encode is not None
    ]

    def encode(value: object, saved: float) -> list[Any]:
        state = [*fields_of(value)]
        while state and state[-1] == defaults[len(state) - 1]:
            state.pop()
        length = len(state)
        for place, encode_field in encoders:
            if place >= length:
                break
            state[place] = encode_field(state[place], saved)
        return state

    def decode(state: list[Any], origin: _Origin) -> object:
        states = zip(parts.items(), _checked(state, list), strict=False)
        return kind(
            **{name: codec.decode(each, origin) for (name, (codec, _)), each in states}
        )

    return _Codec(encode, decode)


def _line(record: _Codec) -> _Codec:
    """Return the codec of a record that is not part of another one."""
    encode_record = cast("Callable[[Any, float], Any]", record.encode)
    return _Codec(
        lambda value, saved: orjson.dumps(encode_record(value, saved)).decode(),
        lambda state, origin: record.decode(orjson.loads(state), origin),
    )


def _tuple(codecs: list[_Codec]) -> _Codec:
    """Return the codec of a tuple with a type for each place."""

    def encode(values: tuple[Any, ...], saved: float) -> list[Any]:
        return [
            value if codec.encode is None else codec.encode(value, saved)
            for codec, value in zip(codecs, values, strict=True)
        ]

    def decode(states: list[Any], origin: _Origin) -> tuple[Any, ...]:
        return tuple(
            codec.decode(state, origin)
            for codec, state in zip(codecs, _checked(states, list), strict=True)
        )

    return _Codec(encode, decode)


def _sequence(kind: type, item: _Codec) -> _Codec:
    encode_item, decode_item = item

    def encode(items: Any, saved: float) -> list[Any]:
        if encode_item is None:
            return [*items]
        return [encode_item(each, saved) for each in items]

    def decode(states: list[Any], origin: _Origin) -> Any:
        items = []
        for state in _checked(states, list):
            with suppress(*_INVALID):
                items.append(decode_item(state, origin))
        return kind(items)

    return _Codec(encode, decode)


def _mapping(key_kind: Any, item: _Codec) -> _Codec:
    encode_item, decode_item = item

    def encode(items: Mapping[Any, Any], saved: float) -> dict[str, Any]:
        if encode_item is None:
            # A missing data item means the same as one without a value.
            return {str(k): value for k, value in items.items() if value is not None}
        return {str(key): encode_item(value, saved) for key, value in items.items()}

    def decode(states: dict[str, Any], origin: _Origin) -> dict[Any, Any]:
        items = {}
        for key, state in _checked(states, dict).items():
            with suppress(*_INVALID):
                items[key_kind(key)] = decode_item(state, origin)
        return items

    return _Codec(encode, decode)


def _checked[T](state: object, kind: type[T]) -> T:
    if not isinstance(state, kind):
        raise TypeError(state)
    return state
