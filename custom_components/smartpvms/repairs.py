"""Repair issues for current problems that only the user can solve."""

from collections.abc import Iterator
from typing import Any, Final

import voluptuous as vol

from homeassistant.components.repairs import FlowType, RepairsFlow, RepairsFlowResult
from homeassistant.config_entries import (
    SOURCE_REAUTH,
    SOURCE_RECONFIGURE,
    ConfigEntry,
    ConfigEntryState,
)
from homeassistant.const import CONF_HOST, CONF_USERNAME
from homeassistant.core import HomeAssistant, callback
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import device_registry as dr, issue_registry as ir
from homeassistant.loader import async_get_loaded_integration

from .account import ACCOUNTS, HOST_SELECTOR, account_id
from .const import DOMAIN
from .device_registry import source_name
from .entity_registry import enabled_sensors
from .errors import INTERFACES
from .markdown import escape
from .northbound import ACCOUNT_DISABLED, ServiceState, SessionState
from .problems import Problems
from .runtime import SmartPvmsConfigEntry
from .statistics import Audit

# Takeovers of the session in an hour that indicate a second client.
TAKEOVERS: Final = 3

# Home Assistant does not ask for a password while this dialog is open.
_DIALOG: Final = "open_dialog"
_STATISTICS: Final = "statistics_differ"
_MOVED: Final = "server_moved"
_FIXABLE: Final = (_DIALOG, _STATISTICS, _MOVED)
_ENTRY: Final = "entry_id"

type Issue = tuple[str, str, dict[str, str]]
"""Suffix of the issue id, translation key and placeholders."""


@callback
def async_update_issues(
    hass: HomeAssistant,
    entry: SmartPvmsConfigEntry,
    state: SessionState,
    problems: Problems,
    audit: Audit | None = None,
) -> None:
    """Create the current issues of an account, and delete the others."""
    issues = {
        f"{entry.entry_id}_{name}": (key, placeholders)
        for name, key, placeholders in (
            *_issues(hass, entry, state, problems),
            *(() if audit is None else _statistics_issues(hass, entry, audit)),
        )
    }
    documentation = async_get_loaded_integration(hass, DOMAIN).documentation
    for issue_id, (key, placeholders) in issues.items():
        ir.async_create_issue(
            hass,
            DOMAIN,
            issue_id,
            data={_ENTRY: entry.entry_id},
            is_fixable=key in _FIXABLE,
            severity=ir.IssueSeverity.WARNING,
            translation_key=key,
            # The title of the entry is the name of a plant.
            translation_placeholders={
                "account": escape(entry.data[CONF_USERNAME]),
                **placeholders,
            },
            learn_more_url=f"{documentation}#troubleshooting",
        )
    _delete(hass, entry, keep=set(issues))


