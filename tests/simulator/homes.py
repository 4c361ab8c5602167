"""Ready-made homes for tests and the demo."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from zoneinfo import ZoneInfo

from .energy import Battery, Schedule, Site
from .load import Load
from .plants import Device, DeviceType, Home, Plant
from .sun import Place, Roof

_BERLIN = Place(52.52, 13.405, 40.0)
_MADRID = Place(40.4168, -3.7038, 660.0)
_ID_BASE = 1_000_000_000_000_000


class _Numbers:
    """Assigns constant device IDs and serial numbers."""

    def __init__(self, first: int) -> None:
        self._count: Iterator[int] = count(first)

    def device(
        self,
        type_id: DeviceType,
        name: str,
        model: str | None = None,
        *,
        negative: bool = False,
        share: float = 1.0,
        mppts: tuple[int, ...] = (),
        strings_per_mppt: int = 1,
        modules_per_string: int = 14,
    ) -> Device:
        """Return a device, with a serial number if its type has one."""
        number = next(self._count)
        numbered = type_id not in _WITHOUT_SERIAL_NUMBER
        return Device(
            id=-(number * 6007) if negative else _ID_BASE + number,
            type_id=type_id,
            name=name,
            serial_number=f"HV{number:010}" if numbered else None,
            model=model,
            software_version=_SOFTWARE.get(type_id),
            share=share,
            mppts=mppts,
            strings_per_mppt=strings_per_mppt,
            modules_per_string=modules_per_string,
        )

    def code(self) -> str:
        """Return the code of a plant."""
        return f"NE={next(self._count)}"


_WITHOUT_SERIAL_NUMBER = (
    DeviceType.BATTERY,
    DeviceType.POWER_SENSOR,
    DeviceType.GRID_METER,
)
_SOFTWARE: dict[int, str] = {
    DeviceType.STRING_INVERTER: "V500R001C00SPC152",
    DeviceType.RESIDENTIAL_INVERTER: "V100R001C00SPC162",
    DeviceType.SMART_LOGGER: "V300R023C10SPC310",
    DeviceType.DONGLE: "V100R001C00SPC135",
    DeviceType.EMMA: "V100R024C00SPC120",
    DeviceType.ESS: "V100R003C00SPC105",
}


def apartment(
    seed: int = 1, time_zone: str = "Europe/Madrid", *, meter: bool = False
) -> Home:
    """Return a flat with one single-phase inverter, optionally with a power sensor."""
    numbers = _Numbers(33_554_432)
    site = Site(
        place=_MADRID,
        time_zone=ZoneInfo(time_zone),
        roofs=(Roof(2.1, 20.0, 170.0), Roof(1.4, 20.0, 260.0)),
        ac_limit_w=3000.0,
        load=Load(260.0),
        seed=seed,
    )
    plant = Plant(
        code=numbers.code(),
        name="Calle Mayor 7",
        site=site,
        address="Calle Mayor 7, Madrid",
        phases=1,
        earlier_yield_kwh=2140.37,
        price_per_kwh=0.21,
        devices=[
            numbers.device(
                DeviceType.RESIDENTIAL_INVERTER,
                "Inverter-1",
                "SUN2000-3KTL-L1",
                mppts=(0, 1),
                modules_per_string=10,
            ),
            *(
                [numbers.device(DeviceType.POWER_SENSOR, "Meter-1", "DDSU666-H")]
                if meter
                else []
            ),
        ],
    )
    return Home([plant])


def _hybrid_site(seed: int, time_zone: str, place: Place = _BERLIN) -> Site:
    return Site(
        place=place,
        time_zone=ZoneInfo(time_zone),
        roofs=(Roof(5.67, 38.0, 135.0), Roof(5.67, 38.0, 225.0)),
        ac_limit_w=8000.0,
        load=Load(900.0),
        battery=Battery(capacity_wh=6900.0, power_w=3500.0),
        standby_w=8.0,
        seed=seed,
    )


def _hybrid_inverter(numbers: _Numbers) -> Device:
    return numbers.device(
        DeviceType.RESIDENTIAL_INVERTER,
        "Inverter-1",
        "SUN2000-8KTL-M1",
        mppts=(0, 1),
    )


def family(seed: int = 1, time_zone: str = "Europe/Berlin") -> Home:
    """Return a house with a hybrid inverter, battery, power sensor and dongle."""
    numbers = _Numbers(35_436_840)
    plant = Plant(
        code=numbers.code(),
        name="Lindenweg 12",
        site=_hybrid_site(seed, time_zone),
        address="Lindenweg 12, Berlin",
        earlier_yield_kwh=13_204.6,
        devices=[
            numbers.device(DeviceType.DONGLE, "Dongle-1", "SDongleA-05"),
            _hybrid_inverter(numbers),
            numbers.device(DeviceType.BATTERY, "Battery-1", "LUNA2000-7-S1"),
            numbers.device(DeviceType.POWER_SENSOR, "Meter-1", "DTSU666-H"),
        ],
    )
    return Home([plant])


def emma(seed: int = 1, time_zone: str = "Europe/Berlin") -> Home:
    """Return a house with an EMMA that manages and measures its energy."""
    numbers = _Numbers(137_438_900)
    plant = Plant(
        code=numbers.code(),
        name="Ahornallee 3",
        site=_hybrid_site(seed, time_zone),
        address="Ahornallee 3, Potsdam",
        earlier_yield_kwh=820.55,
        devices=[
            numbers.device(DeviceType.EMMA, "EMMA-1", "EMMA-A02"),
            _hybrid_inverter(numbers),
            numbers.device(DeviceType.BATTERY, "Battery-1", "LUNA2000-7-S1"),
        ],
    )
    return Home([plant])


def farm(seed: int = 1, time_zone: str = "Europe/Berlin", inverters: int = 4) -> Home:
    """Return a farm with string inverters, grid meter, EMI and storage."""
    numbers = _Numbers(34_690_001)
    kwp, ac_limit_w = 60.0, 50_000.0
    site = Site(
        place=_BERLIN,
        time_zone=ZoneInfo(time_zone),
        roofs=(
            Roof(kwp * inverters / 2, 20.0, 180.0),
            Roof(kwp * inverters / 2, 20.0, 250.0),
        ),
        ac_limit_w=ac_limit_w * inverters,
        load=Load(9_000.0 * inverters, "farm"),
        battery=Battery(
            capacity_wh=50_000.0 * inverters, power_w=25_000.0 * inverters, side="ac"
        ),
        efficiency=0.985,
        seed=seed,
    )
    names = [f"Inverter-{number}" for number in range(1, inverters + 1)]
    plant = Plant(
        code=numbers.code(),
        name="Sonnenhof",
        site=site,
        address="Dorfstr. 1, Nauen",
        earlier_yield_kwh=310_250.75 * inverters / 4,
        price_per_kwh=0.08,
        devices=[
            numbers.device(DeviceType.SMART_LOGGER, "SmartLogger-1", "SmartLogger3000"),
            *(
                numbers.device(
                    DeviceType.STRING_INVERTER,
                    name,
                    "SUN2000-50KTL-M3",
                    # Old installations have negative ids.
                    negative=index % 2 == 1,
                    share=1 / inverters,
                    mppts=(0, 0, 1, 1),
                    strings_per_mppt=2,
                    modules_per_string=18,
                )
                for index, name in enumerate(names)
            ),
            numbers.device(DeviceType.EMI, "EMI-1"),
            numbers.device(
                DeviceType.GRID_METER, "Grid meter-1", "DTSD1352", negative=True
            ),
            numbers.device(DeviceType.ESS, "ESS-1", "LUNA2000-200KWH-2H1"),
        ],
    )
    return Home([plant])


def business(seed: int = 1, time_zone: str = "Europe/Berlin") -> Home:
    """Return a business that uses ten times the power of its panels."""
    numbers = _Numbers(41_200_001)
    site = Site(
        place=_BERLIN,
        time_zone=ZoneInfo(time_zone),
        roofs=(Roof(15.0, 15.0, 120.0), Roof(15.0, 15.0, 240.0)),
        ac_limit_w=30_000.0,
        load=Load(98_000.0, "business"),
        efficiency=0.985,
        seed=seed,
    )
    plant = Plant(
        code=numbers.code(),
        name="Metallbau Nord",
        site=site,
        address="Werkstr. 8, Berlin",
        earlier_yield_kwh=22_918.4,
        price_per_kwh=0.08,
        instantaneous=True,
        devices=[
            numbers.device(DeviceType.SMART_LOGGER, "SmartLogger-1", "SmartLogger3000"),
            numbers.device(
                DeviceType.STRING_INVERTER,
                "Inverter-1",
                "SUN2000-30KTL-M3",
                mppts=(0, 1),
                strings_per_mppt=2,
                modules_per_string=18,
            ),
            numbers.device(DeviceType.GRID_METER, "Grid meter-1", "DTSD1352"),
        ],
    )
    return Home([plant])


def storage(seed: int = 1, time_zone: str = "Europe/Berlin") -> Home:
    """Return a storage of 1 MW at a plant of 100 kWp, which trades with the grid."""
    numbers = _Numbers(44_600_001)
    site = Site(
        place=_BERLIN,
        time_zone=ZoneInfo(time_zone),
        roofs=(Roof(50.0, 15.0, 120.0), Roof(50.0, 15.0, 240.0)),
        ac_limit_w=100_000.0,
        load=Load(20_000.0, "farm"),
        battery=Battery(
            capacity_wh=2_000_000.0,
            power_w=1_000_000.0,
            side="ac",
            schedules=(
                Schedule(5.0, 7.0, 500_000.0),
                Schedule(7.0, 8.5, -900_000.0),
                Schedule(11.0, 14.5, 600_000.0),
                Schedule(18.0, 20.5, -990_000.0),
            ),
        ),
        efficiency=0.985,
        seed=seed,
    )
    plant = Plant(
        code=numbers.code(),
        name="Umspannwerk Ost",
        site=site,
        earlier_yield_kwh=96_400.2,
        price_per_kwh=0.08,
        devices=[
            numbers.device(DeviceType.SMART_LOGGER, "SmartLogger-1", "SmartLogger3000"),
            numbers.device(
                DeviceType.STRING_INVERTER,
                "Inverter-1",
                "SUN2000-100KTL-M2",
                mppts=(0, 0, 1, 1),
                strings_per_mppt=2,
                modules_per_string=18,
            ),
            numbers.device(DeviceType.GRID_METER, "Grid meter-1", "DTSD1352"),
            numbers.device(DeviceType.ESS, "ESS-1", "LUNA2000-2.0MWH-1H1"),
        ],
    )
    return Home([plant])


def _family_with(site: Site, typed_capacity_kwp: float | None = None) -> Home:
    """Return the family home with another site, or with a wrong capacity."""
    home = family()
    plant = home.plants[0]
    plant.site, plant.typed_capacity_kwp = site, typed_capacity_kwp
    return home


def low_capacity(seed: int = 1, time_zone: str = "Europe/Berlin") -> Home:
    """Return a house with 12 kWp and an entered capacity of 5."""
    site = replace(
        _hybrid_site(seed, time_zone),
        roofs=(Roof(6.0, 38.0, 135.0), Roof(6.0, 38.0, 225.0)),
        ac_limit_w=12_000.0,
    )
    return _family_with(site, 5.0)


def high_capacity(seed: int = 1, time_zone: str = "Europe/Berlin") -> Home:
    """Return a house with 5 kWp and an entered capacity of 12."""
    site = replace(
        _hybrid_site(seed, time_zone),
        roofs=(Roof(2.5, 38.0, 135.0), Roof(2.5, 38.0, 225.0)),
        ac_limit_w=5_000.0,
    )
    return _family_with(site, 12.0)


def midnight_discharge(seed: int = 1, time_zone: str = "Europe/Berlin") -> Home:
    """Return a house whose battery discharges over midnight."""
    battery = Battery(capacity_wh=15_000.0, power_w=5000.0)
    return _family_with(replace(_hybrid_site(seed, time_zone), battery=battery))


def midnight_charge(seed: int = 1, time_zone: str = "Europe/Berlin") -> Home:
    """Return a house whose battery charges from the grid from 00:00."""
    battery = Battery(
        capacity_wh=10_000.0,
        power_w=5000.0,
        schedules=(Schedule(0.0, 3.0, 4000.0),),
    )
    site = replace(_hybrid_site(seed, time_zone), battery=battery, first_hour=22)
    return _family_with(site)


def without_dc(seed: int = 1, time_zone: str = "Europe/Berlin") -> Home:
    """Return a house with an older server, whose inverter counts no DC energy."""
    home = family(seed, time_zone)
    plant = home.plants[0]
    plant.newer_items = False
    for device in plant.devices:
        device.counts_dc = False
    return home


def telecom(seed: int = 1, time_zone: str = "Europe/Berlin") -> Home:
    """Return a radio site with every Power-M device type."""
    numbers = _Numbers(52_428_801)
    site = Site(
        place=_BERLIN,
        time_zone=ZoneInfo(time_zone),
        roofs=(Roof(6.0, 40.0, 180.0),),
        ac_limit_w=5000.0,
        load=Load(1500.0, "site"),
        battery=Battery(capacity_wh=9600.0, power_w=3000.0),
        export=False,
        genset=True,
        seed=seed,
    )
    plant = Plant(
        code=numbers.code(),
        name="Radio site Teufelsberg",
        site=site,
        earlier_yield_kwh=1500.2,
        devices=[
            numbers.device(DeviceType.MAINS, "Mains-1"),
            numbers.device(DeviceType.GENSET, "Genset-1"),
            numbers.device(DeviceType.AC_OUTPUT, "AC output-1"),
            numbers.device(DeviceType.LITHIUM_RACK, "Lithium battery rack-1"),
            numbers.device(DeviceType.SSU_GROUP, "SSU group-1"),
            *(
                numbers.device(DeviceType.SSU, f"SSU-{number}", share=1 / 3)
                for number in (1, 2, 3)
            ),
            numbers.device(DeviceType.POWER_CONVERTER, "Power converter-1"),
        ],
    )
    return Home([plant])


def fleet(
    plants: int = 10,
    devices: int = 40,
    seed: int = 1,
    time_zone: str = "Europe/Berlin",
) -> Home:
    """Return many plants that are scaled copies of a few sites."""
    numbers = _Numbers(70_000_000)
    towns = [
        Place(_BERLIN.latitude - 0.7 * town, _BERLIN.longitude - 0.9 * town)
        for town in range(3)
    ]
    homes = [
        _hybrid_site(seed + town, time_zone, place) for town, place in enumerate(towns)
    ]
    works = [
        Site(
            place=place,
            time_zone=ZoneInfo(time_zone),
            roofs=(Roof(60.0, 15.0, 180.0),),
            ac_limit_w=50_000.0,
            load=Load(6_000.0, "farm"),
            seed=seed + town,
        )
        for town, place in enumerate(towns)
    ]
    result = Home()
    for index in range(plants):
        wanted = devices // plants + (index < devices % plants)
        size = round(0.8 + 0.05 * (index * 7 % 13), 2)
        commercial = wanted > 4
        plant = Plant(
            code=numbers.code(),
            name=f"Plant {index + 1:04}",
            site=(works if commercial else homes)[index % 3],
            size=size * (wanted - 2 if commercial else 1),
            earlier_yield_kwh=round(4200.0 * size, 2),
        )
        plant.devices = (
            _commercial_devices(numbers, wanted)
            if commercial
            else _residential_devices(numbers)[:wanted]
        )
        result.plants.append(plant)
    return result


def _residential_devices(numbers: _Numbers) -> list[Device]:
    return [
        _hybrid_inverter(numbers),
        numbers.device(DeviceType.POWER_SENSOR, "Meter-1", "DTSU666-H"),
        numbers.device(DeviceType.BATTERY, "Battery-1", "LUNA2000-7-S1"),
        numbers.device(DeviceType.DONGLE, "Dongle-1", "SDongleA-05"),
    ]


def _commercial_devices(numbers: _Numbers, wanted: int) -> list[Device]:
    inverters = wanted - 2
    return [
        numbers.device(DeviceType.SMART_LOGGER, "SmartLogger-1", "SmartLogger3000"),
        numbers.device(DeviceType.GRID_METER, "Grid meter-1", "DTSD1352"),
        *(
            numbers.device(
                DeviceType.STRING_INVERTER,
                f"Inverter-{number}",
                "SUN2000-50KTL-M3",
                share=1 / inverters,
                mppts=(0, 0, 0, 0),
                strings_per_mppt=2,
                modules_per_string=18,
            )
            for number in range(1, inverters + 1)
        ),
    ]


HOMES: dict[str, Callable[..., Home]] = {
    "apartment": apartment,
    "business": business,
    "emma": emma,
    "family": family,
    "farm": farm,
    "fleet": fleet,
    "high_capacity": high_capacity,
    "low_capacity": low_capacity,
    "midnight_charge": midnight_charge,
    "midnight_discharge": midnight_discharge,
    "storage": storage,
    "telecom": telecom,
    "without_dc": without_dc,
}


def transferred(
    home: Home,
    *,
    codes: bool = False,
    ids: bool = False,
    serial_numbers: bool = True,
    exchanged: bool = False,
) -> Home:
    """Return a home on another server, maybe with other plant codes and device ids.

    `exchanged` devices have the ids of other devices of their plant.
    """

    def devices(plant: Plant) -> list[Device]:
        of_plant = [device.id for device in plant.devices]
        if exchanged:
            of_plant = of_plant[1:] + of_plant[:1]
        return [
            replace(
                device,
                id=new + 5_000_000 if ids else new,
                serial_number=device.serial_number if serial_numbers else None,
            )
            for device, new in zip(plant.devices, of_plant, strict=True)
        ]

    return Home(
        [
            replace(
                plant,
                code=f"NE=9{plant.code[-7:]}" if codes else plant.code,
                devices=devices(plant),
            )
            for plant in home.plants
        ]
    )
