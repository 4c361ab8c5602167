"""Tests of flow control against a separate implementation of the quotas."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
import time
from typing import Final, Literal

from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory
from hypothesis import given, settings, strategies as st
import pytest

from custom_components.smartpvms.northbound import (
    AccountLimited,
    ConnectionFailed,
    NorthboundError,
    RateLimited,
    ReportPeriod,
    ServerBusy,
    SessionTaken,
)
from custom_components.smartpvms.northbound.flow_control import (
    DAY,
    MARGIN,
    MAX_PASS,
    FlowControl,
)
from custom_components.smartpvms.storage import decode, encode
from tests.simulator import SetClock, homes
from tests.simulator.quotas import (
    PER_TYPE,
    PUBLISHED,
    FlowControl as ServersFlowControl,
)
from tests.storage import restored

pytestmark = pytest.mark.fast

NOON = datetime(2026, 6, 21, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def at_noon(freezer: FrozenDateTimeFactory) -> None:
    """Start every test at the same time."""
    freezer.move_to(NOON)


def call(
    flow_control: FlowControl,
    interface: str,
    type_id: int | None = None,
    error: NorthboundError | None = None,
    reserve: int = 0,
) -> None:
    """Make a call that succeeds or raises an error."""
    with flow_control.call(interface, type_id, reserve):
        if error is not None:
            raise error


def refuse(
    flow_control: FlowControl, interface: str, code: int = 407, type_id: int = 1
) -> float:
    """Make a call that is refused, and return the waiting time."""
    refusal = AccountLimited if code in (403, 429) else RateLimited
    with pytest.raises(RateLimited) as caught:
        call(flow_control, interface, type_id, refusal(60, code))
    return caught.value.retry_after


def test_published_quotas() -> None:
    """The published quotas depend on the size of the account."""
    flow_control = FlowControl()
    flow_control.set_account_size(250, {1: 120, 38: 7, 39: 100})

    def calls(interface: str, type_id: int | None = None) -> tuple[int, float]:
        quota = flow_control.quota(interface, type_id)
        assert quota is not None
        return quota.calls, quota.window

    assert calls("login") == (5, 600)
    assert calls("logout") == (5, 600)
    assert calls("stations") == (54, 86400)
    assert calls("getStationList") == (24, 86400)
    assert calls("getDevList") == (27, 86400)
    assert calls("getStationRealKpi") == (3, 300)
    assert calls("getDevRealKpi", 1) == (2, 300)
    assert calls("getDevRealKpi", 39) == (1, 300)
    assert calls("getDevHistoryKpi") == (12 + 1 + 10 + 24, 86400)
    for period in ("Hour", "Day", "Month", "Year"):
        assert calls(f"getKpiStation{period}") == (27, 86400)
    assert calls("getAlarmList") == (2 + 1 + 1, 1800)
    flow_control.set_account_size(250, {1: 7})
    assert calls("getAlarmList") == (3, 1800)
    assert flow_control.quota("unheard-of") is None


def test_interface_without_a_quota() -> None:
    """Interfaces without a documented quota are not limited."""
    flow_control = FlowControl()
    for _ in range(3):
        call(flow_control, "unheard-of")


def test_a_call_counts_from_its_answer(freezer: FrozenDateTimeFactory) -> None:
    """The server may count a call as late as its response."""
    flow_control = FlowControl()
    with flow_control.call("getStationRealKpi"):
        freezer.tick(12)
    assert flow_control.wait("getStationRealKpi") == pytest.approx(300 + MARGIN)
    with pytest.raises(RateLimited) as caught:
        call(flow_control, "getStationRealKpi")
    assert not isinstance(caught.value, AccountLimited)
    assert caught.value.retry_after == pytest.approx(300 + MARGIN)
    freezer.tick(300 + MARGIN)
    call(flow_control, "getStationRealKpi")


def test_usage(freezer: FrozenDateTimeFactory) -> None:
    """The usage has the used part of each quota, and the time of the next call."""
    flow_control = FlowControl()
    flow_control.set_account_size(1, {38: 120, 39: 1})
    call(flow_control, "login")
    call(flow_control, "getDevRealKpi", 38)
    call(flow_control, "getDevRealKpi", 39)
    call(flow_control, "unheard-of")
    freezer.tick(100)
    inverters, batteries = flow_control.usages("getDevRealKpi")
    assert (inverters.type_id, inverters.calls, inverters.quota.calls) == (38, 1, 2)
    assert inverters.wait == 0
    assert (batteries.type_id, batteries.calls, batteries.quota.calls) == (39, 1, 1)
    assert batteries.wait == pytest.approx(200 + MARGIN)
    freezer.tick(200 + MARGIN)
    assert [usage.calls for usage in flow_control.usages("getDevRealKpi")] == [0, 0]
    assert [usage.calls for usage in flow_control.usages("login")] == [1]
    assert flow_control.usages("unheard-of") == []


def test_refusals_are_kept_for_a_day(freezer: FrozenDateTimeFactory) -> None:
    """Refusals are kept for a day and through restarts; unsent calls do not count."""
    flow_control = FlowControl()
    refuse(flow_control, "getStationRealKpi")
    with pytest.raises(RateLimited):
        call(flow_control, "getStationRealKpi")
    freezer.tick(3600)
    refuse(flow_control, "getDevRealKpi", 429)
    flow_control = _restart(flow_control)

    def refused() -> list[tuple[str, int | None]]:
        return [
            (refusal.interface, refusal.code)
            for refusal in flow_control.recent_refusals
        ]

    assert refused() == [("getStationRealKpi", 407), ("getDevRealKpi", 429)]
    freezer.tick(86400 - 3600)
    assert refused() == [("getDevRealKpi", 429)]
    freezer.tick(3600)
    assert refused() == []


def test_quota_of_several_types() -> None:
    """An inverter, a battery and a meter allow three calls in five minutes."""
    flow_control = FlowControl()
    flow_control.set_account_size(1, {38: 1, 39: 1, 47: 1})
    for type_id in (38, 39, 47):
        call(flow_control, "getDevRealKpi", type_id)
    assert flow_control.wait("getDevRealKpi", 38) > 300


def test_several_calls_at_once() -> None:
    """The time of several calls is that of the last one."""
    flow_control = FlowControl()
    flow_control.set_account_size(1, {1: 250})
    call(flow_control, "getDevRealKpi", 1)
    assert flow_control.wait("getDevRealKpi", 1, reserve=1) == 0
    assert flow_control.wait("getDevRealKpi", 1, reserve=2) > 300


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (SessionTaken(), False),
        (ConnectionFailed(sent=False), False),
        (ConnectionFailed(), True),
        (ServerBusy(), True),
        (RateLimited(60, 407), True),
    ],
)
def test_counted_calls(error: NorthboundError, counted: bool) -> None:
    """A call that may have reached the server counts, unless the login was missing."""
    flow_control = FlowControl()
    with suppress(NorthboundError):
        call(flow_control, "getStationRealKpi", error=error)
    assert bool(flow_control.wait("getStationRealKpi")) is counted


def test_logins_reserved_for_the_user(freezer: FrozenDateTimeFactory) -> None:
    """Two of five logins in ten minutes are reserved for the user."""
    flow_control = FlowControl()
    for _ in range(3):
        call(flow_control, "login", reserve=2)
    with pytest.raises(AccountLimited):
        call(flow_control, "login", reserve=2)
    for _ in range(2):
        call(flow_control, "login")
    with pytest.raises(AccountLimited) as caught:
        call(flow_control, "login")
    freezer.tick(caught.value.retry_after)
    call(flow_control, "login", reserve=2)


def test_refusal_stops_one_interface(freezer: FrozenDateTimeFactory) -> None:
    """T#89: a 407 stops its interface for its window, and no other."""
    flow_control = FlowControl()
    patience = refuse(flow_control, "getDevRealKpi")
    assert 300 < patience < 330
    assert flow_control.wait("getDevRealKpi", 39) == pytest.approx(patience)
    assert flow_control.wait("getStationRealKpi") == 0
    freezer.tick(patience)
    assert flow_control.wait("getDevRealKpi", 39) == 0


