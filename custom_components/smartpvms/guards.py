"""The guards of an account's counters, and what they are fed with."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, tzinfo
from typing import Any, Final

from .counter_filter import CounterFilter, Period
from .descriptions import ItemSensorDescription
from .northbound import DataItems, Plant, number
from .snapshot import Reading, SourceId, zone_of

# Number of the last decisions on a counter that are kept.
REMEMBERED: Final = 5


@dataclass(slots=True)
class Decision:
    """The same decision on one or more readings in a row; times are epoch seconds."""

    verdict: str
    raw: float
    """The last of the readings."""
    first: float
    last: float
    readings: int = 1


@dataclass(slots=True)
class _Counters:
    """The counters of a plant or device that somebody wants to know."""

    guards: dict[str, CounterFilter] = field(default_factory=dict)
    """By data item."""
    expected: set[str] = field(default_factory=set)
    """The data items that get a guard once they are a number."""
    decisions: dict[str, list[Decision]] = field(default_factory=dict)
    """The last decisions on readings that are not published as they are."""

    def decide(self, key: str, raw: float, last: datetime | None) -> None:
        """Keep the decision on a reading; the same as on the `last` is one with it."""
        guard = self.guards[key]
        if guard.verdict is None or guard.read is None or guard.read == last:
            return
        at = guard.read.timestamp()
        decisions = self.decisions.setdefault(key, [])
        before = decisions[-1] if decisions else None
        if (
            before
            and last
            and before.verdict == guard.verdict
            and before.last == last.timestamp()
        ):
            before.raw, before.last = raw, at
            before.readings += 1
        else:
            decisions.append(Decision(guard.verdict.value, raw, at, at))
            del decisions[:-REMEMBERED]


class Guards:
    """The guards of all counters that are shown, or that something is made of."""

    def __init__(self, stored: dict[str, Any]) -> None:
        """Go on from what was stored, by unique id."""
        self._stored = stored
        self._counters: dict[SourceId, _Counters] = {}

    def of(self, source_id: SourceId) -> Mapping[str, CounterFilter]:
        """Return the guards of a plant or device, by data item."""
        counters = self._counters.get(source_id)
        return counters.guards if counters else {}

    def expect(self, source_id: SourceId, keys: Collection[str]) -> None:
        """Guard counters of a plant or device from their first number on."""
        counters = self._counters.setdefault(source_id, _Counters())
        counters.expected = {*keys} - counters.guards.keys()

    def guard(
        self,
        source_id: SourceId,
        description: ItemSensorDescription,
        reading: Reading | None,
        plant: Plant,
        powers: DataItems,
    ) -> CounterFilter:
        """Return the filter of a counter, which has the last reading."""
        guard = self._begin(source_id, description)
        if reading and (guard.read is None or guard.read < reading.server_time):
            _feed(guard, reading, powers, plant, zone_of(plant), description)
        return guard

    def _begin(
        self, source_id: SourceId, description: ItemSensorDescription
    ) -> CounterFilter:
        """Let a guard go on from where it was."""
        counters = self._counters.setdefault(source_id, _Counters())
        key, period = description.key, description.period or Period.LIFETIME
        counters.expected.discard(key)
        if key not in counters.guards:
            try:
                state = {**self._stored.pop(f"{source_id}_{key}")}
                decisions = [Decision(**each) for each in state.pop("decisions")]
                guard = CounterFilter.from_dict(period, state)
                counters.decisions[key] = decisions
            except KeyError, TypeError, ValueError:
                guard = CounterFilter(period)
            counters.guards[key] = guard
        return counters.guards[key]

    def take(
        self,
        source_id: SourceId,
        reading: Reading,
        plant: Plant,
        descriptions: Mapping[str, ItemSensorDescription],
        powers: DataItems,
    ) -> set[str]:
        """Take a new reading, and return the keys of the counters that changed.

        `powers` are the items that hold the powers behind the counters.
        """
        counters = self._counters.get(source_id)
        if counters is None:
            return set()
        for key in counters.expected & descriptions.keys():
            if number(reading.items.get(key)) is not None:
                self._begin(source_id, descriptions[key])
        zone = zone_of(plant)
        changed = set()
        for key, guard in counters.guards.items():
            description, last = descriptions.get(key), guard.read
            # The server may come to know a device as another type.
            if description is None:
                continue
            if _feed(guard, reading, powers, plant, zone, description):
                changed.add(key)
            if (raw := number(reading.items.get(key))) is not None:
                counters.decide(key, raw, last)
        return changed

    def decisions(self, source_id: SourceId) -> Mapping[str, Sequence[Decision]]:
        """Return the last decisions on a plant's or device's counters."""
        counters = self._counters.get(source_id)
        return counters.decisions if counters else {}

    def as_dict(self) -> dict[str, Any]:
        """Return the states as what JSON can hold.

        The state of a guard is kept although nobody may want it now.
        """
        # Taken first, since what is stored becomes a guard meanwhile.
        stored = {**self._stored}
        for source_id, counters in [*self._counters.items()]:
            for key, guard in [*counters.guards.items()]:
                decisions = map(asdict, counters.decisions.get(key, ()))
                stored[f"{source_id}_{key}"] = guard.as_dict() | {
                    "decisions": [*decisions]
                }
        return stored

    def rename(self, old: str, new: str) -> None:
        """Let a plant go on under another code."""
        self._stored = {
            new + name.removeprefix(old) if name.startswith(f"{old}_") else name: state
            for name, state in self.as_dict().items()
        }
        self._counters = {}


def _feed(
    guard: CounterFilter,
    reading: Reading,
    powers: DataItems,
    plant: Plant,
    zone: tzinfo,
    description: ItemSensorDescription,
) -> bool:
    """Let a guard see a reading, and return whether something else is shown now."""
    shown, start = guard.value, guard.start
    at, items = reading.server_time, reading.items
    raw = None if reading.disconnected else number(items.get(description.key))
    if raw is None:
        guard.pass_time(at, zone)
    else:
        guard.update(raw, at, description.place(plant, zone, powers), live=reading.live)
    return guard.value != shown or guard.start is not start
