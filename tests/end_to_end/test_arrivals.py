"""Pictures by every door: straight to the store, from the web, in place of another; and back."""

import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import trustme
from aiohttp import web

from tests import hostile
from tests.end_to_end import operations as op
from tests.end_to_end.service import JSON, Service, free_port
from tests.pictures import jpeg, opened, png

ORIGIN = "https://studio.example.org"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[Service]:
    """A service that may fetch from this machine's own servers, on two ports."""
    folder = tmp_path_factory.mktemp("arrivals")
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    service = Service(
        folder,
        IMPORT_NETWORKS="127.0.0.0/8",
        IMPORT_PORTS=f"{free_port()},{free_port()}",
        ALLOWED_ORIGINS=ORIGIN,
        MAX_UPLOAD_BYTES="1000000",
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
        service.start()
    yield service
    service.stop()


def errors_of(payload: JSON) -> list[str]:
    return [error["code"] for error in payload["errors"]]


# ---- straight to the store --------------------------------------------------------------------


async def create(service: Service, data: bytes, **changes: object) -> JSON:
    input = {"filename": "beach.jpg", "mimeType": "image/jpeg", "byteSize": len(data)}
    answer = await service.ask(op.CREATE_UPLOAD, input=input | changes)
    return dict(answer["createUpload"])


async def put(url: str, data: bytes, headers: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.put(url, content=data, headers=headers)


def headers_of(upload: JSON) -> dict[str, str]:
    return {header["name"]: header["value"] for header in upload["target"]["headers"]}


async def test_a_file_is_sent_by_the_link_and_becomes_an_image(service: Service) -> None:
    data = jpeg(200, 100, seed=10)
    digest = hashlib.sha256(data).hexdigest()
    upload = await create(service, data, sha256=digest, title="Beach", tags=["sea"])

    early = await service.ask(op.COMPLETE_UPLOAD, id=upload["uploadId"])
    sent = await put(upload["target"]["url"], data, headers_of(upload))
    again = await put(upload["target"]["url"], data, headers_of(upload))
    done = await service.ask(op.COMPLETE_UPLOAD, id=upload["uploadId"])
    repeated = await service.ask(op.COMPLETE_UPLOAD, id=upload["uploadId"])

    assert errors_of(early["completeUpload"]) == ["CONFLICT"]
    assert (sent.status_code, again.status_code) == (200, 412)
    image = done["completeUpload"]["image"]
    assert (image["width"], image["title"], image["tags"]) == (200, "Beach", ["sea"])
    assert repeated["completeUpload"]["image"]["id"] == image["id"]
    assert opened((await service.fetch(image["url"])).content).size == (200, 100)


@pytest.mark.parametrize(
    ("data", "changes", "status"),
    [
        (jpeg() + b"!", {}, 413),
        (jpeg()[:-1], {}, 400),
        (jpeg(), {"Content-Type": "text/html"}, 400),
        (b"", {}, 400),
    ],
)
async def test_the_link_takes_nothing_but_the_announced_file(
    data: bytes, changes: dict[str, str], status: int, service: Service
) -> None:
    upload = await create(service, jpeg())

    answer = await put(upload["target"]["url"], data, headers_of(upload) | changes)

    assert answer.status_code == status
    assert answer.text.endswith(".")
    early = await service.ask(op.COMPLETE_UPLOAD, id=upload["uploadId"])
    assert errors_of(early["completeUpload"]) == ["CONFLICT"]


async def test_a_link_that_was_changed_takes_nothing(service: Service) -> None:
    upload = await create(service, jpeg())
    url = httpx.URL(upload["target"]["url"])
    other = await create(service, jpeg())

    for forged in (
        url.copy_set_param("signature", "x"),
        url.copy_set_param("expires", str(int(url.params["expires"]) + 1)),
        url.copy_with(path=httpx.URL(other["target"]["url"]).path),
        url.copy_remove_param("signature"),
    ):
        answer = await put(str(forged), jpeg(), headers_of(upload))
        assert answer.status_code == 403


async def test_a_page_of_ours_may_send_from_a_browser_and_others_may_not(service: Service) -> None:
    upload = await create(service, jpeg())
    asked = {
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }

    async with httpx.AsyncClient() as client:
        ours = await client.options(upload["target"]["url"], headers={"Origin": ORIGIN} | asked)
        others = await client.options(
            upload["target"]["url"], headers={"Origin": "https://evil.example"} | asked
        )

    assert ours.status_code == 200
    assert ours.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "PUT" in ours.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Origin" not in others.headers


async def test_what_cannot_come_in_is_refused_before_it_is_sent(service: Service) -> None:
    svg = await create(service, b"<svg/>", mimeType="image/svg+xml")
    large = await create(service, jpeg(), byteSize=1_000_001)

    assert errors_of(svg) == ["UNSUPPORTED_MEDIA_TYPE"]
    assert errors_of(large) == ["TOO_LARGE"]
    assert svg["target"] is None
    assert svg["uploadId"] is None


@pytest.mark.parametrize("name", sorted(hostile.LIES))
async def test_what_is_no_picture_is_refused_by_this_door_too(name: str, service: Service) -> None:
    data = hostile.LIES[name]
    upload = await create(service, data)
    if upload["target"]:
        await put(upload["target"]["url"], data, headers_of(upload))
        done = await service.ask(op.COMPLETE_UPLOAD, id=upload["uploadId"])
        refused = done["completeUpload"]
    else:
        refused = upload

    expected = "TOO_LARGE" if len(data) > 1_000_000 else "UNSUPPORTED_MEDIA_TYPE"
    assert errors_of(refused) == [expected]


# ---- from the web -----------------------------------------------------------------------------


class Elsewhere:
    """Another web server, over http or https, that has what the test gives it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.hits = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.hits += 1
        name = request.match_info["name"]
        if name == "moved":
            raise web.HTTPFound("http://localhost:22/")
        if name not in self.files:
            raise web.HTTPNotFound
        return web.Response(body=self.files[name], content_type="image/jpeg")


@pytest.fixture(params=["http", "https"])
async def elsewhere(
    request: pytest.FixtureRequest, service: Service, authority: trustme.CA
) -> AsyncIterator[Elsewhere]:
    plain, secure = service.settings["IMPORT_PORTS"].split(",")
    tls = None
    if request.param == "https":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(tls)
    port = int(plain if tls is None else secure)
    server = Elsewhere(f"{request.param}://localhost:{port}")
    app = web.Application()
    app.router.add_get("/{name}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    yield server
    await runner.cleanup()


async def fetch(service: Service, url: str, **input: object) -> JSON:
    answer = await service.ask(op.IMPORT, input={"url": url} | input)
    return dict(answer["importImage"])


async def test_a_picture_comes_from_the_web_under_its_name(
    service: Service, elsewhere: Elsewhere
) -> None:
    seed = len(elsewhere.url)
    elsewhere.files["sea side.jpg"] = jpeg(160, 90, seed=seed)

    key = f"import-{seed}"
    made = await fetch(service, f"{elsewhere.url}/sea%20side.jpg", tags=["web"], idempotencyKey=key)
    again = await fetch(
        service, f"{elsewhere.url}/sea%20side.jpg", tags=["web"], idempotencyKey=key
    )

    image = made["image"]
    assert (image["origin"], image["filename"]) == ("IMPORTED", "sea side.jpg")
    assert (image["width"], image["tags"]) == (160, ["web"])
    assert again["image"]["id"] == image["id"]
    assert elsewhere.hits == 1


async def test_whatever_is_wrong_with_a_url_it_is_told_in_the_same_words(
    service: Service, elsewhere: Elsewhere
) -> None:
    told = {
        json.dumps((await fetch(service, url))["errors"])
        for url in (
            f"{elsewhere.url}/missing.jpg",
            f"{elsewhere.url}/moved",
            "http://localhost:22/",  # somebody may listen there, or not
            "http://169.254.169.254/latest/meta-data/",
            "http://[::ffff:10.0.0.1]/",
            "http://nobody.invalid/",
            "file:///etc/passwd",
            "not a url",
        )
    }

    (errors,) = told
    assert json.loads(errors)[0]["code"] == "UNREACHABLE_URL"


async def test_what_is_no_picture_or_too_large_is_refused_from_the_web_too(
    service: Service, elsewhere: Elsewhere
) -> None:
    elsewhere.files["page.jpg"] = b"<html>" * 100
    elsewhere.files["large.jpg"] = bytes(1_000_001)

    page = await fetch(service, f"{elsewhere.url}/page.jpg")
    large = await fetch(service, f"{elsewhere.url}/large.jpg")

    assert errors_of(page) == ["UNSUPPORTED_MEDIA_TYPE"]
    assert errors_of(large) == ["TOO_LARGE"]


# ---- in place of another ----------------------------------------------------------------------


async def test_an_image_gets_another_file_and_its_earlier_one_can_still_be_seen(
    service: Service,
) -> None:
    image = (await service.upload(op.UPLOAD, jpeg(200, 100, seed=20)))["uploadImage"]["image"]

    replaced = await service.replace(op.REPLACE, image["id"], png(90, 60, seed=21), "new.png")

    after = replaced["image"]
    assert (after["id"], after["version"], after["width"]) == (image["id"], 2, 90)
    assert after["filename"] == "new.png"
    seen = (await service.ask(op.VERSIONS, id=image["id"]))["image"]
    (version,) = seen["versions"]
    assert (version["width"], version["sha256"]) == (200, image["sha256"])
    assert opened((await service.fetch(seen["url"])).content).size == (90, 60)
    assert opened((await service.fetch(version["url"])).content).size == (200, 100)
    # Whoever has the link from before still gets what it showed.
    assert opened((await service.fetch(image["url"])).content).size == (200, 100)


# ---- the trash --------------------------------------------------------------------------------


async def test_an_image_goes_to_the_trash_and_comes_back_into_its_post(service: Service) -> None:
    image = (await service.upload(op.UPLOAD, jpeg(200, 100, seed=30)))["uploadImage"]["image"]
    post = (await service.ask(op.SAVE_CONTENT, input={"externalId": "trash"}))["saveContent"]
    content_id = post["content"]["id"]
    await service.ask(op.ATTACH, input={"contentId": content_id, "imageIds": [image["id"]]})
    ids = [image["id"]]

    asked = (await service.ask(op.DELETE_MANY, ids=ids, dryRun=True))["deleteImages"]["results"]
    refused = (await service.ask(op.DELETE_MANY, ids=ids))["deleteImages"]["results"]
    deleted = (await service.ask(op.DELETE_MANY, ids=ids, force=True))["deleteImages"]["results"]

    for (result,) in (asked, refused):
        assert result["error"]["code"] == "IN_USE"
        assert result["usages"] == [{"content": {"externalId": "trash"}}]
    assert deleted[0]["deleted"]
    assert deleted[0]["image"]["deletedAt"]
    old_link = await service.fetch(image["url"])
    new_link = await service.fetch(deleted[0]["image"]["url"])
    assert (old_link.status_code, new_link.status_code) == (404, 200)
    empty = await service.ask(op.READ_CONTENT, id=content_id)
    assert empty["content"]["attachments"] == []

    restored = (await service.ask(op.RESTORE, ids=ids))["restoreImages"]["results"]

    assert restored[0]["image"]["deletedAt"] is None
    assert (await service.fetch(image["url"])).status_code == 200
    assert (await service.fetch(deleted[0]["image"]["url"])).status_code == 404
    again = await service.ask(op.READ_CONTENT, id=content_id)
    assert [each["image"]["id"] for each in again["content"]["attachments"]] == ids


async def test_of_many_images_each_has_its_own_result(service: Service) -> None:
    image = (await service.upload(op.UPLOAD, jpeg(200, 100, seed=31)))["uploadImage"]["image"]
    ids = ["nonsense", image["id"], "SW1hZ2U6eA=="]

    deleted = (await service.ask(op.DELETE_MANY, ids=ids))["deleteImages"]["results"]
    early = (await service.ask(op.PURGE, ids=ids[:1]))["purgeImages"]["results"]
    purged = (await service.ask(op.PURGE, ids=ids))["purgeImages"]["results"]

    assert [result["id"] for result in deleted] == ids
    assert [result["deleted"] for result in deleted] == [False, True, False]
    assert early[0]["error"]["code"] == "NOT_FOUND"
    assert [result["deleted"] for result in purged] == [False, True, False]
    assert (await service.ask(op.RENDITION, id=image["id"], width=50))["image"] is None


async def test_the_same_bytes_again_offer_what_is_in_the_trash(service: Service) -> None:
    data = jpeg(200, 100, seed=32)
    old = (await service.upload(op.UPLOAD, data))["uploadImage"]["image"]
    await service.ask(op.DELETE, id=old["id"])

    again = (await service.upload(op.UPLOAD, data))["uploadImage"]
    refused = (await service.ask(op.RESTORE, ids=[old["id"]]))["restoreImages"]["results"]

    assert again["image"]["id"] != old["id"]
    assert again["duplicateOf"] == {"id": old["id"]}
    assert refused[0]["error"]["__typename"] == "DuplicateImageError"


async def test_too_many_images_at_a_time_are_refused_as_a_whole(service: Service) -> None:
    answer = (await service.ask(op.DELETE_MANY, ids=["x"] * 101))["deleteImages"]

    assert answer["results"] == []
    assert errors_of(answer) in (["INVALID"], ["TOO_LONG"])