def test_spacing_widens_until_a_day_without_refusals(
    freezer: FrozenDateTimeFactory,
) -> None:
    """Each refusal widens the spacing slightly, up to twice the window."""
    flow_control = FlowControl()
    patience = [0.0]
    for _ in range(30):
        patience.append(refuse(flow_control, "getDevRealKpi"))
        freezer.tick(patience[-1])
    assert patience == sorted(patience)
    assert patience[-1] == pytest.approx(600 + MARGIN)
    call(flow_control, "getDevRealKpi", 1)
    assert flow_control.wait("getDevRealKpi", 1) == pytest.approx(600 + MARGIN)
    freezer.tick(86401)
    call(flow_control, "getDevRealKpi", 1)
    assert flow_control.wait("getDevRealKpi", 1) == pytest.approx(300 + MARGIN)


@pytest.mark.parametrize("code", [403, 429])
def test_system_limit_stops_all(freezer: FrozenDateTimeFactory, code: int) -> None:
    """429 and the gateway's 403 stop all calls, and longer if repeated."""
    flow_control = FlowControl()
    patience = []
    for _ in range(6):
        patience.append(refuse(flow_control, "getStationRealKpi", code))
        assert flow_control.wait("login") == patience[-1]
        assert flow_control.wait("getDevRealKpi", 38) == patience[-1]
        freezer.tick(max(patience[-1], flow_control.wait("getStationRealKpi", 1)))
    assert patience == [60, 120, 240, 480, 900, 900]
    call(flow_control, "getStationRealKpi", 1)
    freezer.tick(301)
    assert refuse(flow_control, "getStationRealKpi", code) == 60


