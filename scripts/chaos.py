"""Kill Home Assistant again and again, and check what is left.

A simulated account has the quotas of a real one, but a minute instead of five, and none
for history. Home Assistant and its recorder run in real time. It is killed during the
import of history, during passes and at any other moment, such as its start.
"""

import argparse
import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, time, timedelta
from random import Random
import re
import sys
from time import monotonic
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import aiohttp

from scripts.demo import SIMULATED_PASSWORD, SIMULATED_USERNAME, add_account
from scripts.energy import Source, Total, sources, statistic_ids, totals
from scripts.home_assistant import (
    DOMAIN,
    ROOT,
    SETTINGS,
    HomeAssistant,
    HomeAssistantError,
    free_port,
    until,
    until_stopped,
)
from tests.simulator import Home, Simulator, faults, homes

CONFIG = ROOT / ".cache" / "chaos" / "config"
LOG = ROOT / ".cache" / "chaos" / "home-assistant.log"
HISTORY_DAYS = 60

type Moment = Literal["import", "pass", "any"]
INTERFACES: dict[Moment, tuple[str, ...]] = {
    "import": ("getDevHistoryKpi", "getKpiStationHour"),
    "pass": ("getStationRealKpi", "getDevRealKpi"),
    "any": (),
}
# The import ends before the other kills.
KILLS: tuple[dict[Moment, int], ...] = ({"import": 5}, {"pass": 5, "any": 15})
# Seconds of each call, so that a pass takes some seconds.
LATENCY = 1.0
# Seconds from the start of Home Assistant to a kill at any moment, and from the first
# open call to a kill during an import or a pass.
ANY = (0.5, 30.0)
OPEN = (0.0, 3.0)
KILL_TIMEOUT = 240
# The registries are saved after ten seconds, which are not the subject.
SAVED = 15
# After a full hour, the import of energies may wait for the next one.
END_TIMEOUT = 75 * 60

LOGINS = 5
LOGIN_WINDOW = timedelta(minutes=10)
# Share and kWh by which the energy of a day may differ: counters have two decimals.
ACCURACY = 0.01
RESOLUTION = 0.05
# Age of the last reading.
AGE = timedelta(minutes=10)

# An entity ID that was already in use.
NUMBERED = re.compile(r"_\d+$")

# Start of a record in the log.
RECORD = re.compile(r"^\d{4}-\d\d-\d\d \S+ (?=[A-Z]+ )", re.MULTILINE)
# Programs of other integrations that may not be installed.
FOREIGN = re.compile("turbojpeg|ffmpeg", re.IGNORECASE)


class Registry(NamedTuple):
    """The registered devices and entities of the integration, by ID."""

    devices: dict[str, str]
    entities: dict[str, str]


