"""Config flow: an account, which of its plants, and what changes about it later."""

from collections.abc import Mapping
from typing import Any, Final, override

import voluptuous as vol
from yarl import URL

from homeassistant.config_entries import (
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
    Selector,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)
from homeassistant.util import dt as dt_util

from .account import async_get_account, temporary_client, unique_id
from .const import (
    CONF_GRID_METERS,
    CONF_HISTORY,
    CONF_PLANTS,
    CONF_TIME_ZONES,
    DOMAIN,
    LOGGER,
)
from .errors import explain
from .models import Inventory
from .northbound import (
    REGIONAL_HOSTS,
    MalformedResponse,
    NorthboundError,
    Plant,
    base_url,
    northbound_host,
)
from .plant import GRID_POINTS
from .runtime import SmartPvmsConfigEntry
from .time_zones import doubtful

_PASSWORD: Final = TextSelector(
    TextSelectorConfig(type=TextSelectorType.PASSWORD, autocomplete="current-password")
)

_ACCOUNT_SCHEMA: Final = vol.Schema(
    {
        vol.Required(CONF_HOST, default=REGIONAL_HOSTS[0]): SelectSelector(
            SelectSelectorConfig(
                options=list(REGIONAL_HOSTS),
                custom_value=True,
                mode=SelectSelectorMode.DROPDOWN,
            )
        ),
        vol.Required(CONF_USERNAME): TextSelector(
            TextSelectorConfig(autocomplete="username")
        ),
        vol.Required(CONF_PASSWORD): _PASSWORD,
    }
)

# The server knows the last 365 days.
_HISTORY: Final = NumberSelector(
    NumberSelectorConfig(
        min=0, max=365, mode=NumberSelectorMode.BOX, unit_of_measurement="d"
    )
)
_HISTORY_DEFAULT: Final = 7

_USER_SCHEMA: Final = _ACCOUNT_SCHEMA.extend(
    {vol.Required(CONF_HISTORY, default=_HISTORY_DEFAULT): _HISTORY}
)

_CURRENCY: Final = SelectSelector(
    SelectSelectorConfig(
        options=sorted(ACTIVE_CURRENCIES), mode=SelectSelectorMode.DROPDOWN
    )
)

# By default Home Assistant 2026.11 takes texts of its own, and may show just their keys.
_RECONFIGURED: Final = "reconfigure_successful"
_REAUTHENTICATED: Final = "reauth_successful"

_REAUTH_SCHEMA: Final = vol.Schema({vol.Required(CONF_PASSWORD): _PASSWORD})


