"""Options of an account's config entry."""

from dataclasses import dataclass, field

from homeassistant.config_entries import ConfigEntry

from .storage import decode_parts


@dataclass(frozen=True, slots=True)
class AccountOptions:
    """Options of an account."""

    plants: list[str] | None = None
    """Codes of the included plants; `None` means all plants."""
    currency: str | None = None
    """Currency of the revenues; `None` means Home Assistant's currency."""
    grid_meters: list[str] = field(default_factory=list)
    """Ids of the grid meters that the user has chosen."""
    time_zones: dict[str, str] = field(default_factory=dict)
    """Names of the chosen time zones, by plant code."""
    history: int = 0
    """Number of days of history to import."""

    @property
    def grid_meter_ids(self) -> set[int]:
        """Return the ids of the chosen meters."""
        return {int(meter) for meter in self.grid_meters}


def options_of(entry: ConfigEntry) -> AccountOptions:
    """Return the options of an account."""
    return decode_parts(AccountOptions, entry.options)