class Chaos:
    """An account in a Home Assistant that is killed again and again."""

    def __init__(
        self, home_assistant: HomeAssistant, simulator: Simulator, dice: Random
    ) -> None:
        """Store the account, which is not added yet."""
        self._home_assistant = home_assistant
        self._simulator = simulator
        self._dice = dice
        self._started = monotonic()
        self._added = datetime.now(UTC)
        self._earlier_calls = 0
        self._log = ""
        self._sources: list[Source] = []
        self.problems: list[str] = []

    async def run(self) -> None:
        """Add the account, kill Home Assistant, and check everything."""
        home_assistant = self._home_assistant
        self._added = datetime.now(UTC)
        await add_account(
            home_assistant, self._simulator.url, "Chaos home", HISTORY_DAYS
        )
        await asyncio.sleep(SAVED)
        before = await self._registry()
        # Home Assistant saves its choice of sources after a minute.
        self._sources = await sources(home_assistant)
        for kills in KILLS:
            moments = self._dice.sample(
                list(kills), sum(kills.values()), counts=list(kills.values())
            )
            for moment in moments:
                await self._wait_for(moment)
                await self._kill(moment)
            await until("end of the import", self._is_complete, END_TIMEOUT)
        passes = len(self._simulator.calls_to("getStationRealKpi"))

        async def is_read() -> bool | None:
            calls = self._simulator.calls_to("getStationRealKpi")
            return len(calls) > passes + 1 or None

        await until("pass", is_read, KILL_TIMEOUT)
        await self._check_registry(before)
        await self._check_energies()
        self._check_calls()
        self._read_log()
        self._check_log()

    def _is_open(self, moment: Moment) -> bool:
        return any(
            call.status == 0 and call.interface in INTERFACES[moment]
            for call in self._simulator.calls[self._earlier_calls :]
        )

    async def _wait_for(self, moment: Moment) -> None:
        if moment == "any":
            await asyncio.sleep(self._dice.uniform(*ANY))
            return

        async def is_open() -> bool | None:
            return self._is_open(moment) or None

        while True:
            await until(f"call of the {moment}", is_open, KILL_TIMEOUT)
            await asyncio.sleep(self._dice.uniform(*OPEN))
            if self._is_open(moment):
                return

    async def _kill(self, moment: Moment) -> None:
        """Kill Home Assistant and start it again."""
        await self._home_assistant.kill()
        seconds = monotonic() - self._started
        when = "at any moment" if moment == "any" else f"during the {moment}"
        print(f"  killed {when}, {seconds:.1f} s after the start", flush=True)
        self._read_log()
        self._earlier_calls = len(self._simulator.calls)
        await self._home_assistant.start()
        self._started = monotonic()

    def _read_log(self) -> None:
        """Store the log, which the next start overwrites."""
        if self._home_assistant.log.exists():
            self._log += self._home_assistant.log.read_text(errors="replace")
            LOG.write_text(self._log)

    async def _registry(self) -> Registry:
        devices = await self._home_assistant.command("config/device_registry/list")
        entities = await self._home_assistant.command("config/entity_registry/list")
        return Registry(
            {
                device["id"]: str(device["identifiers"])
                for device in devices
                if any(domain == DOMAIN for domain, _ in device["identifiers"])
            },
            {
                entity["entity_id"]: entity["unique_id"]
                for entity in entities
                if entity["platform"] == DOMAIN
            },
        )

    async def _is_complete(self) -> bool | None:
        """Return whether all energies of the first day are imported."""
        ids = statistic_ids(self._sources)
        begin = datetime.now(UTC) - timedelta(days=HISTORY_DAYS)
        try:
            recorded = await self._home_assistant.changes(
                ids, begin, begin + timedelta(days=1)
            )
        except aiohttp.ClientError, HomeAssistantError:
            return None
        return ids == recorded.keys() or None

    async def _check_registry(self, before: Registry) -> None:
        after = await self._registry()
        for name, known, now in zip(Registry._fields, before, after, strict=True):
            print(f"  {name + ':':<22}{len(known)} before, {len(now)} after")
            self._expect_none(f"lost {name}", known.items() - now.items())
            twice = [key for key, n in Counter(now.values()).items() if n > 1]
            self._expect_none(f"doubled {name}", twice)
        new = after.entities.keys() - before.entities.keys()
        self._expect_none("numbered entities", filter(NUMBERED.search, new))
        unavailable = [
            entity_id
            for device in await self._home_assistant.devices()
            for entity_id in device.entities.values()
            if await self._home_assistant.state(entity_id) == "unavailable"
        ]
        self._expect_none("unavailable entities", unavailable)

    async def _check_energies(self) -> None:
        """Compare the energies of all imported days, and of the time since then.

        The report of the hour in which the account was added is complete later.
        """
        zone = ZoneInfo(SETTINGS["time_zone"])
        now = datetime.now(zone)
        today = datetime.combine(now, time(), tzinfo=zone)
        chosen, home = self._sources, self._simulator.home
        ids = statistic_ids(chosen)
        wrong = []
        for ago in range(1, HISTORY_DAYS):
            start, end = _day(today, ago), _day(today, ago - 1)
            recorded = await self._home_assistant.changes(ids, start, end)
            wrong += [
                f"{total.name} of {start:%d %B}: {total.recorded:.2f} of {total.true:.2f}"
                for total in totals(chosen, recorded, home, start, end)
                if abs(total.recorded - total.true) > _tolerance(total)
            ]
        print(f"  {'days compared:':<22}{HISTORY_DAYS - 1}")
        self._expect_none("wrong energies", wrong)
        begin = self._added.replace(minute=0, second=0, microsecond=0)
        recorded = await self._counted(ids, begin)
        early = totals(chosen, recorded, home, self._added, max(self._added, now - AGE))
        for total, least in zip(
            totals(chosen, recorded, home, begin, datetime.now(zone)),
            early,
            strict=True,
        ):
            print(
                f"  {total.name + ' since then:':<22}{total.recorded:.2f} of "
                f"{least.true:.2f} to {total.true:.2f} kWh"
            )
            margin = _tolerance(total)
            if not least.true - margin <= total.recorded <= total.true + margin:
                self.problems.append(f"wrong {total.name} since the account was added")

    async def _counted(self, ids: Iterable[str], start: datetime) -> dict[str, float]:
        """Return the energies from an hour until now, including what is not compiled."""
        before, end = start - timedelta(days=2), datetime.now(UTC) + timedelta(hours=1)
        hours = await self._home_assistant.statistics(ids, before, start)
        recent = await self._home_assistant.statistics(ids, start, end, "5minute")
        counted = {}
        for id_ in ids:
            first, last = hours[id_][-1], recent[id_][-1]
            state = float(await self._home_assistant.state(id_))
            counted[id_] = last["sum"] - first["sum"] + state - last["state"]
        return counted

    def _check_calls(self) -> None:
        calls = self._simulator.calls
        numbers = Counter(call.interface for call in calls)
        for interface, number in sorted(numbers.items()):
            print(f"  {interface + ':':<22}{number} calls")
        self._expect_none(
            "refused calls", [call.interface for call in self._simulator.refusals]
        )
        logins = [call.at for call in self._simulator.calls_to("login")]
        most = max(
            number - bisect_right(logins, at - LOGIN_WINDOW)
            for number, at in enumerate(logins, start=1)
        )
        print(f"  {'logins in 10 minutes:':<22}{most} at most")
        if most > LOGINS:
            self.problems.append(f"{most} logins in 10 minutes")

    def _check_log(self) -> None:
        records = RECORD.split(self._log)
        warnings = [record for record in records if record.startswith("WARNING")]
        print(f"  {'warnings:':<22}{len(warnings)}")
        self._expect_none(
            "errors in the log",
            [
                record
                for record in records
                if record.startswith(("ERROR", "CRITICAL"))
                and not FOREIGN.search(record)
            ],
        )

    def _expect_none(self, what: str, found: Iterable[Any]) -> None:
        found = [*map(str, found)]
        print(f"  {what + ':':<22}{len(found)}")
        for each in found[:10]:
            print(f"    {each}")
        if found:
            self.problems.append(f"{len(found)} {what}")


