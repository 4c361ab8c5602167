import json, orjson
from .conftest import Account
from custom_components.smartpvms.const import DOMAIN
async def test_dump(added: Account, hass_storage) -> None:
    for _ in range(30):
        await added.poll()
    await added.restart()
    file = hass_storage[f"{DOMAIN}.{added.entry.entry_id}"]
    open("/tmp/l18/file.json","wb").write(orjson.dumps(file, option=orjson.OPT_INDENT_2))
