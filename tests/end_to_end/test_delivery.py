"""A picture that is asked for again comes as it came before, by a shorter way, while it may."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.end_to_end import operations as op
from tests.end_to_end.service import Service, running
from tests.pictures import encoded, jpeg, opened, photo

ORIGIN = "https://cms.example"


@pytest.fixture(scope="module", params=[None, "0"], ids=["from memory", "from disk"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    more = {} if request.param is None else {"RENDITION_MEMORY_BYTES": request.param}
    folder = tmp_path_factory.mktemp("delivery")
    with running(Service(folder, ALLOWED_ORIGINS=ORIGIN, **more)) as service:
        yield service


async def linked(
    service: Service, seed: int, format: str = "JPEG", width: int = 200
) -> tuple[str, str]:
    """An image's id, and the link to a rendition of it that was opened twice."""
    answer = (await service.upload(op.UPLOAD, jpeg(800, 600, seed=seed)))["uploadImage"]
    id = str(answer["image"]["id"])
    asked = await service.ask(op.RENDITION, id=id, width=width, format=format)
    link = str(asked["image"]["rendition"]["url"])
    for _ in range(2):
        assert httpx.get(link).status_code == 200
    return id, link


def headers_of(response: httpx.Response) -> dict[str, str]:
    """All but what the clock changes."""
    headers = {name: value for name, value in response.headers.items() if name != "date"}
    age = headers.pop("cache-control")
    assert age.startswith("public, max-age=")
    assert age.endswith(", immutable")
    return headers


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"Accept": "image/avif"},
        {"Origin": ORIGIN},
        {"Origin": "https://elsewhere.example"},
    ],
    ids=["plain", "AVIF", "from an origin of ours", "from another"],
)
async def test_whatever_came_before_comes_again_with_every_header(
    service: Service, more: dict[str, str]
) -> None:
    _, link = await linked(service, seed=1, format="AUTO")

    answers = [httpx.get(link, headers=more) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].content == answers[1].content == answers[2].content
    assert headers_of(answers[0]) == headers_of(answers[1]) == headers_of(answers[2])
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert answer.headers["Vary"] == "Accept, Origin"
        allowed = answer.headers.get("Access-Control-Allow-Origin")
        assert allowed == (ORIGIN if more.get("Origin") == ORIGIN else None)


async def test_each_client_gets_the_format_it_accepts(service: Service) -> None:
    _, link = await linked(service, seed=2, format="AUTO")

    types = [
        httpx.get(link, headers={"Accept": accept}).headers["Content-Type"]
        for accept in ("image/avif", "image/webp", "*/*") * 2
    ]

    assert types == ["image/avif", "image/webp", "image/jpeg"] * 2


async def test_whoever_has_it_gets_no_bytes(service: Service) -> None:
    _, link = await linked(service, seed=3)
    whole = httpx.get(link)
    etag = whole.headers["ETag"]

    answers = [
        httpx.get(link, headers={"If-None-Match": tags})
        for tags in (etag, f'"other", W/{etag}', "*", '"other"')
    ]

    assert [answer.status_code for answer in answers] == [304, 304, 304, 200]
    assert [answer.content for answer in answers] == [b"", b"", b"", whole.content]
    of_bytes = {"content-length", "accept-ranges"}
    expected = {k: v for k, v in headers_of(whole).items() if k not in of_bytes}
    for answer in answers[:3]:
        assert headers_of(answer) == expected


async def test_a_head_and_a_range_are_answered_as_ever(service: Service) -> None:
    _, link = await linked(service, seed=4)
    whole = httpx.get(link)

    head = httpx.head(link)
    part = httpx.get(link, headers={"Range": "bytes=10-19"})
    parts = httpx.get(link, headers={"Range": "bytes=0-1,5-6"})
    posted = httpx.post(link)

    assert (head.status_code, head.content) == (200, b"")
    assert headers_of(head) == headers_of(whole)
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert (parts.status_code, posted.status_code) == (416, 405)
    assert httpx.get(link).content == whole.content


async def test_a_known_link_opens_nothing_else(service: Service) -> None:
    _, link = await linked(service, seed=5)

    wider = httpx.get(link.replace("/200x", "/201x"))
    longer = httpx.get(link.replace("expires=", "expires=1"))
    bare = httpx.get(link.split("?")[0])
    from_trash = httpx.get(link.replace("/images/", "/trash/images/"))
    foreign = httpx.get(link, headers={"Host": "rebound.example"})

    assert [each.status_code for each in (wider, longer, bare)] == [403, 403, 403]
    assert len({each.content for each in (wider, longer, bare)}) == 1
    assert (from_trash.status_code, foreign.status_code) == (404, 400)


async def test_a_deleted_image_is_gone_at_once_and_back_when_it_is_restored(
    service: Service,
) -> None:
    id, link = await linked(service, seed=6)
    before = httpx.get(link).content

    deleted = (await service.ask(op.DELETE, id=id))["deleteImage"]
    gone = [httpx.get(link) for _ in range(2)]
    unchanged = httpx.get(link, headers={"If-None-Match": "*"})
    await service.ask(op.RESTORE, ids=[id])
    back = [httpx.get(link) for _ in range(2)]

    assert deleted["errors"] == []
    assert [each.status_code for each in (*gone, unchanged)] == [404, 404, 404]
    assert [each.content for each in back] == [before, before]


async def test_what_lies_in_the_trash_is_gone_when_it_is_restored_or_purged(
    service: Service,
) -> None:
    id, _ = await linked(service, seed=7)
    other, _ = await linked(service, seed=8)
    found = (await service.ask(op.DELETE_MANY, ids=[id, other]))["deleteImages"]["results"]
    links = [each["image"]["url"] for each in found]
    for link in links * 2:
        assert httpx.get(link).status_code == 200

    await service.ask(op.RESTORE, ids=[id])
    await service.ask(op.PURGE, ids=[other])

    assert [httpx.get(link).status_code for link in links] == [404, 404]


async def test_a_file_that_was_lost_is_not_answered_from_what_is_known(service: Service) -> None:
    _, link = await linked(service, seed=9)
    is_held = "RENDITION_MEMORY_BYTES" not in service.settings
    for path in (Path(service.settings["DATA_DIR"]) / "objects").rglob("200x-inside.jpeg"):
        path.unlink()

    answers = [httpx.get(link) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200 if is_held else 404] * 2


async def test_a_large_original_comes_again_whole(service: Service) -> None:
    data = encoded(photo(2400, 1800, seed=10), "JPEG", quality=100)
    assert len(data) > 2**20
    url = (await service.upload(op.UPLOAD, data))["uploadImage"]["image"]["url"]

    answers = [httpx.get(url) for _ in range(3)]

    assert [opened(answer.content).size for answer in answers] == [(2400, 1800)] * 3
    assert headers_of(answers[0]) == headers_of(answers[2])