def _day(today: datetime, ago: int) -> datetime:
    day = today.date() - timedelta(days=ago)
    return datetime.combine(day, time(), tzinfo=today.tzinfo)


def _tolerance(total: Total) -> float:
    return ACCURACY * total.true + RESOLUTION


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos", allow_abbrev=False, description=__doc__
    )
    parser.add_argument("--home", choices=sorted(homes.HOMES), default="family")
    parser.add_argument("--seed", type=int, default=1, help="moments of the kills")
    return parser.parse_args()


async def _run() -> None:
    options = _arguments()
    home: Callable[[], Home] = homes.HOMES[options.home]
    simulator = Simulator(
        home(),
        user_name=SIMULATED_USERNAME,
        system_code=SIMULATED_PASSWORD,
        quotas="quick",
    )
    for interfaces in INTERFACES.values():
        for interface in interfaces:
            simulator.faults.add(faults.Latency(LATENCY), interface)
    begin = monotonic()
    async with (
        simulator.serve(),
        HomeAssistant(CONFIG, free_port(), "scripts.quick") as home_assistant,
    ):
        chaos = Chaos(home_assistant, simulator, Random(options.seed))
        await chaos.run()
    print(f"  {'minutes:':<22}{(monotonic() - begin) / 60:.1f}")
    if chaos.problems:
        raise HomeAssistantError("Wrong: " + ", ".join(chaos.problems))


async def _main() -> None:
    try:
        await until_stopped(_run())
    except asyncio.CancelledError:
        sys.exit("Stopped")
    except HomeAssistantError as err:
        sys.exit(str(err))


if __name__ == "__main__":
    asyncio.run(_main())
