"""Killed at each point of every operation, on both kinds of set-up: the books balance after it.

`storage/failpoints.py` lets the process die at a named point. Then the service starts again, the
client repeats what it had no answer to, and what the crash left is swept.
"""

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from aiohttp import web
from sqlalchemy import update

from storage.models import DirectUpload, StoredObject, now
from tests.end_to_end import operations as op
from tests.end_to_end.installation import Installation
from tests.end_to_end.service import JSON
from tests.pictures import encoded, jpeg, photo


def large_png() -> bytes:
    """10 MB: more than S3 is sent at a time."""
    return encoded(photo(2000, 1700), "PNG", compress_level=0)


async def acknowledged(installation: Installation) -> str:
    """An image that the service said it has."""
    answer = await installation.service.upload(op.UPLOAD, jpeg(120, 90, seed=1))
    assert answer["uploadImage"]["errors"] == []
    return str(answer["uploadImage"]["image"]["id"])


# ---- upload -----------------------------------------------------------------------------------

# The first image, which is acknowledged, passes each point once or twice before.
UPLOAD = [
    "arrival.half_read@2",
    "object.named@3",
    "object.half_written",
    "object.written@3",
    "image.inserted@2",
    "image.kept@2",
]


@pytest.mark.parametrize("failpoint", UPLOAD)
async def test_an_upload_that_died_is_one_image_when_it_is_repeated(
    failpoint: str, installation: Installation
) -> None:
    data = jpeg(120, 90, seed=2)
    if failpoint == "object.half_written":
        data = large_png()
        failpoint += "" if installation.is_served else "@3"
    installation.start(failpoint)
    first = await acknowledged(installation)

    async def upload() -> JSON:
        return await installation.service.upload(op.UPLOAD, data, idempotencyKey="again")

    await installation.dies(upload())
    installation.start()
    before = await installation.images()
    answer = (await upload())["uploadImage"]

    assert answer["errors"] == []
    assert before.keys() - {answer["image"]["id"]} == {first}
    assert (await installation.images()).keys() == {first, answer["image"]["id"]}
    await installation.balance(4)


async def test_an_upload_that_died_and_is_not_repeated_leaves_nothing(
    installation: Installation,
) -> None:
    installation.start("object.written@3")
    first = await acknowledged(installation)
    await installation.dies(installation.service.upload(op.UPLOAD, jpeg(120, 90, seed=2)))

    installation.start()

    await installation.balance(2)
    assert (await installation.images()).keys() == {first}


# ---- direct upload ----------------------------------------------------------------------------


async def create_upload(installation: Installation, data: bytes) -> JSON:
    input = {
        "filename": "a.jpg",
        "mimeType": "image/jpeg",
        "byteSize": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "idempotencyKey": "again",
    }
    answer = (await installation.service.ask(op.CREATE_UPLOAD, input=input))["createUpload"]
    assert answer["errors"] == []
    return dict(answer)


async def send(upload: JSON, data: bytes) -> httpx.Response:
    target = upload["target"]
    headers = {header["name"]: header["value"] for header in target["headers"]}
    async with httpx.AsyncClient() as client:
        return await client.request(target["method"], target["url"], content=data, headers=headers)


async def expire_uploads(installation: Installation) -> None:
    """As if a day had passed."""
    long_ago = now() - timedelta(days=1)
    async with installation.doctor() as (_, database), database.writing() as session:
        await session.exec(update(DirectUpload).values(expires_at=long_ago))
        await session.exec(update(StoredObject).values(expires_at=long_ago))


@pytest.mark.parametrize("failpoint", ["direct_upload.created", "direct_upload.received"])
async def test_a_direct_upload_that_died_before_it_was_complete_can_go_on(
    failpoint: str, installation: Installation
) -> None:
    data = jpeg(120, 90, seed=2)
    installation.start(failpoint)

    if failpoint == "direct_upload.created":
        await installation.dies(create_upload(installation, data))
    else:
        upload = await create_upload(installation, data)
        if installation.is_served:  # past the service, so that we kill it ourselves
            assert (await send(upload, data)).status_code == 200
            installation.service.running.kill()
        else:
            await installation.dies(send(upload, data))
    installation.start()
    upload = await create_upload(installation, data)
    await send(upload, data)
    answer = await installation.service.ask(op.COMPLETE_UPLOAD, id=upload["uploadId"])

    assert answer["completeUpload"]["errors"] == []
    assert (await installation.images()).keys() == {answer["completeUpload"]["image"]["id"]}
    await installation.balance(3)  # what was sent is kept until its link expires


async def test_a_direct_upload_that_is_abandoned_leaves_nothing(installation: Installation) -> None:
    data = jpeg(120, 90, seed=2)
    installation.start()
    upload = await create_upload(installation, data)
    assert (await send(upload, data)).status_code == 200
    installation.service.running.kill()

    await expire_uploads(installation)
    installation.start()

    await installation.balance(0)
    assert await installation.images() == {}


