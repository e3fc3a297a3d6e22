"""The event goes to the server as everything else of Prefect does."""

from __future__ import annotations

import ssl

import certifi
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    PREFECT_API_URL,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    temporary_settings,
)

from tasks import landed


def test_a_server_with_certificates_and_headers_of_its_own_is_reached():
    own = {
        PREFECT_API_URL: "https://host/api",
        PREFECT_API_SSL_CERT_FILE: certifi.where(),
        PREFECT_CLIENT_CUSTOM_HEADERS: {"X-Proxy": "key"},
    }
    with temporary_settings(own), landed._client() as client:
        assert client.headers["x-proxy"] == "key"
        assert isinstance(landed._certificates(), ssl.SSLContext)
    with temporary_settings({PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}):
        assert landed._certificates() is False