def test_daily_limit_stops_until_the_next_day(freezer: FrozenDateTimeFactory) -> None:
    """20618 stops the interface until tomorrow."""
    flow_control = FlowControl()
    patience = refuse(flow_control, "getDevRealKpi", 20618)
    assert timedelta(hours=14) < timedelta(seconds=patience) < timedelta(hours=14.1)
    freezer.tick(patience)
    # If the server's day differs, the next attempts are few.
    assert refuse(flow_control, "getDevRealKpi", 20618) == 6 * 3600


def test_refused_list_pauses_ever_longer(freezer: FrozenDateTimeFactory) -> None:
    """The pauses after refusals of a daily list increase."""
    flow_control = FlowControl()
    patience = []
    for _ in range(6):
        patience.append(refuse(flow_control, "getDevList"))
        freezer.tick(patience[-1])
    assert patience == [60, 240, 960, 3840, 15360, 21600]


def test_old_policy_is_recognized(freezer: FrozenDateTimeFactory) -> None:
    """Two refusals determine the policy of one call a minute."""
    flow_control = FlowControl()
    flow_control.set_account_size(1, {38: 1, 39: 1, 47: 1})
    for refused in (39, 47):
        call(flow_control, "getDevRealKpi", 38)
        freezer.tick(2)
        freezer.tick(refuse(flow_control, "getDevRealKpi", type_id=refused))
    call(flow_control, "getDevRealKpi", 39)
    assert 60 < flow_control.wait("getDevRealKpi", 1) < 70
    freezer.tick(timedelta(days=30))
    call(flow_control, "getDevRealKpi", 38)
    assert flow_control.wait("getDevRealKpi", 39) == pytest.approx(60 + MARGIN)


def test_another_client_is_not_the_old_policy(freezer: FrozenDateTimeFactory) -> None:
    """Refusals between successful calls do not change the policy."""
    flow_control = FlowControl()
    flow_control.set_account_size(1, {38: 1, 39: 1, 47: 1})
    for _ in range(3):
        call(flow_control, "getDevRealKpi", 38)
        call(flow_control, "getDevRealKpi", 39)
        freezer.tick(refuse(flow_control, "getDevRealKpi", type_id=47))
    call(flow_control, "getDevRealKpi", 38)
    assert flow_control.wait("getDevRealKpi", 39) == 0


def _restart(flow_control: FlowControl) -> FlowControl:
    flow_control = restored(flow_control)
    flow_control.set_account_size(1, {38: 1, 39: 1, 47: 1})
    return flow_control


def test_widened_window_counts_older_calls(freezer: FrozenDateTimeFactory) -> None:
    """A call outside the published window counts in a widened window."""
    flow_control = FlowControl()
    flow_control.set_account_size(150, {})
    for _ in range(20):
        freezer.tick(refuse(flow_control, "getStationRealKpi"))
    assert flow_control.interfaces["getStationRealKpi"].widening == 1.0
    freezer.tick(1000)
    call(flow_control, "getStationRealKpi")
    freezer.tick(310)
    call(flow_control, "getStationRealKpi")
    freezer.tick(10)
    assert flow_control.wait("getStationRealKpi") == pytest.approx(280 + MARGIN)


@pytest.mark.parametrize("interface", ["getDevList", "getDevHistoryKpi"])
def test_refusals_of_a_daily_interface(
    interface: str, freezer: FrozenDateTimeFactory
) -> None:
    """Each refusal in a row makes the pause four times longer, up to six hours."""
    flow_control = FlowControl()
    flow_control.set_account_size(1, {38: 1})
    pauses = []
    for _ in range(6):
        pauses.append(refuse(flow_control, interface))
        freezer.tick(flow_control.wait(interface))
    assert pauses == [60, 240, 960, 3840, 15360, 21600]
    call(flow_control, interface)
    freezer.tick(300)
    assert refuse(flow_control, interface) == 60


