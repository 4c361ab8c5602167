"""Hostile answers: honest ones in which arbitrary JSON replaces some parts."""

from contextlib import suppress
from itertools import chain
import json
from random import Random
from typing import Any, Final, override

from aiohttp import web
from hypothesis import Phase, given, settings, strategies as st
import orjson

from tests.simulator import faults, quotas

INTERFACES: Final = tuple(quotas.PUBLISHED)

_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=8,
)


def _nested(levels: int) -> Any:
    """Return lists and objects in each other."""
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


# In groups, since some values spoil the whole answer.
_ODD: Final[tuple[tuple[Any, ...], ...]] = (
    (None, True, False, -1, 0, 1, 2, 39, 65535),
    (2**63, 2**64, -(2**64), 10**400),
    (1e308, -1e308, 1e-320, 1e15, 1.5),
    ("\ud800", "a\x00\n", "x" * 300, "9" * 19),
    ("", " ", "N/A", "0x10", "1e999", "407"),
    ([], {}, [1], {"a": 1}, [[]], _nested(20)),
    (305, 401, 407, 20001, 20006, 20008, 20013, 20056, 20400, 20618),
    ("2026-06-21T12:00:00+23:59", "9999-12-31T23:59:59-12:00", 253402300799000),
    (float("nan"), float("inf")),
    (_nested(40), _nested(2000)),
)

VALUES: Final = st.sampled_from([*chain(*_ODD)]) | _JSON


class Hostile(faults.Fault):
    """Replaces some parts of a response, or all of it."""

    def __init__(
        self, dice: Random, values: list[Any], share: float, padding: int
    ) -> None:
        """Store the values that replace a share of the parts, and the additional size.

        A large response has another parser.
        """
        self._dice = dice
        self._values = values
        self._share = share
        self._padding = padding

    @override
    async def answer(
        self, exchange: faults.Exchange, honest: faults.Honest
    ) -> faults.Answer:
        """Return the changed response."""
        answer = await honest()
        if isinstance(answer, web.StreamResponse):
            return answer
        changed = self._changed(answer)
        if self._padding and isinstance(changed, dict):
            changed["padding"] = "x" * self._padding
        with suppress(TypeError):
            # The server adds the token to a login.
            if isinstance(changed, dict) and orjson.dumps(changed):
                return changed
        return web.Response(
            body=json.dumps(changed).encode(), content_type="application/json"
        )

    def _changed(self, value: Any) -> Any:
        if self._dice.random() < self._share:
            return self._dice.choice(self._values)
        match value:
            case dict():
                return {self._key(key): self._changed(value[key]) for key in value}
            case list():
                parts = [self._changed(part) for part in value]
                return parts + self._dice.choices(parts, k=len(parts) // 3)
        return value

    def _key(self, key: str) -> str:
        keys = [each for each in self._values if isinstance(each, str)]
        if keys and self._dice.random() < self._share / 2:
            return self._dice.choice(keys)
        return key


def _hostile(dice: st.SearchStrategy[Random]) -> st.SearchStrategy[Hostile]:
    return st.builds(
        Hostile,
        dice,
        st.lists(VALUES, min_size=2, max_size=6),
        st.sampled_from([0.01, 0.05, 0.2]),
        st.sampled_from([0, 500_000]),
    )


HOSTILE: Final = _hostile(st.randoms(use_true_random=False))


def examples(number: int) -> list[Hostile]:
    """Return a fault for each group of odd values, and a number of arbitrary ones."""
    found = [
        Hostile(Random(f"{group}"), [*group], 0.1, padding)
        for group in _ODD
        for padding in (0, 500_000)
    ]

    @settings(
        max_examples=number, derandomize=True, database=None, phases=[Phase.generate]
    )
    @given(_hostile(st.integers(0, 2**32).map(Random)))
    def collect(fault: Hostile) -> None:
        found.append(fault)

    collect()
    return found
