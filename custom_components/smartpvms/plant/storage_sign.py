"""Sign of a storage's power: the document does not say which one is charging."""

from dataclasses import dataclass, field

from custom_components.smartpvms.northbound import DataItems, DeviceType, number

from .counters import STORED
from .devices import NOISE, PlantDevice, PlantDevices, of_type, total
from .votes import AGREEING, voted


@dataclass(slots=True)
class StorageSign:
    """Evidence on the sign of a storage's power."""

    votes: int = 0
    """Positive if charging is positive."""
    last: DataItems = field(default_factory=dict, init=False)

    @property
    def charging(self) -> float | None:
        """Return the sign of the power while the storage charges, if it is known."""
        if abs(self.votes) < AGREEING:
            return None
        return 1.0 if self.votes > 0 else -1.0

    def weigh(self, device: PlantDevice) -> None:
        """Add the evidence of one reading and the one before.

        If the power keeps its sign, the day's counters show its direction. If none or
        both of them have risen, the state of charge shows it.
        """
        keys = ("ch_discharge_power", "battery_soc", *STORED)
        read = {key: device.read(key) for key in keys}
        last = {key: number(self.last.get(key)) for key in keys}
        self.last = read
        rises = {
            key: now - before
            for key in keys
            if (now := read[key]) is not None and (before := last[key]) is not None
        }
        power, before = read[keys[0]], last[keys[0]]
        if power is None or before is None or min(abs(power), abs(before)) < NOISE:
            return
        if power * before < 0:
            return
        charged, discharged = (rises.get(key, 0.0) for key in STORED)
        if min(charged, discharged) < 0:
            return
        gained = charged - discharged if not (charged and discharged) else 0.0
        risen = rises.get("battery_soc", 0.0)
        if gained * risen < 0:
            return
        if gained := gained or risen:
            self.votes = voted(self.votes, (gained > 0) == (power > 0))


@dataclass(slots=True)
class StorageSigns:
    """Signs of the powers of a plant's storages on the AC side."""

    storages: dict[int, StorageSign] = field(default_factory=dict)

    def update(self, devices: PlantDevices) -> None:
        """Add the evidence of new readings, once per reading."""
        for device_id, device in of_type(devices, DeviceType.ESS).items():
            self.storages.setdefault(device_id, StorageSign()).weigh(device)

    def discharge(self, devices: PlantDevices) -> float | None:
        """Return the power in W that the storages on the AC side deliver."""
        return total(
            self.discharge_of(device_id, device)
            for device_id, device in of_type(devices, DeviceType.ESS).items()
        )

    def discharge_of(self, device_id: int, device: PlantDevice) -> float | None:
        """Return the power in W that a storage delivers, if its sign is known."""
        power = device.read("ch_discharge_power")
        sign = self.storages.get(device_id, StorageSign()).charging
        if power and sign is None:
            return None
        return power and -power * (sign or 1.0)
