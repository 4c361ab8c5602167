"""Config flow: accounts, their plants and their options."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, override

import voluptuous as vol

from homeassistant.components.energy.const import DOMAIN as ENERGY_DOMAIN
from homeassistant.config_entries import (
    SOURCE_REAUTH,
    SOURCE_RECONFIGURE,
    SOURCE_USER,
    ConfigEntry,
    ConfigEntryState,
    ConfigFlow,
    ConfigFlowResult,
    OptionsFlow,
    OptionsFlowWithReload,
)
from homeassistant.const import CONF_CURRENCY, CONF_HOST, CONF_PASSWORD, CONF_USERNAME
from homeassistant.core import callback
from homeassistant.generated.currencies import ACTIVE_CURRENCIES
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)
from homeassistant.util import dt as dt_util

from .account import HOST_SELECTOR, account_id, async_get_account, temporary_client
from .const import (
    CONF_GRID_METERS,
    CONF_HISTORY,
    CONF_PLANT,
    CONF_PLANTS,
    CONF_TIME_ZONES,
    DOMAIN,
    LOGGER,
)
from .device_registry import async_owners, source_name
from .energy_dashboard import Source, async_apply, async_entity_names, async_missing
from .errors import explain
from .markdown import escape
from .models import Inventory, new_codes
from .northbound import (
    HOSTS,
    MalformedResponse,
    NorthboundError,
    Plant,
    ServerMoved,
    as_host,
    base_url,
    northbound_host,
)
from .options import options_of
from .plant import GRID_POINTS
from .repairs import async_ask_for_password
from .runtime import SmartPvmsConfigEntry, account_store, async_load
from .time_zones import doubtful

_PASSWORD: Final = TextSelector(
    TextSelectorConfig(type=TextSelectorType.PASSWORD, autocomplete="current-password")
)

# The server stores a plant's energies since its first day: 10000 days are 27 years.
_HISTORY: Final = NumberSelector(
    NumberSelectorConfig(
        min=0, max=10000, mode=NumberSelectorMode.BOX, unit_of_measurement="d"
    )
)
_HISTORY_DEFAULT: Final = 7

_ACCOUNT_SCHEMA: Final = vol.Schema(
    {
        # The closed field shows the value without its translation.
        vol.Required(CONF_HOST, default=HOSTS["eu5"].name): HOST_SELECTOR,
        vol.Required(CONF_USERNAME): TextSelector(
            TextSelectorConfig(autocomplete="username")
        ),
        vol.Required(CONF_PASSWORD): _PASSWORD,
    }
)

_CURRENCY: Final = SelectSelector(
    SelectSelectorConfig(
        options=sorted(ACTIVE_CURRENCIES), mode=SelectSelectorMode.DROPDOWN
    )
)

# Home Assistant 2026.11 uses its own texts by default, and may show only their keys.
_RECONFIGURED: Final = "reconfigure_successful"
_REAUTHENTICATED: Final = "reauth_successful"

_REAUTH_SCHEMA: Final = vol.Schema({vol.Required(CONF_PASSWORD): _PASSWORD})


class SmartPvmsConfigFlow(ConfigFlow, domain=DOMAIN):
    """Adds an account, and updates its host and credentials."""

    _account: dict[str, Any]
    _history: int
    _plants: list[Plant]
    _left_out: list[Plant]
    """Plants that other accounts have."""

    @staticmethod
    @callback
    @override
    def async_get_options_flow(config_entry: ConfigEntry) -> OptionsFlow:
        """Return the options flow of the account."""
        return SmartPvmsOptionsFlow()

    @override
    async def async_step_user(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the form of the account, log in and list its plants."""
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            self._history = int(user_input[CONF_HISTORY])
            errors, placeholders = await self._validate(user_input)
            if not errors:
                others = self._leave_out_others(None)
                if not self._plants:
                    return self.async_abort(
                        reason="plants_of_others", description_placeholders=others
                    )
                if self._left_out or len(self._plants) > 1:
                    return await self.async_step_plants()
                return self._create_entry([self._plants[0].name])
        schema = _ACCOUNT_SCHEMA.extend(
            {vol.Required(CONF_HISTORY, default=_HISTORY_DEFAULT): _HISTORY}
        )
        return self.async_show_form(
            step_id="user",
            data_schema=self.add_suggested_values_to_schema(schema, user_input),
            errors=errors,
            description_placeholders=placeholders,
        )

    async def async_step_reconfigure(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the form for another host or login to the same plants."""
        entry = self._get_reconfigure_entry()
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            errors, placeholders = await self._validate(user_input)
            if not errors:
                return self.async_update_reload_and_abort(
                    entry,
                    unique_id=account_id(self._account),
                    data=self._account,
                    reason=_RECONFIGURED,
                )
        present = {key: entry.data[key] for key in (CONF_HOST, CONF_USERNAME)}
        return self.async_show_form(
            step_id="reconfigure",
            data_schema=self.add_suggested_values_to_schema(
                _ACCOUNT_SCHEMA, user_input or present
            ),
            errors=errors,
            description_placeholders=placeholders,
        )

    @callback
    @override
    def async_remove(self) -> None:
        """Ask for a password that was refused while the reconfiguration was open."""
        entry = self.hass.config_entries.async_get_entry(
            self.context.get("entry_id", "")
        )
        if self.source == SOURCE_RECONFIGURE and entry is not None:
            async_ask_for_password(self.hass, entry)

    async def async_step_reauth(
        self, entry_data: Mapping[str, Any]
    ) -> ConfigFlowResult:
        """Start the reauthentication of an account that the server refuses."""
        return await self.async_step_reauth_confirm()

    async def async_step_reauth_confirm(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the form for the account's new password."""
        entry = self._get_reauth_entry()
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            errors, placeholders = await self._validate({**entry.data, **user_input})
            if not errors:
                return self.async_update_reload_and_abort(
                    entry, data_updates=user_input, reason=_REAUTHENTICATED
                )
        return self.async_show_form(
            step_id="reauth_confirm",
            data_schema=_REAUTH_SCHEMA,
            errors=errors,
            description_placeholders={
                **placeholders,
                "username": escape(entry.data[CONF_USERNAME]),
            },
        )

    async def _validate(
        self, user_input: Mapping[str, Any]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Log in and list the plants; return the errors and their placeholders."""
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        host = user_input[CONF_HOST]
        try:
            url = base_url(HOSTS[host].name if host in HOSTS else host)
        except ValueError:
            errors[CONF_HOST] = "invalid_host"
            return errors, placeholders
        self._account = {
            CONF_HOST: as_host(url),
            CONF_USERNAME: user_input[CONF_USERNAME],
            CONF_PASSWORD: user_input[CONF_PASSWORD],
        }
        is_other = await self._is_other_account()
        try:
            await self._log_in()
        except (MalformedResponse, ServerMoved) as err:
            key, placeholders = explain(err)
            if better := northbound_host(url.host or ""):
                key, placeholders = "portal_host", {"host": better}
            elif isinstance(err, ServerMoved) and err.host is not None:
                key, placeholders = "server_moved", {"host": escape(err.host)}
            # The form for the new password has no host.
            errors["base" if self.source == SOURCE_REAUTH else CONF_HOST] = key
        except NorthboundError as err:
            errors["base"], placeholders = explain(err)
        except Exception:
            LOGGER.exception("Unexpected error while logging in")
            errors["base"] = "unknown"
        else:
            if not self._plants:
                errors["base"] = "no_plants"
            elif self.source == SOURCE_RECONFIGURE:
                entry = self._get_reconfigure_entry()
                others = self._leave_out_others(entry)
                if not self._plants:
                    errors["base"] = "plants_of_others"
                    placeholders = others
                elif is_other and not await self._has_plants_of(entry):
                    errors["base"] = "wrong_account"
        return errors, placeholders

    async def _is_other_account(self) -> bool:
        """Return whether the account differs from the one that is reconfigured.

        Aborts if another entry has the account, since the login would end its session.
        """
        if self.source == SOURCE_REAUTH:
            return False
        # The account may have been tried in another dialog.
        await self.async_set_unique_id(
            account_id(self._account), raise_on_progress=self.source == SOURCE_USER
        )
        is_other = (
            self.source == SOURCE_RECONFIGURE
            and self.unique_id != self._get_reconfigure_entry().unique_id
        )
        if self.source == SOURCE_USER or is_other:
            self._abort_if_unique_id_configured()
        return is_other

    async def _log_in(self) -> None:
        account = async_get_account(self.hass, self._account)
        with temporary_client(self.hass, self._account, account) as client:
            await client.log_in()
            self._plants = account.plants = await client.plants()

    def _leave_out_others(self, entry: ConfigEntry | None) -> dict[str, str]:
        """Leave out the plants of other accounts, and return these as placeholders."""
        owners = async_owners(self.hass, entry)
        listed = self._plants
        self._plants = [plant for plant in listed if plant.code not in owners]
        self._left_out = [plant for plant in listed if plant.code in owners]
        accounts = dict.fromkeys(owners[plant.code] for plant in self._left_out)
        return {"accounts": escape(", ".join(accounts))}

    async def _has_plants_of(self, entry: SmartPvmsConfigEntry) -> bool:
        """Return whether the account has a plant of the entry, if the entry has any.

        Its code may be another one on another server.
        """
        devices = dr.async_entries_for_config_entry(
            dr.async_get(self.hass), entry.entry_id
        )
        listed = {(DOMAIN, plant.code) for plant in self._plants}
        if not devices or any(
            not listed.isdisjoint(device.identifiers) for device in devices
        ):
            return True
        if entry.state is ConfigEntryState.LOADED:
            known: Inventory | None = entry.runtime_data.inventory.data
        else:
            stored = await async_load(account_store(self.hass, entry))
            known = stored.inventory
        return known is not None and bool(new_codes(known, self._plants))

    async def async_step_plants(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the form for the plants to include."""
        errors: dict[str, str] = {}
        offered = {plant.code: plant.name for plant in self._plants}
        if user_input is not None:
            names = [offered[code] for code in user_input[CONF_PLANTS]]
            if len(names) == len(offered):
                return self._create_entry(names)
            if names:
                return self._create_entry(names, user_input)
            errors[CONF_PLANTS] = "no_plants_chosen"
        schema = vol.Schema(
            {
                vol.Required(CONF_PLANTS, default=[*offered]): _select(
                    offered, multiple=True
                )
            }
        )
        if self._left_out:
            left_out = ", ".join(plant.name for plant in self._left_out)
            return self.async_show_form(
                step_id="free_plants",
                data_schema=schema,
                errors=errors,
                description_placeholders={"plants": escape(left_out)},
            )
        return self.async_show_form(step_id="plants", data_schema=schema, errors=errors)

    async_step_free_plants = async_step_plants

    def _create_entry(
        self, plants: list[str], options: Mapping[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Create the entry, with the names of its plants as title."""
        first, *others = plants
        return self.async_create_entry(
            title=f"{first} + {len(others)}" if others else first,
            data=self._account,
            options={CONF_HISTORY: self._history, **(options or {})},
        )


class SmartPvmsOptionsFlow(OptionsFlowWithReload):
    """Changes one option of an account; the reload makes no API calls."""

    _inventory: Inventory
    _zones: dict[str, str]
    """Labels of the possible time zones of plants, by value."""
    _missing: dict[str, list[Source]]
    """Sources that the Energy dashboard does not have, by plant code."""
    _plant: Plant
    """The plant to add to the Energy dashboard."""

    async def async_step_init(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the menu of the options that offer a choice."""
        entry: SmartPvmsConfigEntry = self.config_entry
        if entry.state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="not_loaded")
        listed = entry.runtime_data.inventory.data
        # Another account may have a plant since the last list.
        others = async_owners(self.hass, entry)
        offered = {
            code: name for code, name in listed.offered.items() if code not in others
        }
        self._inventory = replace(listed, offered=offered)
        self._zones = await self._possible_zones()
        self._missing = await self._missing_sources()
        chosen, _ = self._chosen_plants()
        is_shown = {
            CONF_PLANTS: len(offered) > 1 or offered.keys() != set(chosen),
            CONF_GRID_METERS: bool(self._grid_points()),
            CONF_HISTORY: True,
            CONF_CURRENCY: True,
            CONF_TIME_ZONES: bool(self._zones),
            "energy_plant": bool(self._missing),
        }
        return self.async_show_menu(
            step_id="init", menu_options=[step for step in is_shown if is_shown[step]]
        )

    async def async_step_plants(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the form for the plants to include."""
        errors: dict[str, str] = {}
        offered = self._inventory.offered
        chosen, withdrawn = self._chosen_plants()
        if user_input is not None:
            if picked := user_input[CONF_PLANTS]:
                # Without a choice, plants that are added later are included.
                is_all = len(picked) == len(offered)
                return self._save(
                    CONF_PLANTS, None if is_all else [*picked, *withdrawn]
                )
            errors[CONF_PLANTS] = "no_plants_chosen"
        schema = vol.Schema(
            {vol.Required(CONF_PLANTS, default=chosen): _select(offered, multiple=True)}
        )
        return self.async_show_form(
            step_id="plants",
            data_schema=self.add_suggested_values_to_schema(schema, user_input),
            errors=errors,
        )

    async def async_step_grid_meters(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the form for the meters at the grid."""
        if user_input is not None:
            return self._save(CONF_GRID_METERS, user_input[CONF_GRID_METERS])
        meters = self._grid_points()
        present = options_of(self.config_entry).grid_meters
        known = [meter for meter in present if meter in meters]
        schema = vol.Schema(
            {
                vol.Optional(CONF_GRID_METERS, default=known): _select(
                    meters, multiple=True
                )
            }
        )
        return self.async_show_form(
            step_id="grid_meters",
            data_schema=schema,
            description_placeholders={"meters": self._recognized(meters)},
        )

    async def async_step_history(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the form for the days of history."""
        if user_input is not None:
            return self._save(CONF_HISTORY, int(user_input[CONF_HISTORY]))
        days = self.config_entry.options.get(CONF_HISTORY, _HISTORY_DEFAULT)
        schema = vol.Schema({vol.Required(CONF_HISTORY, default=days): _HISTORY})
        return self.async_show_form(step_id="history", data_schema=schema)

    async def async_step_currency(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the form for the currency of the revenues."""
        if user_input is not None:
            return self._save(CONF_CURRENCY, user_input[CONF_CURRENCY])
        present = options_of(self.config_entry).currency
        currency = present or self.hass.config.currency
        schema = vol.Schema({vol.Required(CONF_CURRENCY, default=currency): _CURRENCY})
        return self.async_show_form(step_id="currency", data_schema=schema)

    async def async_step_time_zones(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the form for time zones that are in doubt."""
        errors: dict[str, str] = {}
        present = {
            _zone_value(*each): each
            for each in options_of(self.config_entry).time_zones.items()
        }
        if user_input is not None:
            pairs = [_split_zone_value(each) for each in user_input[CONF_TIME_ZONES]]
            picked = dict(pairs)
            if len(pairs) == len(picked):
                # Zones that the form does not offer now stay chosen.
                hidden = (
                    pair for value, pair in present.items() if value not in self._zones
                )
                return self._save(CONF_TIME_ZONES, {**dict(hidden), **picked})
            errors[CONF_TIME_ZONES] = "several_time_zones"
        known = [value for value in present if value in self._zones]
        schema = vol.Schema(
            {
                vol.Optional(CONF_TIME_ZONES, default=known): _select(
                    self._zones, multiple=True
                )
            }
        )
        return self.async_show_form(
            step_id="time_zones",
            data_schema=self.add_suggested_values_to_schema(schema, user_input),
            errors=errors,
        )

    async def async_step_energy_plant(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the form for one of several plants."""
        if user_input is None and len(self._missing) > 1:
            plants = {code: self._inventory.plants[code].name for code in self._missing}
            schema = vol.Schema({vol.Required(CONF_PLANT): _select(plants)})
            return self.async_show_form(
                step_id="energy_plant", data_schema=schema, last_step=False
            )
        code = user_input[CONF_PLANT] if user_input else next(iter(self._missing))
        self._plant = self._inventory.plants[code]
        return await self.async_step_energy_dashboard()

    async def async_step_energy_dashboard(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Show the entities of a plant that the Energy dashboard lacks, and add them."""
        entry: SmartPvmsConfigEntry = self.config_entry
        if entry.state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="not_loaded")
        if user_input is not None:
            await async_apply(self.hass, entry, self._plant)
            return self.async_abort(reason="energy_dashboard")
        names = async_entity_names(self.hass, self._missing[self._plant.code])
        return self.async_show_form(
            step_id="energy_dashboard",
            description_placeholders={
                # A name at the start of a line could be a heading or a list.
                "entities": "\n".join(f"\u2022 {escape(name)}" for name in names)
            },
        )

    def _save(self, option: str, value: Any) -> ConfigFlowResult:
        """Save one option; `None` removes it."""
        options = {**self.config_entry.options, option: value}
        if value is None:
            del options[option]
        return self.async_create_entry(data=options)

    def _chosen_plants(self) -> tuple[list[str], list[str]]:
        """Return the chosen plants that are offered, and those that are not.

        The latter stay chosen.
        """
        offered, present = self._inventory.offered, options_of(self.config_entry).plants
        chosen = [*offered] if present is None else present
        listed = [code for code in chosen if code in offered]
        return listed, [code for code in chosen if code not in offered]

    def _grid_points(self) -> dict[str, str]:
        """Return the names of meters that may be at the grid, by id."""
        names = {
            source_name(device): device.name_by_user or device.name or ""
            for device in dr.async_entries_for_config_entry(
                dr.async_get(self.hass), self.config_entry.entry_id
            )
        }
        return {
            str(device.id): names[str(device.id)]
            for code in self._inventory.plants
            for device in self._inventory.devices_of(code)
            if device.type_id in GRID_POINTS
        }

    def _recognized(self, names: Mapping[str, str]) -> str:
        """Return the names of the meters that are used without a choice."""
        entry: SmartPvmsConfigEntry = self.config_entry
        points = (
            entry.runtime_data.real_time.flows.grid_point(
                code, self._inventory.devices_of(code), ()
            )
            for code in self._inventory.plants
        )
        recognized = (names[str(point)] for point in points if point is not None)
        return escape(", ".join(recognized)) or "\u2013"

    async def _possible_zones(self) -> dict[str, str]:
        """Return the labels of the possible zones of plants, by value."""
        plants = self._inventory.plants
        zones = await self.hass.async_add_executor_job(
            doubtful,
            [*plants.values()],
            self.hass.config.time_zone,
            dt_util.utcnow(),
        )
        return {
            _zone_value(code, zone): f"{plants[code].name}: {zone}"
            if len(plants) > 1
            else zone
            for code, offered in zones.items()
            for zone in offered
        }

    async def _missing_sources(self) -> dict[str, list[Source]]:
        """Return the sources that the Energy dashboard lacks, by plant code."""
        entry: SmartPvmsConfigEntry = self.config_entry
        if ENERGY_DOMAIN not in self.hass.config.components:
            return {}
        return {
            code: missing
            for code, plant in self._inventory.plants.items()
            if (missing := await async_missing(self.hass, entry, plant))
        }


def _zone_value(plant_code: str, zone: str) -> str:
    """Return the value of a plant's zone in the form."""
    return f"{plant_code} {zone}"


def _split_zone_value(value: str) -> tuple[str, str]:
    """Return the plant code and the zone of a value in the form."""
    # The plant code may contain spaces; the zone does not.
    plant_code, zone = value.rsplit(" ", 1)
    return plant_code, zone


def _select(offered: Mapping[str, str], *, multiple: bool = False) -> SelectSelector:
    """Return a selector of names by key."""
    return SelectSelector(
        SelectSelectorConfig(
            options=[
                SelectOptionDict(value=code, label=name)
                for code, name in offered.items()
            ],
            multiple=multiple,
        )
    )
