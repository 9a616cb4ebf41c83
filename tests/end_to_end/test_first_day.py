"""A newcomer's first day: everything the README promises, on a service that was just started."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end import operations as op
from tests.end_to_end.service import JSON, Service, running
from tests.pictures import encoded, jpeg, opened, photo, png, webp


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(Service(tmp_path_factory.mktemp("first-day"))) as service:
        yield service


async def uploaded(service: Service, data: bytes, filename: str = "a.jpg", **input: Any) -> JSON:
    answer = await service.upload(op.UPLOAD, data, filename, **input)
    assert answer["uploadImage"]["errors"] == []
    return dict(answer["uploadImage"]["image"])


async def generated(service: Service, **input: Any) -> JSON:
    answer = await service.ask(op.GENERATE, input=input)
    assert answer["generateImage"]["errors"] == []
    return dict(answer["generateImage"]["generation"])


async def watched(service: Service, id: str, after: int | None = None) -> list[JSON]:
    """All events until the stream completes by itself."""
    async with service.watching(op.PROGRESS, id=id, after=after) as events:
        return [event["generationProgress"] async for event in events]


async def saved(service: Service, external_id: str, **input: Any) -> JSON:
    answer = await service.ask(op.SAVE_CONTENT, input={"externalId": external_id, **input})
    assert answer["saveContent"]["errors"] == []
    return dict(answer["saveContent"]["content"])


def stored_files(service: Service) -> int:
    objects = Path(service.settings["DATA_DIR"]) / "objects"
    return sum(1 for path in objects.rglob("*") if path.is_file() and path.name[0] != ".")


# ---- 1: upload ----------------------------------------


@pytest.mark.parametrize(
    ("data", "mime_type"),
    [
        (jpeg(400, 300, seed=10), "image/jpeg"),
        (png(400, 300, seed=11), "image/png"),
        (webp(400, 300, seed=12), "image/webp"),
        (encoded(photo(400, 300, seed=15), "GIF"), "image/gif"),
    ],
)
async def test_an_uploaded_picture_is_described_by_its_bytes(
    service: Service, data: bytes, mime_type: str
) -> None:
    image = await uploaded(service, data, "whatever.txt", title="Sea", tags=["b", "a"])

    assert (image["mimeType"], image["width"], image["height"]) == (mime_type, 400, 300)
    assert (image["origin"], image["isAiGenerated"]) == ("UPLOADED", False)
    assert (image["filename"], image["title"], image["tags"]) == ("whatever.txt", "Sea", ["a", "b"])
    assert image["orientation"] == "LANDSCAPE"
    assert opened(httpx.get(image["url"]).content).tobytes() == opened(data).tobytes()


async def test_the_same_bytes_again_give_back_the_existing_image(service: Service) -> None:
    first = await uploaded(service, jpeg(seed=13))

    again = await service.upload(op.UPLOAD, jpeg(seed=13), "other-name.jpg")

    assert again["uploadImage"]["image"]["id"] == first["id"]
    assert again["uploadImage"]["duplicateOf"] == {"id": first["id"]}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"just some text", "UNSUPPORTED_MEDIA_TYPE"),
        (b"", "CORRUPT_FILE"),
        (jpeg(seed=14)[:2000], "CORRUPT_FILE"),
    ],
)
async def test_a_bad_file_is_a_typed_error_and_nothing_is_kept(
    service: Service, data: bytes, code: str
) -> None:
    before = stored_files(service)

    answer = await service.upload(op.UPLOAD, data)

    payload = answer["uploadImage"]
    assert payload["image"] is None
    assert [error["code"] for error in payload["errors"]] == [code]
    assert payload["errors"][0]["path"] == ["file"]
    assert stored_files(service) == before


# ---- 2: find ----------------------------------------


async def test_the_library_is_paged_filtered_sorted_and_searched(service: Service) -> None:
    for number in range(5):
        await uploaded(
            service, jpeg(seed=20 + number), f"find-{number}.jpg", tags=["find", f"n{number % 2}"]
        )
    wanted = {"tags": {"any": ["find"]}}
    by_name = {"field": "FILENAME", "direction": "ASC"}

    first = await service.ask(op.IMAGES, filter=wanted, sort=by_name, first=2)
    second = await service.ask(
        op.IMAGES,
        filter=wanted,
        sort=by_name,
        first=2,
        after=first["images"]["pageInfo"]["endCursor"],
    )
    back = await service.ask(
        op.IMAGES,
        filter=wanted,
        sort=by_name,
        last=2,
        before=second["images"]["pageInfo"]["startCursor"],
    )
    odd = await service.ask(op.IMAGES, filter={"tags": {"all": ["find", "n1"]}}, sort=by_name)
    words = await service.ask(op.IMAGES, filter=wanted, search="FIND-3")

    def names(page: JSON) -> list[str]:
        return [node["filename"] for node in page["images"]["nodes"]]

    assert names(first) == ["find-0.jpg", "find-1.jpg"]
    assert first["images"]["totalCount"] == 5
    assert first["images"]["pageInfo"]["hasNextPage"] is True
    assert names(second) == ["find-2.jpg", "find-3.jpg"]
    assert names(back) == names(first)
    assert names(odd) == ["find-1.jpg", "find-3.jpg"]
    assert names(words) == ["find-3.jpg"]


@pytest.mark.parametrize(
    ("variables", "argument"),
    [
        ({"first": 0}, "first"),
        ({"first": 101}, "first"),
        ({"first": 5, "last": 5}, "first"),
        ({"after": "garbage"}, "after"),
        ({"filter": {"tags": {"any": []}}}, "filter"),
        ({"search": " "}, "search"),
    ],
)
async def test_an_argument_that_makes_no_sense_is_bad_user_input(
    service: Service, variables: JSON, argument: str
) -> None:
    answer = (await service.post(op.IMAGES, **variables)).json()

    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert error["extensions"]["argument"] == argument


# ---- 3: one thing by its id, and its bytes ----------------------------------------


async def test_image_node_and_nodes_find_the_same_thing(service: Service) -> None:
    image = await uploaded(service, jpeg(seed=30))
    query = """query($id: ID!, $ids: [ID!]!) {
      image(id: $id) { id } node(id: $id) { __typename id } nodes(ids: $ids) { id }
    }"""
    ghost = "SW1hZ2U6MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAw"

    found = await service.ask(query, id=image["id"], ids=[ghost, image["id"], "no id"])

    assert found["image"] == {"id": image["id"]}
    assert found["node"] == {"__typename": "Image", "id": image["id"]}
    assert found["nodes"] == [None, {"id": image["id"]}, None]


async def test_a_rendition_opens_in_a_browser_and_has_the_promised_size(service: Service) -> None:
    image = await uploaded(service, jpeg(800, 600, seed=31))

    answer = (await service.ask(op.RENDITION, id=image["id"], width=200, format="JPEG"))["image"]
    response = httpx.get(answer["rendition"]["url"])
    again = httpx.get(
        answer["rendition"]["url"], headers={"If-None-Match": response.headers["ETag"]}
    )

    told = answer["rendition"]
    assert (told["width"], told["height"], told["mimeType"]) == (200, 150, "image/jpeg")
    assert opened(response.content).size == (200, 150)
    assert response.headers["Content-Type"] == "image/jpeg"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "immutable" in response.headers["Cache-Control"]
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("image/avif,image/webp,*/*;q=0.8", "image/avif"),
        ("image/webp,*/*", "image/webp"),
        ("*/*", "image/jpeg"),
    ],
)
async def test_the_browser_decides_what_a_rendition_is_encoded_as(
    service: Service, accept: str, media_type: str
) -> None:
    image = await uploaded(service, jpeg(800, 600, seed=33))
    told = (await service.ask(op.RENDITION, id=image["id"], width=200))["image"]["rendition"]

    response = httpx.get(told["url"], headers={"Accept": accept})

    assert told["mimeType"] is None
    assert response.headers["Content-Type"] == media_type
    assert response.headers["Vary"] == "Accept"
    assert opened(response.content).size == (told["width"], told["height"])


async def test_a_crop_keeps_the_focal_point_and_the_frame(service: Service) -> None:
    image = await uploaded(service, jpeg(800, 600, seed=34))
    point = {"focalPoint": {"x": 0.9, "y": 0.1}}
    await service.ask(op.UPDATE, id=image["id"], patch=point)
    query = """query($id: ID!) { image(id: $id) { focalPoint { x y }
      rendition(width: 300, height: 500, fit: COVER, format: WEBP) { url width height }
      srcset(widths: [320, 640, 2000], format: JPEG) } }"""

    found = (await service.ask(query, id=image["id"]))["image"]
    cropped = opened(httpx.get(found["rendition"]["url"]).content)

    assert found["focalPoint"] == {"x": 0.9, "y": 0.1}
    assert cropped.size == (300, 500)
    assert [rung.rsplit(" ", 1)[1] for rung in found["srcset"].split(", ")] == [
        "320w",
        "640w",
        "800w",
    ]


@pytest.mark.parametrize(
    ("asked", "status", "served"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=0-1,5-6", 416, None),
        ("bytes=99999999-", 416, None),
    ],
)
async def test_one_range_of_bytes_can_be_had(
    service: Service, asked: str, status: int, served: slice | None
) -> None:
    image = await uploaded(service, jpeg(seed=35))
    whole = httpx.get(image["url"]).content

    response = httpx.get(image["url"], headers={"Range": asked})
    head = httpx.head(image["url"])

    assert response.status_code == status
    if served is not None:
        assert response.content == whole[served]
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole))


async def test_a_link_that_was_changed_opens_nothing(service: Service) -> None:
    image = await uploaded(service, jpeg(800, 600, seed=32))
    link = (await service.ask(op.RENDITION, id=image["id"], width=200))["image"]["rendition"]["url"]

    wider = httpx.get(link.replace("/200x", "/400x"))
    longer = httpx.get(link.replace("expires=", "expires=9"))
    bare = httpx.get(link.split("?")[0])

    assert wider.url != httpx.URL(link)
    assert [r.status_code for r in (wider, longer, bare)] == [403, 403, 403]


# ---- 4: generate ----------------------------------------


async def test_a_generation_is_watched_from_wish_to_picture(service: Service) -> None:
    wish = await generated(service, prompt="We open on Monday at nine", count=2, seed=7)

    events = await watched(service, wish["id"])

    sequences = [event["sequence"] for event in events]
    assert wish["status"] == "QUEUED"
    assert sequences == sorted(set(sequences))
    assert events[0]["__typename"] == "GenerationProgressed"
    ready = [event["image"]["id"] for event in events if "image" in event]
    assert len(ready) == 2
    assert events[-1]["__typename"] == "GenerationFinished"
    assert events[-1]["status"] == "SUCCEEDED"
    found = (await service.ask(op.GENERATION, id=wish["id"]))["generation"]
    assert [image["id"] for image in found["images"]] == ready
    for image in found["images"]:
        assert (image["origin"], image["isAiGenerated"]) == ("GENERATED", False)
        assert opened(httpx.get(image["url"]).content).size == (1080, 1350)
        assert image["generation"]["prompt"] == "We open on Monday at nine"


async def test_a_latecomer_gets_the_final_state_at_once(service: Service) -> None:
    wish = await generated(service, prompt="Late", width=200, height=200)
    await watched(service, wish["id"])

    late = await watched(service, wish["id"])

    assert [event["__typename"] for event in late] == ["GenerationFinished"]


async def test_server_sent_events_tell_the_same_story(service: Service) -> None:
    wish = await generated(service, prompt="Over SSE", width=200, height=200)

    told = [pair async for pair in service.stream(op.PROGRESS, id=wish["id"])]

    assert told[-1][0] == "complete"
    events = [data["data"]["generationProgress"] for name, data in told if name == "next"]
    assert events[0]["__typename"] in ("GenerationProgressed", "GenerationFinished")
    assert events[-1]["status"] == "SUCCEEDED"
    sequences = [event["sequence"] for event in events]
    assert sequences == sorted(set(sequences))


async def test_the_same_key_gives_back_the_first_generation(service: Service) -> None:
    first = await generated(service, prompt="Once", idempotencyKey="once")

    again = await generated(service, prompt="Once", idempotencyKey="once")
    other = await service.ask(op.GENERATE, input={"prompt": "Twice", "idempotencyKey": "once"})

    assert again["id"] == first["id"]
    assert other["generateImage"]["generation"] is None
    (error,) = other["generateImage"]["errors"]
    assert (error["__typename"], error["code"]) == ("ConflictError", "IDEMPOTENCY_MISMATCH")


@pytest.mark.parametrize(
    ("input", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "x", "count": 99}, "count"),
        ({"prompt": "x", "width": 100}, "width"),
        ({"prompt": "x", "width": 10, "height": 10}, "width"),
        ({"prompt": "x", "provider": "nobody"}, "provider"),
        ({"prompt": "x", "seed": -1}, "seed"),
    ],
)
async def test_a_wish_that_cannot_be_met_is_refused_with_the_field_at_fault(
    service: Service, input: JSON, field: str
) -> None:
    answer = await service.ask(op.GENERATE, input=input)

    assert answer["generateImage"]["generation"] is None
    (error,) = answer["generateImage"]["errors"]
    assert (error["code"], error["path"]) == ("INVALID", [field])


# ---- 5: contents ----------------------------------------


async def test_images_are_attached_reordered_and_detached(service: Service) -> None:
    one, two, three = [(await uploaded(service, jpeg(seed=40 + n)))["id"] for n in range(3)]
    content = await saved(service, "post-1", text="Summer sale", platforms=["INSTAGRAM"])

    def order(payload: JSON) -> list[str]:
        return [each["image"]["id"] for each in payload["content"]["attachments"]]

    attached = await service.ask(
        op.ATTACH, input={"contentId": content["id"], "imageIds": [one, two]}
    )
    first = await service.ask(
        op.ATTACH, input={"contentId": content["id"], "imageIds": [three], "position": 0}
    )
    places = [each["id"] for each in first["attachToContent"]["content"]["attachments"]]
    turned = await service.ask(op.REORDER, id=content["id"], ids=places[::-1])
    taken = await service.ask(op.DETACH, ids=[places[0]])
    read = await service.ask(op.READ_CONTENT, externalId="post-1")

    assert order(attached["attachToContent"]) == [one, two]
    assert order(first["attachToContent"]) == [three, one, two]
    assert order(turned["reorderAttachments"]) == [two, one, three]
    assert order(taken["detachFromContent"]) == [two, one]
    assert [each["position"] for each in read["content"]["attachments"]] == [0, 1]


async def test_a_picture_of_a_posts_own_words_is_attached_as_it_comes(service: Service) -> None:
    content = await saved(service, "post-2", text="Fresh bread every morning")

    wish = await generated(service, contentId=content["id"], attach=True)
    await watched(service, wish["id"])

    read = await service.ask(op.READ_CONTENT, id=content["id"])
    made = (await service.ask(op.GENERATION, id=wish["id"]))["generation"]["images"]
    assert wish["prompt"] == "Fresh bread every morning"
    assert [each["image"]["id"] for each in read["content"]["attachments"]] == [made[0]["id"]]


# ---- 6: change and delete ----------------------------------------


async def test_a_patch_changes_what_it_names_and_nothing_else(service: Service) -> None:
    image = await uploaded(service, jpeg(seed=50), title="Old", altText="A sea", tags=["x"])

    changed = await service.ask(
        op.UPDATE, id=image["id"], version=1, patch={"title": "New", "altText": None}
    )
    stale = await service.ask(op.UPDATE, id=image["id"], version=1, patch={"title": "Newer"})

    assert changed["updateImage"]["image"] == {
        "id": image["id"],
        "version": 2,
        "title": "New",
        "altText": None,
        "tags": ["x"],
        "isFavorite": False,
    }
    assert [error["code"] for error in stale["updateImage"]["errors"]] == ["CONFLICT"]


async def test_an_image_in_use_is_deleted_only_by_force_and_then_wholly(service: Service) -> None:
    image = await uploaded(service, jpeg(800, 600, seed=51))
    content = await saved(service, "post-3")
    await service.ask(op.ATTACH, input={"contentId": content["id"], "imageIds": [image["id"]]})
    links = (await service.ask(op.RENDITION, id=image["id"], width=100))["image"]
    assert httpx.get(links["rendition"]["url"]).status_code == 200

    refused = await service.ask(op.DELETE, id=image["id"])
    forced = await service.ask(op.DELETE, id=image["id"], force=True)

    (error,) = refused["deleteImage"]["errors"]
    assert (error["__typename"], error["code"]) == ("ImageInUseError", "IN_USE")
    assert error["usages"][0]["content"] == {"externalId": "post-3"}
    assert forced["deleteImage"] == {"deletedImageId": image["id"], "errors": []}
    assert httpx.get(links["url"]).status_code == 404
    assert httpx.get(links["rendition"]["url"]).status_code == 404
    assert (await service.ask(op.READ_CONTENT, id=content["id"]))["content"]["attachments"] == []


# ---- 8, 9: tooling and operators ----------------------------------------


async def test_tooling_can_introspect_the_schema(service: Service) -> None:
    answer = await service.ask("{ __schema { queryType { name } types { name } } }")

    assert {"Image", "Content", "Generation"} <= {t["name"] for t in answer["__schema"]["types"]}


async def test_a_stranger_name_for_this_machine_does_not_get_in(service: Service) -> None:
    response = httpx.post(
        f"{service.url}/graphql", json={"query": "{__typename}"}, headers={"Host": "evil.example"}
    )

    assert response.status_code == 400
