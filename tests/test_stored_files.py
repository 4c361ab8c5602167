"""Tests of stored files that are damaged, of another version or of another shape."""

from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
import random
from typing import Any

from freezegun.api import FrozenDateTimeFactory
from hypothesis import HealthCheck, given, settings, strategies as st
import orjson
import pytest

from custom_components.smartpvms.account import ACCOUNTS
from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.runtime import restored
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant

from .conftest import Account

INVERTER = 1000000035436842

type Place = tuple[str | int, ...]

JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    10**18,
    1e308,
    "",
    "x",
    "9999-12-31T23:59:59+00:00",
    "2026-06-21T12:00:00",
    [],
    [[]],
    {},
    {"x": None},
]


class TestFiles:
    """Real files of Home Assistant."""

    @pytest.fixture
    def hass_config_dir(self, hass_tmp_config_dir: str) -> str:
        """Use a separate folder."""
        return hass_tmp_config_dir

    @pytest.fixture
    def hass_storage(self) -> dict[str, Any]:
        """Use the real storage."""
        return {}

    @pytest.fixture
    async def folder(self, hass: HomeAssistant, added: Account) -> Path:
        """Return the folder of the files of an account that was unloaded."""
        await added.pass_time(timedelta(minutes=6))
        await hass.config_entries.async_unload(added.entry.entry_id)
        return Path(hass.config.config_dir) / ".storage"

    async def test_files_are_private(self, folder: Path) -> None:
        """Only Home Assistant can read the files, since one holds the token."""
        paths = _files(folder, DOMAIN)
        assert len(paths) == 2
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}

    @pytest.mark.parametrize("suffix", ["", ".history"])
    @pytest.mark.parametrize(
        "change",
        [
            {"version": 2},
            {"version": 0},
            {"version": "hidden"},
            {"version": None},
            {"data": ["hidden"]},
            {"data": "hidden"},
            {"data": 5},
            ["hidden"],
            "hidden",
            5,
            None,
            {"hidden": 1},
        ],
        ids=range(12),
    )
    async def test_other_file(
        self,
        hass: HomeAssistant,
        added: Account,
        folder: Path,
        suffix: str,
        change: Any,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A file of another version or shape is set aside, and the set-up goes on."""
        entry = added.entry
        path = folder / f"{DOMAIN}.{entry.entry_id}{suffix}"
        whole = orjson.loads(path.read_bytes())
        is_file = isinstance(change, dict) and "hidden" not in change
        content = orjson.dumps({**whole, **change} if is_file else change)
        path.write_bytes(content)
        hass.data.pop(ACCOUNTS)
        caplog.clear()
        await hass.config_entries.async_setup(entry.entry_id)
        assert entry.state is ConfigEntryState.LOADED
        [aside] = _files(folder, f"{path.name}.corrupt")
        assert aside.read_bytes() == content
        assert aside.stat().st_mode & 0o777 == 0o600
        assert len([each for each in caplog.records if each.levelname == "ERROR"]) == 1
        assert "hidden" not in caplog.text
        await added.pass_time(timedelta(minutes=6))
        assert added.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)


def _files(folder: Path, name: str) -> list[Path]:
    return [*folder.glob(f"{name}.*")]


def _places(node: Any, place: Place = ()) -> Iterator[Place]:
    """Return the places of all values, also within the lines of records."""
    if isinstance(node, str) and node.startswith("["):
        node = orjson.loads(node)
    if not isinstance(node, dict | list):
        return
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*place, key)
        yield from _places(value, (*place, key))


def _damaged(node: Any, place: Place, junk: Any) -> Any:
    """Return a state whose value at a place is replaced, or deleted if `...`."""
    if isinstance(node, str):
        return orjson.dumps(_damaged(orjson.loads(node), place, junk)).decode()
    node = deepcopy(node)
    key, *rest = place
    if rest:
        node[key] = _damaged(node[key], tuple(rest), junk)
    elif junk is ...:
        del node[key]
    else:
        node[key] = junk
    return node


async def _stored(added: Account, hass_storage: dict[str, Any]) -> dict[str, Any]:
    """Return the stored state of an account after some readings."""
    for _ in range(4):
        await added.poll()
    await added.restart()
    state = hass_storage[f"{DOMAIN}.{added.entry.entry_id}"]["data"]
    stored: dict[str, Any] = orjson.loads(orjson.dumps(state))
    return stored


async def test_any_damage(
    added: Account, hass_storage: dict[str, Any], freezer: FrozenDateTimeFactory
) -> None:
    """One damaged value costs no more than its part; the rest is stored again."""
    state = await _stored(added, hass_storage)
    places = [*_places(state)]
    whole = restored(state).encoded()
    assert whole == state
    numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(
        allow_nan=False, allow_infinity=False
    )
    values = st.none() | st.booleans() | numbers | st.text() | st.sampled_from(JUNK)

    @settings(
        max_examples=1000,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        st.sampled_from(places),
        st.just(...) | values | st.lists(values) | st.dictionaries(st.text(), values),
    )
    def check(place: Place, junk: Any) -> None:
        again = restored(_damaged(state, place, junk)).encoded()
        assert restored(orjson.loads(orjson.dumps(again))).encoded() == again
        # All times are relative to that of the state.
        for part in whole.keys() - {place[0]} if place != ("saved",) else ():
            assert again[part] == whole[part]

    check()


async def test_size(added: Account, hass_storage: dict[str, Any]) -> None:
    """The file of a home stays small, although it is written after each pass."""
    for _ in range(30):
        await added.poll()
    await added.restart()
    file = hass_storage[f"{DOMAIN}.{added.entry.entry_id}"]
    assert len(orjson.dumps(file, option=orjson.OPT_INDENT_2)) < 9_500


@pytest.mark.parametrize("seed", range(4))
async def test_set_up_after_any_damage(
    hass: HomeAssistant, added: Account, hass_storage: dict[str, Any], seed: int
) -> None:
    """An account is set up, and shows values, whichever stored value is damaged."""
    state = await _stored(added, hass_storage)
    chosen = random.Random(seed)
    places = [*_places(state)]
    for _ in range(12):
        await hass.config_entries.async_unload(added.entry.entry_id)
        hass.data.pop(ACCOUNTS)
        damaged = _damaged(state, chosen.choice(places), chosen.choice([..., *JUNK]))
        hass_storage[f"{DOMAIN}.{added.entry.entry_id}"]["data"] = damaged
        await hass.config_entries.async_setup(added.entry.entry_id)
        assert added.entry.state is ConfigEntryState.LOADED
        await added.poll()
        await added.poll()
        assert added.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)
