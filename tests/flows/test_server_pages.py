"""What a server hands out in pages is read to its end."""

from __future__ import annotations

import pytest

from flows.server_pages import read_all


class Client:
    """Stands for Prefect's: hands out what it has, 200 at a time."""

    def __init__(self, count):
        self.rows = [{"name": str(place)} for place in range(count)]

    def request(self, method, path, json):
        assert (method, path, json["tags"]) == ("POST", "/deployments/filter", ["longtail"])
        self.page = self.rows[json["offset"] :][: min(json["limit"], 200)]
        return self

    def json(self):
        return self.page


@pytest.mark.parametrize("count", [0, 199, 200, 401])
def test_every_page_is_read(count):
    client = Client(count)
    assert read_all(client, "/deployments/filter", tags=["longtail"]) == client.rows
