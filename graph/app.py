"""The web application: routes, and a lifespan that opens the parts."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from graph.auth import Authenticator
from graph.config import Environment, Settings
from graph.context import Context
from graph.delivery import Again, Delivery, SignedUrls
from graph.operations import Limits
from graph.parts import Parts, open_parts
from graph.receiving import Receiving
from graph.refusals import RETRY_AFTER
from graph.schema import create_schema
from graph.view import TransportLimits, View
from storage.renditions import Served

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0


def create_app(settings: Settings, *, works: bool = True) -> Starlette:
    """The API, and the worker in it if `works`. Set `app.state.shutdown` to end open streams."""
    shutdown = asyncio.Event()
    service = _Service(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_parts(settings, works=works) as parts:
            service.open(parts)
            ending = asyncio.create_task(_close_on(shutdown, parts), name="shutdown")
            try:
                yield
            finally:
                ending.cancel()

    view = View(
        create_schema(
            Limits(
                max_tokens=settings.max_tokens,
                max_depth=settings.max_depth,
                max_values=settings.max_values,
                max_cost=settings.max_cost,
            )
        ),
        context=service.context,
        limits=TransportLimits(
            max_upload_bytes=settings.max_upload_bytes + 2**20,
            max_subscriptions=settings.max_subscriptions,
        ),
        shutdown=shutdown,
        allowed_origins=settings.allowed_origins,
        graphql_ide="graphiql" if settings.environment is Environment.DEVELOPMENT else None,
    )
    app = Starlette(
        routes=[
            Route("/graphql", view),
            WebSocketRoute("/graphql", view),
            Route("/images/{id:uuid}/{digest}/{name}", service.image, methods=["GET"]),
            Route("/trash/{id:uuid}/{digest}/{name}", service.trashed, methods=["GET"]),
            Route("/uploads/{id:uuid}", service.upload, methods=["PUT"]),
            Route("/previews/{id:uuid}/{name}", service.preview, methods=["GET"]),
            Route("/healthz", _alive, methods=["GET"]),
            Route("/readyz", service.ready, methods=["GET"]),
        ],
        middleware=_middleware(settings),
        lifespan=lifespan,
    )
    app.middleware_stack = Again(app.build_middleware_stack(), service.at_hand)
    app.state.shutdown = shutdown
    return app


class _Service:
    """The handlers, which find the parts once the lifespan has opened them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parts: Parts | None = None

    def open(self, parts: Parts) -> None:
        self._parts = parts
        self._urls = SignedUrls(self._settings.base_url, self._settings.url_keys())
        self._delivery = Delivery(parts.renditions, parts.store, self._urls)
        self._receiving = Receiving(
            parts.direct_uploads, self._urls, max_bytes=self._settings.max_upload_bytes
        )
        self._authenticator = Authenticator(parts.viewers, parts.local_viewer)

    async def context(self, connection: HTTPConnection, params: Mapping[str, object]) -> Context:
        assert self._parts is not None  # the lifespan has begun
        parts = self._parts
        return Context(
            await self._authenticator.viewer(connection, params),
            library=parts.library,
            versions=parts.versions,
            trash=parts.trash,
            direct_uploads=parts.direct_uploads,
            imports=parts.imports,
            contents=parts.contents,
            generations=parts.generations,
            changes=parts.changes,
            ledger=parts.ledger,
            studio=parts.studio,
            urls=self._urls,
        )

    def at_hand(self, place: str) -> Served | None:
        assert self._parts is not None  # the lifespan has begun
        return self._parts.renditions.at_hand(place)

    async def image(self, request: Request) -> Response:
        return await self._delivery.image(request)

    async def trashed(self, request: Request) -> Response:
        return await self._delivery.image(request, in_trash=True)

    async def upload(self, request: Request) -> Response:
        return await self._receiving.upload(request)

    async def preview(self, request: Request) -> Response:
        return await self._delivery.preview(request)

    async def ready(self, request: Request) -> Response:
        """Whether work can be done now: database and store answer within a second each."""
        assert self._parts is not None  # the lifespan has begun
        checks = {"database": self._parts.database.check, "objects": self._parts.store.check}
        faults = {}
        for name, check in checks.items():
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await check()
            except Exception as fault:
                log.warning("ready.failed part=%s reason=%r", name, fault)
                faults[name] = "unavailable"
        status = {name: faults.get(name, "ok") for name in checks}
        return JSONResponse(
            status,
            status_code=503 if faults else 200,
            headers={"Cache-Control": "no-store"}
            | ({"Retry-After": str(RETRY_AFTER)} if faults else {}),
        )


async def _alive(request: Request) -> Response:
    return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})


async def _close_on(shutdown: asyncio.Event, parts: Parts) -> None:
    """End the streams before the server waits for its connections, not after."""
    await shutdown.wait()
    parts.generations.hub.close()


def _middleware(settings: Settings) -> list[Middleware]:
    middleware = []
    if settings.has_local_viewer:
        # Without a key the address is all that protects the library, so a foreign name that
        # somebody made point to this machine must not get in.
        own = urlsplit(settings.base_url).hostname or settings.host
        hosts = ["localhost", "127.0.0.1", "[::1]", "::1", settings.host, own]
        middleware.append(
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
        )
    if settings.allowed_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.allowed_origins,
                allow_methods=["GET", "POST", "PUT"],
                allow_headers=["Authorization", "Content-Type", "GraphQL-Require-Preflight"],
                max_age=600,
            )
        )
    return middleware
