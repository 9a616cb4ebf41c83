"""Takes the bytes of direct uploads, where the store cannot be sent them itself.

The request is the one that `createUpload` told: PUT to a signed URL, with the announced type and
size. It works once.
"""

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from graph.bodies import Body
from graph.delivery import SignedUrls
from graph.refusals import RETRY_AFTER, Refusal
from storage.direct_uploads import DirectUploads
from storage.errors import Conflict, LibraryError, NotFound, TooLarge, Unavailable

STALL_SECONDS = 30


class Receiving:
    """The route. Every answer is a short sentence, as S3 answers in kind."""

    def __init__(self, direct_uploads: DirectUploads, urls: SignedUrls, *, max_bytes: int) -> None:
        self._direct_uploads = direct_uploads
        self._urls = urls
        self._max_bytes = max_bytes

    async def upload(self, request: Request) -> Response:
        body = Body(request.receive, STALL_SECONDS)
        status, message = await self._receive(request, body)
        if status >= 400 and status != 408:
            await body.drain()
        headers = {"Cache-Control": "no-store"}
        if status == 503:
            headers["Retry-After"] = str(RETRY_AFTER)
        if not body.complete:
            headers["Connection"] = "close"
        return PlainTextResponse(message, status, headers)

    async def _receive(self, request: Request, body: Body) -> tuple[int, str]:
        if self._urls.expiry(request.url.path, dict(request.query_params)) is None:
            return 403, "This link is not valid, or not any more. Create a new upload."
        try:
            body.expect(self._max_bytes, request.headers.get("content-length"))
            sent_as = request.headers.get("content-type", "")
            await self._direct_uploads.receive(
                request.path_params["id"], _Chunks(body), media_type=sent_as
            )
        except Refusal as refusal:
            return refusal.status, str(refusal)
        except ClientDisconnect:
            return 400, "The connection was lost. Send the file again."
        except LibraryError as failure:
            return _status(failure), failure.message
        return 200, "Complete the upload now."


def _status(failure: LibraryError) -> int:
    match failure:
        case NotFound():
            return 404
        case Conflict():
            return 412
        case TooLarge():
            return 413
        case Unavailable():
            return 503
        case _:
            return 400


class _Chunks:
    """A body as a Source, read as it comes."""

    def __init__(self, body: Body) -> None:
        self._body = body

    async def read(self, size: int = -1, /) -> bytes:
        while not self._body.complete:
            message = await self._body.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            if chunk := message.get("body", b""):
                return bytes(chunk)
        return b""