@callback
def async_delete_issues(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> None:
    """Delete all issues of an account."""
    _delete(hass, entry, keep=set())


def _delete(hass: HomeAssistant, entry: SmartPvmsConfigEntry, keep: set[str]) -> None:
    for domain, issue_id in list(ir.async_get(hass).issues):
        if (
            domain == DOMAIN
            and issue_id.startswith(f"{entry.entry_id}_")
            and issue_id not in keep
        ):
            ir.async_delete_issue(hass, DOMAIN, issue_id)


def _issues(
    hass: HomeAssistant,
    entry: SmartPvmsConfigEntry,
    state: SessionState,
    problems: Problems,
) -> Iterator[Issue]:
    # A server that rejects all tokens at once has no other client.
    if len(state.recent_takeovers) >= TAKEOVERS and not state.lost_tokens:
        yield "session_taken", "session_taken", {}
    if (
        state.refused_code is not None
        and any(entry.async_get_active_flows(hass, {SOURCE_RECONFIGURE}))
        and not any(entry.async_get_active_flows(hass, {SOURCE_REAUTH}))
    ):
        yield "open_dialog", "open_dialog", {}
    if state.service_state is ServiceState.MOVED:
        yield (
            "server_moved",
            "server_moved",
            {
                "old_host": escape(entry.data[CONF_HOST]),
                "new_host": escape(state.service.host or ""),
            },
        )
    if state.refused_code in ACCOUNT_DISABLED:
        yield "account_disabled", "account_disabled", {}
    if problems.none_chosen:
        yield "no_chosen_plants", "no_chosen_plants", {}
    for interface in state.flow_control.used_up:
        if name := INTERFACES.get(interface):
            yield f"used_up_{name}", f"used_up_{name}", {}
    for interface in problems.forbidden_interfaces:
        if name := INTERFACES.get(interface):
            yield f"no_permission_{name}", f"no_permission_{name}", {}
    devices = dr.async_get(hass)
    for code, plant in problems.refused_plants.items():
        device = devices.async_get_device_by_identifier((DOMAIN, code), entry.entry_id)
        # Diagnostics contain the ids of issues, so they must not contain the plant code.
        suffix = device.id if device else "new_plants"
        name = escape(plant.name)
        if plant.is_unauthorized:
            yield f"not_authorized_{suffix}", "not_authorized", {"plant": name}
        else:
            yield (
                f"plant_refused_{suffix}",
                "plant_refused",
                {"plant": name, "code": str(plant.code)},
            )


def _statistics_issues(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry, audit: Audit
) -> Iterator[Issue]:
    """Yield the issues of plants whose statistics differ much from their reports."""
    inventory = entry.runtime_data.inventory.data
    devices = dr.async_get(hass)
    for code, plant in inventory.plants.items():
        device = devices.async_get_device_by_identifier((DOMAIN, code), entry.entry_id)
        if device is None or not (differences := audit.doubtful(code)):
            continue
        entities = enabled_sensors(hass, entry.entry_id, inventory)
        lines = [
            f"- {escape(entity.name or entity.original_name or key)}: "
            f"{differences[key].counted:.1f} kWh, {differences[key].reported:.1f} kWh"
            for (source_id, key), entity in entities.items()
            if source_id == code and key in differences
        ]
        yield (
            f"{_STATISTICS}_{device.id}",
            "statistics_differ",
            {"plant": escape(plant.name), "energies": "\n".join(lines)},
        )


@callback
def async_ask_for_password(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Ask for a password that was refused while a dialog was open."""
    issue_id = f"{entry.entry_id}_{_DIALOG}"
    if ir.async_get(hass).async_get_issue(DOMAIN, issue_id) is None:
        return
    ir.async_delete_issue(hass, DOMAIN, issue_id)
    account = hass.data[ACCOUNTS].get(account_id(entry.data))
    if account is not None and account.session.refused_code is not None:
        entry.async_start_reauth(hass)


async def async_create_fix_flow(
    hass: HomeAssistant, issue_id: str, data: dict[str, str | int | float | None] | None
) -> RepairsFlow:
    """Return the flow of a fixable issue."""
    assert data is not None
    entry = hass.config_entries.async_get_known_entry(str(data[_ENTRY]))
    _, found, device_id = issue_id.partition(f"_{_STATISTICS}_")
    if found:
        return StatisticsFlow(entry, device_id)
    if issue_id.endswith(_MOVED):
        return MovedFlow(entry)
    return OpenDialogFlow(entry)


def _close_dialogs(hass: HomeAssistant, entry: ConfigEntry) -> None:
    """Close the dialogs that reconfigure an account."""
    for dialog in [*entry.async_get_active_flows(hass, {SOURCE_RECONFIGURE})]:
        hass.config_entries.flow.async_abort(dialog["flow_id"])


class OpenDialogFlow(RepairsFlow):
    """Closes the dialog that is open, and asks for the password."""

    def __init__(self, entry: ConfigEntry) -> None:
        """Set the entry of the account."""
        self._entry = entry

    async def async_step_init(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Show the only step."""
        return await self.async_step_confirm()

    async def async_step_confirm(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Close the dialog after the user has confirmed it."""
        if user_input is None:
            account = escape(self._entry.data[CONF_USERNAME])
            return self.async_show_form(
                step_id="confirm", description_placeholders={"account": account}
            )
        # The end of the dialog starts the reauthentication.
        _close_dialogs(self.hass, self._entry)
        for flow in self._entry.async_get_active_flows(self.hass, {SOURCE_REAUTH}):
            return self.async_create_entry(
                data={}, next_flow=(FlowType.CONFIG_FLOW, flow["flow_id"])
            )
        return self.async_create_entry(data={})


class MovedFlow(RepairsFlow):
    """Logs in to the host to which the server has moved."""

    def __init__(self, entry: ConfigEntry) -> None:
        """Set the entry of the account."""
        self._entry = entry

    async def async_step_init(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Show the form with the host that the server has named, if any."""
        account = self.hass.data[ACCOUNTS].get(account_id(self._entry.data))
        host = None if account is None else account.session.service.host
        if host is None:
            return await self.async_step_unknown_host()
        return await self.async_step_known_host(host=host)

    async def async_step_known_host(
        self, user_input: dict[str, Any] | None = None, host: str | None = None
    ) -> RepairsFlowResult:
        """Show the form for the new host."""
        if user_input is not None:
            return await self._log_in(user_input[CONF_HOST])
        issue = ir.async_get(self.hass).async_get_issue(DOMAIN, self.issue_id)
        return self.async_show_form(
            step_id="unknown_host" if host is None else "known_host",
            data_schema=self.add_suggested_values_to_schema(
                vol.Schema({vol.Required(CONF_HOST): HOST_SELECTOR}), {CONF_HOST: host}
            ),
            description_placeholders=issue.translation_placeholders if issue else None,
        )

    async_step_unknown_host = async_step_known_host

    async def _log_in(self, host: str) -> RepairsFlowResult:
        """Reconfigure the account; a login that fails is continued in its dialog."""
        # Two dialogs for the same host would not be allowed.
        _close_dialogs(self.hass, self._entry)
        result = await self.hass.config_entries.flow.async_init(
            DOMAIN,
            context={
                "source": SOURCE_RECONFIGURE,
                "entry_id": self._entry.entry_id,
            },
            data={**self._entry.data, CONF_HOST: host},
        )
        if result["type"] is FlowResultType.FORM:
            return self.async_create_entry(
                data={}, next_flow=(FlowType.CONFIG_FLOW, result["flow_id"])
            )
        if result["reason"] == "already_configured":
            return self.async_abort(reason="already_configured")
        return self.async_create_entry(data={})


class StatisticsFlow(RepairsFlow):
    """Lets the user decide between the statistics and the report of a plant."""

    def __init__(self, entry: SmartPvmsConfigEntry, device_id: str) -> None:
        """Set the entry of the account, and the device of the plant."""
        self._entry = entry
        self._device_id = device_id

    async def async_step_init(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Show both energies."""
        issue = ir.async_get(self.hass).async_get_issue(DOMAIN, self.issue_id)
        return self.async_show_menu(
            menu_options=["use_reports", "keep"],
            description_placeholders=issue.translation_placeholders if issue else None,
        )

    async def async_step_use_reports(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Replace the statistics of these days by the report."""
        return self._decide(use_reports=True)

    async def async_step_keep(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Keep the statistics of these days."""
        return self._decide(use_reports=False)

    def _decide(self, *, use_reports: bool) -> RepairsFlowResult:
        device = dr.async_get(self.hass).async_get(self._device_id)
        if (
            isinstance(device, dr.DeviceEntry)
            and self._entry.state is ConfigEntryState.LOADED
        ):
            history = self._entry.runtime_data.history
            history.async_decide(source_name(device), use_reports=use_reports)
        return self.async_create_entry(data={})