class SmartPvmsConfigFlow(ConfigFlow, domain=DOMAIN):
    """Adds an account."""

    _account: dict[str, Any]
    _history: int
    _plants: list[Plant]

    @staticmethod
    @callback
    @override
    def async_get_options_flow(config_entry: ConfigEntry) -> OptionsFlow:
        """Return the flow that changes what is shown of the account."""
        return SmartPvmsOptionsFlow()

    @override
    async def async_step_user(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the account, log in and list its plants."""
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            self._history = int(user_input[CONF_HISTORY])
            if (account := _account(user_input)) is None:
                errors[CONF_HOST] = "invalid_host"
            else:
                self._account = account
                await self.async_set_unique_id(unique_id(account))
                # Before the login, which would end the other entry's session.
                self._abort_if_unique_id_configured()
                errors, placeholders = await self._log_in(account)
                if not errors and len(self._plants) > 1:
                    return await self.async_step_plants()
                if not errors:
                    return self._create_entry(self._plants[0].name)
        return self.async_show_form(
            step_id="user",
            data_schema=self.add_suggested_values_to_schema(_USER_SCHEMA, user_input),
            errors=errors,
            description_placeholders=placeholders,
        )

    async def async_step_reconfigure(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for another host or login to the same plants."""
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        entry = self._get_reconfigure_entry()
        if user_input is not None:
            if (account := _account(user_input)) is None:
                errors[CONF_HOST] = "invalid_host"
            else:
                account_id = unique_id(account)
                await self.async_set_unique_id(account_id)
                is_other = account_id != entry.unique_id
                if is_other:
                    self._abort_if_unique_id_configured()
                errors, placeholders = await self._log_in(account)
                if not errors and is_other and not self._has_plants_of(entry):
                    errors["base"] = "wrong_account"
                if not errors:
                    return self.async_update_reload_and_abort(
                        entry,
                        unique_id=account_id,
                        data=account,
                        reason=_RECONFIGURED,
                    )
        return self.async_show_form(
            step_id="reconfigure",
            data_schema=self.add_suggested_values_to_schema(
                _ACCOUNT_SCHEMA,
                user_input
                or {key: entry.data[key] for key in (CONF_HOST, CONF_USERNAME)},
            ),
            errors=errors,
            description_placeholders=placeholders,
        )

    def _has_plants_of(self, entry: ConfigEntry) -> bool:
        """Return whether the account has a plant that the entry has, if any."""
        devices = dr.async_entries_for_config_entry(
            dr.async_get(self.hass), entry.entry_id
        )
        listed = {(DOMAIN, plant.code) for plant in self._plants}
        return not devices or any(
            not listed.isdisjoint(device.identifiers) for device in devices
        )

    async def async_step_plants(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask which plants to include."""
        errors: dict[str, str] = {}
        codes = [plant.code for plant in self._plants]
        if user_input is not None:
            chosen = user_input[CONF_PLANTS]
            if len(chosen) == len(codes):
                return self._create_entry(f"{len(codes)} plants")
            if chosen:
                names = [plant.name for plant in self._plants if plant.code in chosen]
                return self._create_entry(
                    names[0] if len(names) == 1 else f"{len(names)} plants",
                    {CONF_PLANTS: chosen},
                )
            errors[CONF_PLANTS] = "no_plants_chosen"
        offered = {plant.code: plant.name for plant in self._plants}
        return self.async_show_form(
            step_id="plants",
            data_schema=vol.Schema(
                {vol.Required(CONF_PLANTS, default=codes): _several(offered)}
            ),
            errors=errors,
        )

    async def async_step_reauth(
        self, entry_data: Mapping[str, Any]
    ) -> ConfigFlowResult:
        """Start over with the account that the server refuses."""
        return await self.async_step_reauth_confirm()

    async def async_step_reauth_confirm(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the account's new password."""
        errors: dict[str, str] = {}
        entry = self._get_reauth_entry()
        placeholders = {"username": entry.data[CONF_USERNAME]}
        if user_input is not None:
            errors, explanation = await self._log_in(
                {**entry.data, **user_input}, host_field="base"
            )
            placeholders |= explanation
            if not errors:
                return self.async_update_reload_and_abort(
                    entry, data_updates=user_input, reason=_REAUTHENTICATED
                )
        return self.async_show_form(
            step_id="reauth_confirm",
            data_schema=_REAUTH_SCHEMA,
            errors=errors,
            description_placeholders=placeholders,
        )

    async def _log_in(
        self, account: Mapping[str, Any], host_field: str = CONF_HOST
    ) -> tuple[dict[str, str], dict[str, str]]:
        """List the account's plants; return what went wrong, and its placeholders.

        What is wrong with the host is shown at its field, if the form has it.
        """
        shared = async_get_account(self.hass, account)
        try:
            with temporary_client(self.hass, account, shared) as client:
                await client.log_in()
                self._plants = shared.plants = await client.plants()
        except NorthboundError as err:
            key, placeholders = explain(err)
            if isinstance(err, MalformedResponse) and (
                better := northbound_host(base_url(account[CONF_HOST]).host or "")
            ):
                key, placeholders = "portal_host", {"host": better}
            field = host_field if isinstance(err, MalformedResponse) else "base"
            return {field: key}, placeholders
        except Exception:
            LOGGER.exception("Unexpected error while logging in")
            return {"base": "unknown"}, {}
        if not self._plants:
            return {"base": "no_plants"}, {}
        return {}, {}

    def _create_entry(
        self, title: str, options: Mapping[str, Any] | None = None
    ) -> ConfigFlowResult:
        return self.async_create_entry(
            title=title,
            data=self._account,
            options={CONF_HISTORY: self._history, **(options or {})},
        )


class SmartPvmsOptionsFlow(OptionsFlowWithReload):
    """Changes what is shown of an account; reloading it costs no call."""

    async def async_step_init(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the plants, and for the currency of their revenues."""
        entry: SmartPvmsConfigEntry = self.config_entry
        if entry.state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="not_loaded")
        offered = entry.runtime_data.inventory.data.offered
        chosen = entry.options.get(CONF_PLANTS, list(offered))
        still_offered = [code for code in chosen if code in offered]
        zones = await self._zones(entry.runtime_data.inventory.data)
        chosen_zones = entry.options.get(CONF_TIME_ZONES, {})
        hidden_zones = {
            code: zone
            for code, zone in chosen_zones.items()
            if f"{code} {zone}" not in zones
        }
        errors: dict[str, str] = {}
        if user_input is not None:
            options = {**entry.options, **user_input}
            options[CONF_HISTORY] = int(user_input[CONF_HISTORY])
            picked = user_input.get(CONF_PLANTS, still_offered)
            if not picked:
                errors[CONF_PLANTS] = "no_plants_chosen"
            elif CONF_PLANTS in user_input:
                # Nobody could have unpicked what is not offered at present.
                withdrawn = [code for code in chosen if code not in offered]
                options[CONF_PLANTS] = [*picked, *withdrawn]
                # Where all are shown, plants that are added later are shown as well.
                if len(picked) == len(offered):
                    del options[CONF_PLANTS]
            if CONF_TIME_ZONES in user_input:
                pairs = [zone.rsplit(" ", 1) for zone in user_input[CONF_TIME_ZONES]]
                picked_zones = dict(pairs)
                if len(pairs) > len(picked_zones):
                    errors[CONF_TIME_ZONES] = "several_time_zones"
                options[CONF_TIME_ZONES] = {**hidden_zones, **picked_zones}
            if not errors:
                return self.async_create_entry(data=options)
        schema: dict[vol.Marker, Selector[Any]] = {}
        if len(offered) > 1 or not still_offered:
            schema[vol.Required(CONF_PLANTS, default=still_offered)] = _several(offered)
        currency = entry.options.get(CONF_CURRENCY, self.hass.config.currency)
        schema[vol.Required(CONF_CURRENCY, default=currency)] = _CURRENCY
        if meters := _grid_points(entry.runtime_data.inventory.data):
            at_grid = entry.options.get(CONF_GRID_METERS, [])
            known = [meter for meter in at_grid if meter in meters]
            schema[vol.Optional(CONF_GRID_METERS, default=known)] = _several(meters)
        if zones:
            values = [" ".join(each) for each in chosen_zones.items()]
            known = [value for value in values if value in zones]
            schema[vol.Optional(CONF_TIME_ZONES, default=known)] = _several(zones)
        history = entry.options.get(CONF_HISTORY, _HISTORY_DEFAULT)
        schema[vol.Required(CONF_HISTORY, default=history)] = _HISTORY
        return self.async_show_form(
            step_id="init",
            data_schema=self.add_suggested_values_to_schema(
                vol.Schema(schema), user_input
            ),
            errors=errors,
        )

    async def _zones(self, inventory: Inventory) -> dict[str, str]:
        """Return the names of possible zones, by code and zone of a plant in doubt."""
        zones = await self.hass.async_add_executor_job(
            doubtful,
            [*inventory.plants.values()],
            self.hass.config.time_zone,
            dt_util.utcnow(),
        )
        several = len(inventory.plants) > 1
        return {
            f"{code} {zone}": f"{inventory.plants[code].name}: {zone}"
            if several
            else zone
            for code, offered in zones.items()
            for zone in offered
        }


def _grid_points(inventory: Inventory) -> dict[str, str]:
    """Return the meters, by id, that may be at the grid."""
    several = len(inventory.plants) > 1
    offered: dict[str, str] = {}
    for code, plant in inventory.plants.items():
        devices = inventory.devices_of(code)
        meters = [device for device in devices if device.type_id in GRID_POINTS]
        offered |= {
            str(meter.id): f"{plant.name}: {meter.name}" if several else meter.name
            for meter in meters
        }
    return offered


def _several(offered: Mapping[str, str]) -> SelectSelector:
    """Return a selector of any number of what is offered, from their names by key."""
    return SelectSelector(
        SelectSelectorConfig(
            options=[
                SelectOptionDict(value=code, label=name)
                for code, name in offered.items()
            ],
            multiple=True,
        )
    )


def _account(user_input: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the account with its host as people write it, if that is a host."""
    try:
        url = base_url(user_input[CONF_HOST])
    except ValueError:
        return None
    return {
        CONF_HOST: _as_host(url),
        CONF_USERNAME: user_input[CONF_USERNAME],
        CONF_PASSWORD: user_input[CONF_PASSWORD],
    }


def _as_host(url: URL) -> str:
    """Return an address the way people write it: https goes without saying."""
    return url.authority if url.scheme == "https" else str(url)