def test_refusals_of_alarms(freezer: FrozenDateTimeFactory) -> None:
    """The pause after refusals in a row is half the window, and then all of it."""
    flow_control = FlowControl()
    flow_control.set_account_size(1, {38: 1, 39: 1, 47: 1})
    pauses = []
    for _ in range(8):
        pauses.append(refuse(flow_control, "getAlarmList"))
        freezer.tick(flow_control.wait("getAlarmList", 1))
    assert pauses == [60, 240, 900, 900, 900, 900, 1800, 1800]


def test_restart_keeps_every_call(freezer: FrozenDateTimeFactory) -> None:
    """Calls, refusals and the policy are kept."""
    flow_control = FlowControl()
    call(flow_control, "getStationRealKpi")
    call(flow_control, "getDevRealKpi", 38)
    refuse(flow_control, "getDevRealKpi", type_id=39)
    call(flow_control, "login")
    freezer.tick(100)
    restarted = _restart(flow_control)
    for interface, type_id in (
        ("getStationRealKpi", None),
        ("getDevRealKpi", 38),
        ("getDevRealKpi", 47),
    ):
        assert restarted.wait(interface, type_id) == pytest.approx(
            flow_control.wait(interface, type_id)
        )
    assert restarted.wait("login", reserve=4) == pytest.approx(500 + MARGIN)


def test_restart_with_the_clock_set_back(freezer: FrozenDateTimeFactory) -> None:
    """A call in the future counts as made now."""
    flow_control = FlowControl()
    call(flow_control, "getStationRealKpi")
    state = encode(flow_control)
    freezer.move_to(NOON - timedelta(hours=1))
    restarted = decode(FlowControl, state)
    assert restarted.wait("getStationRealKpi") == pytest.approx(300 + MARGIN)


YEARS = 50 * 365 * 86400


@pytest.mark.parametrize("ahead", [7200, 40 * 86400, YEARS])
def test_restart_with_wrong_times(freezer: FrozenDateTimeFactory, ahead: float) -> None:
    """Stored times of the future delay no call much longer than its own window."""
    flow_control = FlowControl()
    longest = {"login": 631, "getStationRealKpi": 346, "getDevRealKpi": 346}
    for interface in (*longest, "getDevList"):
        call(flow_control, interface)
        refuse(flow_control, interface)
    refuse(flow_control, "stations", 20618)
    state = encode(flow_control)
    freezer.tick(-ahead)
    again = decode(FlowControl, state)
    for interface, wait in longest.items():
        assert again.wait(interface) <= wait, interface
    assert again.wait("getDevList") <= 6 * 3600
    assert again.wait("stations") <= 86460


def test_never_is_stored_as_nothing() -> None:
    """A stop that never was is not stored as a time."""
    flow_control = FlowControl()
    call(flow_control, "getDevList")
    assert restored(flow_control) == flow_control
    assert flow_control.interfaces["getDevList"].stopped_until is None


def test_pauses_after_thousands_of_refusals(freezer: FrozenDateTimeFactory) -> None:
    """A pause stays at its maximum, however many refusals there were."""
    flow_control = FlowControl()
    call(flow_control, "getDevList")
    flow_control.stops = flow_control.interfaces["getDevList"].refusals = 2000
    assert refuse(flow_control, "getDevList") == 6 * 3600
    freezer.tick(DAY)
    assert refuse(flow_control, "getDevList", 429) == 15 * 60


def test_more_batches_than_the_quota_has() -> None:
    """Halves of a batch can exceed the quota."""
    flow_control = FlowControl()
    flow_control.set_account_size(1, {38: 1})
    assert flow_control.wait("getDevRealKpi", 38, reserve=1) == 0
    call(flow_control, "getDevRealKpi", 47)
    assert flow_control.wait("getDevRealKpi", 38, reserve=1) == 0
    call(flow_control, "getDevRealKpi", 38)
    assert flow_control.wait("getDevRealKpi", 38, reserve=1) == pytest.approx(
        300 + MARGIN
    )


SIZES: Final = st.tuples(
    st.integers(0, 250),
    st.dictionaries(st.sampled_from([1, 38, 39]), st.integers(0, 250)),
)


