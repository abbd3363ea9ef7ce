import json

from longvid.timeline import json_schema
from tests.planning import longvid


def test_the_schema_is_json() -> None:
    ran = longvid("schema")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == json_schema()
