"""Counter filters of all plants and devices of an account."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import ClassVar, Final

from .counter_filter import CounterFilter, Period, Verdict
from .descriptions import ItemSensorDescription
from .models import Reading, SourceId, zone_of
from .northbound import DataItems, EpochTime, Plant, number
from .problems import Isolation

# Number of the last decisions on a counter that are kept.
KEPT_DECISIONS: Final = 5

_ACCEPTED: Final = (Verdict.COUNTED, Verdict.REPLACED)


@dataclass(slots=True)
class Decision:
    """The same decision on one or more readings in a row."""

    is_record: ClassVar = True

    verdict: str
    raw: float
    """The last of the readings."""
    first: EpochTime
    last: EpochTime
    readings: int = 1


@dataclass(slots=True)
class StoredCounter:
    """A counter filter and its last decisions."""

    is_record: ClassVar = True

    counter: CounterFilter
    decisions: list[Decision] = field(default_factory=list)


@dataclass(slots=True)
class StoredCounters:
    """Counter filters of a plant or device, by data item."""

    is_record: ClassVar = True

    counters: dict[str, StoredCounter]


@dataclass(slots=True)
class _Source:
    """Counter filters of a plant or device."""

    counters: dict[str, CounterFilter] = field(default_factory=dict)
    """By data item."""
    expected: set[str] = field(default_factory=set)
    """Data items that get a filter with their first number."""
    decisions: dict[str, list[Decision]] = field(default_factory=dict)
    """The last decisions on readings that are not published as they are."""

    def add_decision(self, key: str, raw: float, last: datetime | None) -> None:
        """Add the decision on a reading; the same as on the `last` is one with it."""
        counter = self.counters[key]
        if counter.verdict is None or counter.read is None or counter.read == last:
            return
        at = counter.read.timestamp()
        decisions = self.decisions.setdefault(key, [])
        before = decisions[-1] if decisions else None
        if (
            before
            and last
            and before.verdict == counter.verdict
            and before.last == last.timestamp()
        ):
            before.raw, before.last = raw, at
            before.readings += 1
        else:
            decisions.append(Decision(counter.verdict.value, raw, at, at))
            del decisions[:-KEPT_DECISIONS]


class CounterFilters:
    """Counter filters that an entity or an energy of a plant uses."""

    def __init__(
        self, stored: Mapping[SourceId, StoredCounters], isolation: Isolation
    ) -> None:
        """Set the stored filters."""
        self._isolation = isolation
        self._stored = {
            source_id: {**each.counters} for source_id, each in stored.items()
        }
        """Filters that are not in use yet."""
        self._sources: dict[SourceId, _Source] = {}

    def of(self, source_id: SourceId) -> Mapping[str, CounterFilter]:
        """Return the filters of a plant or device, by data item."""
        source = self._sources.get(source_id)
        return source.counters if source else {}

    def expect(self, source_id: SourceId, keys: Collection[str]) -> None:
        """Create filters for these keys when they first report a number."""
        source = self._sources.setdefault(source_id, _Source())
        source.expected = {*keys} - source.counters.keys()

    def get(
        self,
        source_id: SourceId,
        description: ItemSensorDescription,
        reading: Reading | None,
        plant: Plant,
        powers: DataItems,
    ) -> CounterFilter:
        """Return the filter of a counter after the last reading."""
        counter = self._add(source_id, description)
        if reading and (counter.read is None or counter.read < reading.server_time):
            zone = zone_of(plant)
            self._update(counter, reading, powers, plant, zone, description)
        return counter

    def _add(
        self, source_id: SourceId, description: ItemSensorDescription
    ) -> CounterFilter:
        """Return the filter of a counter, restored or new."""
        source = self._sources.setdefault(source_id, _Source())
        key, period = description.key, description.period or Period.LIFETIME
        source.expected.discard(key)
        if key not in source.counters:
            counter = CounterFilter(period)
            stored = self._stored.get(source_id, {}).pop(key, None)
            if stored is not None and stored.counter.period is period:
                counter = stored.counter
                source.decisions[key] = stored.decisions
            source.counters[key] = counter
        return source.counters[key]

    def update(
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
        source = self._sources.get(source_id)
        if source is None:
            return set()
        for key in source.expected & descriptions.keys():
            if number(reading.items.get(key)) is not None:
                self._add(source_id, descriptions[key])
        zone = zone_of(plant)
        changed = set()
        for key, counter in source.counters.items():
            description, last = descriptions.get(key), counter.read
            # The device may have another type now.
            if description is None:
                continue
            if self._update(counter, reading, powers, plant, zone, description):
                changed.add(key)
            if (raw := number(reading.items.get(key))) is not None:
                source.add_decision(key, raw, last)
        return changed

    def _update(
        self,
        counter: CounterFilter,
        reading: Reading,
        powers: DataItems,
        plant: Plant,
        zone: tzinfo,
        description: ItemSensorDescription,
    ) -> bool:
        """Update a filter with a reading, and return whether its value changed.

        A filter that fails unexpectedly does not affect the others.
        """
        shown, start = counter.value, counter.start
        at, items = reading.server_time, reading.items
        raw = None if reading.disconnected else number(items.get(description.key))
        with self._isolation:
            if raw is None:
                counter.pass_time(at, zone)
            else:
                context = description.context(plant, zone, powers)
                counter.update(raw, at, context, live=reading.live)
        return counter.value != shown or counter.start is not start

    def decisions(self, source_id: SourceId) -> Mapping[str, Sequence[Decision]]:
        """Return the last decisions on a plant's or device's counters."""
        source = self._sources.get(source_id)
        return source.decisions if source else {}

    def pending_since(
        self, source_id: SourceId, at: datetime, keys: Collection[str]
    ) -> datetime | None:
        """Return since when a level was pending that the reading of a time accepted.

        The energy of the meantime can be in a wrong hour, or missing.
        """
        times = []
        for key, decisions in self.decisions(source_id).items():
            last = decisions[-1] if decisions else None
            if (
                last
                and key in keys
                and last.verdict in _ACCEPTED
                and last.last == at.timestamp()
            ):
                held_back = [
                    each
                    for each in decisions[-2:-1]
                    if each.verdict == Verdict.HELD_BACK
                ]
                times += [each.first for each in (*held_back, last)]
        return datetime.fromtimestamp(min(times), UTC) if times else None

    def stored(self) -> dict[SourceId, StoredCounters]:
        """Return the filters that were read."""
        stored = {source_id: {**each} for source_id, each in self._stored.items()}
        for source_id, source in self._sources.items():
            stored.setdefault(source_id, {}).update(
                (key, StoredCounter(counter, source.decisions.get(key, [])))
                for key, counter in source.counters.items()
                if counter.read is not None
            )
        return {
            source_id: StoredCounters(counters)
            for source_id, counters in stored.items()
            if counters
        }
