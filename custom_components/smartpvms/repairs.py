"""Repair issues for current problems that only the user can solve."""

from collections.abc import Iterator
from typing import Final

from homeassistant.const import CONF_USERNAME
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, issue_registry as ir
from homeassistant.loader import async_get_loaded_integration

from .const import DOMAIN
from .errors import PERMISSIONS
from .northbound import ACCOUNT_DISABLED, SessionState
from .problems import Problems
from .runtime import SmartPvmsConfigEntry

# Takeovers of the session in an hour that indicate a second client.
TAKEOVERS: Final = 3

type Issue = tuple[str, str, dict[str, str]]
"""Suffix of the issue id, translation key and placeholders."""


@callback
def async_update_issues(
    hass: HomeAssistant,
    entry: SmartPvmsConfigEntry,
    state: SessionState,
    problems: Problems,
) -> None:
    """Create the current issues of an account, and delete the others."""
    issues = {
        f"{entry.entry_id}_{name}": (key, placeholders)
        for name, key, placeholders in _issues(hass, entry, state, problems)
    }
    documentation = async_get_loaded_integration(hass, DOMAIN).documentation
    for issue_id, (key, placeholders) in issues.items():
        ir.async_create_issue(
            hass,
            DOMAIN,
            issue_id,
            is_fixable=False,
            severity=ir.IssueSeverity.WARNING,
            translation_key=key,
            # The title of the entry can be "2 plants".
            translation_placeholders={
                "account": entry.data[CONF_USERNAME],
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
    if len(state.recent_takeovers) >= TAKEOVERS:
        yield "session_taken", "session_taken", {}
    if state.refused_code in ACCOUNT_DISABLED:
        yield "account_disabled", "account_disabled", {}
    if problems.none_chosen:
        yield "no_chosen_plants", "no_chosen_plants", {}
    for interface in state.flow_control.used_up:
        yield f"used_up_{interface}", "used_up", {"interface": interface}
    for interface in problems.forbidden_interfaces:
        if permission := PERMISSIONS.get(interface):
            yield f"no_permission_{permission}", f"no_permission_{permission}", {}
    devices = dr.async_get(hass)
    for code, plant in problems.refused_plants.items():
        device = devices.async_get_device_by_identifier((DOMAIN, code), entry.entry_id)
        # Diagnostics contain the ids of issues, so they must not contain the plant code.
        suffix = device.id if device else "new_plants"
        if plant.is_unauthorized:
            yield f"not_authorized_{suffix}", "not_authorized", {"plant": plant.name}
        else:
            yield (
                f"plant_refused_{suffix}",
                "plant_refused",
                {"plant": plant.name, "code": str(plant.code)},
            )
