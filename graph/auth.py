"""Who asks: from an `Authorization` header, or a WebSocket's `connection_init`, to a Viewer."""

from collections.abc import Mapping

from starlette.requests import HTTPConnection

from graph.refusals import Unauthenticated
from storage.viewers import Viewer, Viewers


class Authenticator:
    """`local` speaks for whoever brings no key; None where everybody must bring one."""

    def __init__(self, viewers: Viewers, local: Viewer | None) -> None:
        self._viewers = viewers
        self._local = local

    async def viewer(self, connection: HTTPConnection, params: Mapping[str, object]) -> Viewer:
        """Asked for every operation, so a revoked key ends at once. Raises Unauthenticated."""
        given = params.get("Authorization") or connection.headers.get("Authorization")
        if given is None:
            if self._local is not None:
                return self._local
            raise Unauthenticated(
                "Send an API key as `Authorization: Bearer …`; on a WebSocket in the "
                "connection_init payload. `python -m graph keys create` makes one."
            )
        scheme, _, token = str(given).partition(" ")
        viewer = await self._viewers.by_token(token.strip()) if scheme.lower() == "bearer" else None
        if viewer is None:
            raise Unauthenticated("This API key is unknown or revoked.")
        return viewer