@settings(derandomize=True)
@given(
    before=SIZES,
    after=SIZES,
    made=st.lists(st.sampled_from([1, 38, 39]), max_size=6),
    reserve=st.integers(0, 5),
)
def test_account_that_changes(
    before: tuple[int, dict[int, int]],
    after: tuple[int, dict[int, int]],
    made: list[int],
    reserve: int,
) -> None:
    """There is a wait for any calls, even if devices change their type or are gone."""
    flow_control = FlowControl()
    flow_control.set_account_size(*before)
    for type_id in made:
        with suppress(RateLimited):
            call(flow_control, "getDevRealKpi", type_id)
    flow_control.set_account_size(*after)
    for type_id in (1, 38, 39):
        wait = flow_control.wait("getDevRealKpi", type_id, reserve)
        assert 0 <= wait <= 300 + MARGIN


def test_killed_after_a_pass() -> None:
    """A planned pass before a kill may have been made."""
    flow_control = FlowControl()
    restored = _restart(flow_control)
    restored.assume_kill(time.monotonic() - 20)
    for interface in ("getStationRealKpi", "getDevRealKpi"):
        assert restored.wait(interface) == pytest.approx(MAX_PASS + 300 + MARGIN - 20)
    again = _restart(flow_control)
    again.assume_kill(time.monotonic() + 20)
    assert again.wait("getStationRealKpi") == 0


def test_killed_import() -> None:
    """A killed process may have made one more call of each import that has begun."""
    flow_control = FlowControl()
    call(flow_control, ReportPeriod.HOUR)
    restored = _restart(flow_control)
    restored.assume_kill(time.monotonic() + 20)
    [usage] = restored.usages(ReportPeriod.HOUR)
    assert usage.calls == 2
    assert "getDevHistoryKpi" not in restored.interfaces


def test_killed_after_a_call(freezer: FrozenDateTimeFactory) -> None:
    """A planned call before a kill may have been made, up to its timeout later."""
    flow_control = FlowControl()
    flow_control.assume_call("getAlarmList", time.monotonic() - 100)
    assert flow_control.wait("getAlarmList") == pytest.approx(
        MAX_PASS + 1800 + MARGIN - 100
    )
    flow_control = FlowControl()
    flow_control.assume_call("getAlarmList", time.monotonic() - 5)
    assert flow_control.wait("getAlarmList") == pytest.approx(1800 + MARGIN)
    flow_control = FlowControl()
    flow_control.assume_call("getAlarmList", time.monotonic() + 20)
    assert flow_control.wait("getAlarmList") == 0


@given(
    begin=st.integers(0, 86400),
    attempts=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    ("login", None),
                    ("stations", None),
                    ("getStationRealKpi", None),
                    ("getDevRealKpi", 1),
                    ("getDevRealKpi", 17),
                    ("getDevRealKpi", 41),
                    ("getAlarmList", None),
                ]
            ),
            st.floats(0, 1),
            st.floats(0, 20),
            st.floats(0, 1),
            st.booleans(),
        ),
        max_size=80,
    ),
    per_type=st.booleans(),
    windows=st.sampled_from(["fixed", "sliding"]),
)
@settings(deadline=None)
def test_no_call_is_refused(
    begin: int,
    attempts: list[tuple[tuple[str, int | None], float, float, float, bool]],
    per_type: bool,
    windows: Literal["fixed", "sliding"],
) -> None:
    """T#248: no allowed call exceeds a quota of the server.

    This applies to any times and durations of calls, to any time in between at which
    the server counts them, and through restarts.
    """
    home = homes.farm(inverters=120)
    clock = SetClock(NOON + timedelta(seconds=begin))
    server = ServersFlowControl(
        PER_TYPE if per_type else PUBLISHED, home, clock, windows, 407
    )
    sizes = {1: 120, 17: 1, 41: 1}
    flow_control = FlowControl()
    flow_control.set_account_size(1, sizes)
    with freeze_time(clock.now()) as frozen:
        for (interface, type_id), pause, latency, arrival, restarts in attempts:
            frozen.tick(pause * flow_control.wait(interface, type_id))
            if restarts:
                flow_control = _restart(flow_control)
                flow_control.set_account_size(1, sizes)
            with suppress(RateLimited), flow_control.call(interface, type_id):
                frozen.tick(latency * arrival)
                clock.set(datetime.now(UTC))
                assert server.refusal(interface, {"devTypeId": type_id}) is None
                frozen.tick(latency * (1 - arrival))
