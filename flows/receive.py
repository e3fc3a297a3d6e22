"""The receiver: an address for each annotation tool's webhook, answered at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from flows.config import load_config
from longtail.errors import ConfigError
from tasks.receiving import Receiver, ReceiverConfig, Source
from tasks.webhooks import is_allowed, needs_body

_BODY_SECONDS = 20.0
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def create_app(receiver: Receiver) -> FastAPI:
    """The application; it fetches as long as it runs.

    Args:
        receiver: its sources.
    """

    @contextlib.asynccontextmanager
    async def fetching(_: FastAPI) -> AsyncIterator[None]:
        receiver.start()
        yield
        await run_in_threadpool(receiver.stop)

    app = FastAPI(
        title="Longtail receiver", lifespan=fetching, docs_url=None, redoc_url=None,
        openapi_url=None,
    )  # fmt: skip

    @app.post("/webhooks/{name}", status_code=202)
    async def take(name: str, request: Request) -> dict[str, str]:
        source = receiver.sources.get(name)
        if source is None:
            raise HTTPException(404, "no such source")
        call = await _check(source, request, receiver.config.max_body_bytes)
        if not await run_in_threadpool(source.take, call):
            raise HTTPException(409, "this call was taken already")
        return {"status": "taken"}

    @app.get("/health")
    def health() -> dict[str, object]:
        sources = {name: source.health() for name, source in receiver.sources.items()}
        failing = any(one["error"] for one in sources.values())
        return {"status": "failing" if failing else "well", "sources": sources}

    return app


async def _check(source: Source, request: Request, limit: int) -> str | None:
    """Refuse a call that is not the source's, or no JSON; its id, where that was signed.

    Raises:
        HTTPException: 401, 408, 413, 415 or 400.
    """
    headers, now = dict(request.headers), time.time()
    if not needs_body(source.settings, headers):
        _check_sender(source, headers, b"", now)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise HTTPException(415, "expected application/json")
    body = await _read(request, limit)
    if needs_body(source.settings, headers):
        _check_sender(source, headers, body, now)
    try:
        json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is not JSON") from error
    return headers.get("webhook-id") if source.settings.kind == "argilla" else None


def _check_sender(source: Source, headers: dict[str, str], body: bytes, now: float) -> None:
    if not is_allowed(source.settings, source.secret, headers, body, now):
        raise HTTPException(401, "token or signature is missing, wrong or too old")


async def _read(request: Request, limit: int) -> bytes:
    """The body; refused as soon as it is too long, whatever it says of its length."""
    said = request.headers.get("content-length", "0")
    if not said.isdigit() or int(said) > limit:
        raise HTTPException(413, f"more than {limit} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):  # nobody has said yet who he is
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise HTTPException(413, f"more than {limit} bytes")
    except TimeoutError as error:
        raise HTTPException(408, "the call takes too long") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the call broke off") from error
    return bytes(body)


def load_receiver(file: str) -> Receiver:
    """The receiver that a YAML file describes.

    Raises:
        ConfigError: a key is wrong, or a secret is not in the environment.
    """
    config = load_config(file, model=ReceiverConfig)
    for name in config.sources:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{file}: sources.{name}: lower-case letters, digits, '-' and '_'")
    return Receiver(config)


def run_receiver(file: str, *, host: str, port: int) -> int:
    """Serve until ended from outside.

    Args:
        file: YAML of a ``ReceiverConfig``.
        host: address to listen on.
        port: port to listen on.

    Raises:
        ConfigError: the file or the environment is not as it must be.
    """
    import uvicorn

    app = create_app(load_receiver(file))
    uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=10)
    return 0