@pytest.mark.parametrize(
    "failpoint",
    ["object.half_written", "image.kept", "direct_upload.kept"],
)
async def test_a_direct_upload_that_died_while_it_was_completed_is_one_image(
    failpoint: str, installation: Installation
) -> None:
    data = jpeg(120, 90, seed=2)
    if failpoint == "object.half_written":
        data = large_png()
        failpoint += "" if installation.is_served else "@2"  # what is sent to us is put, too
    installation.start(failpoint)
    upload = await create_upload(installation, data)
    assert (await send(upload, data)).status_code == 200

    async def complete() -> JSON:
        return await installation.service.ask(op.COMPLETE_UPLOAD, id=upload["uploadId"])

    await installation.dies(complete())
    installation.start()
    answers = [(await complete())["completeUpload"] for _ in range(2)]

    assert [answer["errors"] for answer in answers] == [[], []]
    ids = {answer["image"]["id"] for answer in answers}
    assert (await installation.images()).keys() == ids
    assert len(ids) == 1
    await installation.balance(3)


# ---- delete -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failpoint", "is_deleted"), [("trash.deleting", False), ("trash.deleted", True)]
)
async def test_a_deletion_that_died_happened_or_did_not(
    failpoint: str, is_deleted: bool, installation: Installation
) -> None:
    installation.start(failpoint)
    id = await acknowledged(installation)

    await installation.dies(installation.service.ask(op.DELETE, id=id))
    installation.start()

    assert (await installation.images()).keys() == (set() if is_deleted else {id})
    assert (await installation.images(isDeleted=True)).keys() == ({id} if is_deleted else set())
    await installation.balance(2)


@pytest.mark.parametrize("failpoint", ["purge.doomed", "object.deleted"])
async def test_a_purge_that_died_is_done_by_the_sweep_and_nothing_comes_back(
    failpoint: str, installation: Installation
) -> None:
    installation.start(failpoint)
    id = await acknowledged(installation)
    await installation.service.ask(op.DELETE, id=id)

    await installation.dies(installation.service.ask(op.PURGE, ids=[id]))
    installation.start()

    assert await installation.images() == {}
    assert await installation.images(isDeleted=True) == {}
    await installation.balance(0)


# ---- attach -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failpoint", "is_attached"), [("attach.writing", False), ("attach.committed", True)]
)
async def test_an_attachment_that_died_is_there_once_when_it_is_repeated(
    failpoint: str, is_attached: bool, installation: Installation
) -> None:
    installation.start(failpoint)
    image = await acknowledged(installation)
    saved = await installation.service.ask(op.SAVE_CONTENT, input={"externalId": "post"})
    content = saved["saveContent"]["content"]["id"]

    async def attach() -> JSON:
        input = {"contentId": content, "imageIds": [image], "idempotencyKey": "again"}
        return await installation.service.ask(op.ATTACH, input=input)

    async def attached() -> list[str]:
        read = await installation.service.ask(op.READ_CONTENT, id=content)
        return [each["image"]["id"] for each in read["content"]["attachments"]]

    await installation.dies(attach())
    installation.start()

    assert await attached() == ([image] if is_attached else [])
    await attach()
    assert await attached() == [image]
    await installation.balance(2)


# ---- rendition --------------------------------------------------------------------------------


@pytest.mark.parametrize("failpoint", ["object.written@3", "rendition.kept"])
async def test_a_rendition_that_died_is_made_when_it_is_asked_for_again(
    failpoint: str, installation: Installation
) -> None:
    installation.start(failpoint)
    id = await acknowledged(installation)
    url = (await installation.service.ask(op.RENDITION, id=id, width=50))["image"]["rendition"][
        "url"
    ]

    await installation.dies(installation.service.fetch(url))
    installation.start()
    answer = await installation.service.fetch(url)

    assert answer.status_code == 200
    await installation.balance(3)
    assert (await installation.images()).keys() == {id}


# ---- import -----------------------------------------------------------------------------------


@pytest.fixture
async def elsewhere(installation: Installation) -> AsyncIterator[str]:
    """The URL of a picture on another server."""

    async def picture(_: web.Request) -> web.Response:
        return web.Response(body=jpeg(120, 90, seed=2), content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/picture.jpg", picture)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = int(installation.service.settings["IMPORT_PORTS"])
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}/picture.jpg"
    await runner.cleanup()


@pytest.mark.parametrize("failpoint", ["arrival.half_read", "object.written", "image.kept"])
async def test_an_import_that_died_is_one_image_when_it_is_repeated(
    failpoint: str, installation: Installation, elsewhere: str
) -> None:
    installation.start(failpoint)

    async def fetch() -> JSON:
        input = {"url": elsewhere, "idempotencyKey": "again"}
        return await installation.service.ask(op.IMPORT, input=input)

    await installation.dies(fetch())
    installation.start()
    answer = (await fetch())["importImage"]

    assert answer["errors"] == []
    assert (await installation.images()).keys() == {answer["image"]["id"]}
    await installation.balance(2)
