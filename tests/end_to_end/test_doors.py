"""Who comes in, and what they do not see."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gql.transport.exceptions import TransportQueryError
from websockets import ConnectionClosed, Subprotocol
from websockets.asyncio.client import connect

from tests.end_to_end import operations as op
from tests.end_to_end.service import Service
from tests.pictures import jpeg


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service where everybody needs a key, with the keys of two workspaces."""
    service = Service(tmp_path_factory.mktemp("doors"), ENVIRONMENT="production")
    _new_key(service, "first")  # so that it starts at all
    yield service.start()
    service.stop()


@pytest.fixture(scope="module")
def alice(service: Service) -> str:
    return _new_key(service, "alice")


@pytest.fixture(scope="module")
def bob(service: Service) -> str:
    return _new_key(service, "bob")


def _new_key(service: Service, workspace: str) -> str:
    made = service.run("keys", "create", "--workspace", workspace)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


async def test_a_key_opens_its_own_workspace_over_http(service: Service, alice: str) -> None:
    await service.upload(op.UPLOAD, jpeg(seed=1), key=alice)

    seen = await service.ask(op.IMAGES, key=alice)

    assert seen["images"]["totalCount"] == 1


async def test_without_a_key_or_with_a_wrong_one_nobody_comes_in(service: Service) -> None:
    without = await service.post(op.IMAGES)
    wrong = await service.post(op.IMAGES, key="dk_guess")

    for response in (without, wrong):
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_a_websocket_needs_the_key_when_it_begins(service: Service, alice: str) -> None:
    wish = await service.ask(op.GENERATE, key=alice, input={"prompt": "Behind the door"})
    id = wish["generateImage"]["generation"]["id"]

    async with service.watching(op.PROGRESS, key=alice, id=id) as events:
        last = [event async for event in events][-1]

    assert last["generationProgress"]["status"] == "SUCCEEDED"
    async with connect(
        f"ws://127.0.0.1:{service.port}/graphql",
        subprotocols=[Subprotocol("graphql-transport-ws")],
    ) as socket:
        await socket.send('{"type": "connection_init"}')
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4403


async def test_another_workspaces_things_do_not_exist(
    service: Service, alice: str, bob: str
) -> None:
    image = (await service.upload(op.UPLOAD, jpeg(seed=2), key=alice))["uploadImage"]["image"]
    saved = await service.ask(op.SAVE_CONTENT, key=bob, input={"text": "Bob's"})
    wish = await service.ask(op.GENERATE, key=alice, input={"prompt": "Alice's"})
    generation = wish["generateImage"]["generation"]["id"]

    read = await service.ask("query($id: ID!) { image(id: $id) { id } }", key=bob, id=image["id"])
    deleted = await service.ask(op.DELETE, key=bob, id=image["id"], force=True)
    attached = await service.ask(
        op.ATTACH,
        key=bob,
        input={
            "contentId": saved["saveContent"]["content"]["id"],
            "imageIds": [image["id"]],
        },
    )
    cancelled = await service.ask(op.CANCEL, key=bob, id=generation)

    assert read == {"image": None}
    assert deleted["deleteImage"]["errors"][0]["code"] == "NOT_FOUND"
    assert attached["attachToContent"]["errors"][0]["code"] == "NOT_FOUND"
    assert cancelled["cancelGeneration"]["errors"][0]["code"] == "NOT_FOUND"
    with pytest.raises(TransportQueryError, match="no such generation"):
        async with service.watching(op.PROGRESS, key=bob, id=generation) as events:
            await anext(events)


async def test_the_same_bytes_are_two_images_in_two_workspaces(
    service: Service, alice: str, bob: str
) -> None:
    hers = await service.upload(op.UPLOAD, jpeg(seed=3), key=alice)
    his = await service.upload(op.UPLOAD, jpeg(seed=3), key=bob)

    assert his["uploadImage"]["duplicateOf"] is None
    assert his["uploadImage"]["image"]["id"] != hers["uploadImage"]["image"]["id"]


async def test_a_revoked_key_is_closed_at_once(service: Service) -> None:
    key = _new_key(service, "carol")
    assert (await service.post("{ __typename }", key=key)).status_code == 200
    line = next(row for row in service.run("keys", "list").stdout.splitlines() if "carol" in row)

    revoked = service.run("keys", "revoke", line.split()[0])

    assert revoked.returncode == 0
    assert (await service.post("{ __typename }", key=key)).status_code == 401
    assert "revoked" in service.run("keys", "list").stdout


async def test_the_key_list_and_the_database_hold_no_secret(service: Service, alice: str) -> None:
    listed = service.run("keys", "list").stdout

    files = [p for p in Path(service.settings["DATA_DIR"]).glob("darkroom.db*") if p.is_file()]
    assert alice not in listed
    assert all(alice.encode() not in file.read_bytes() for file in files)
    assert alice not in service.log.read_text()


@pytest.mark.parametrize("settings", [{"HOST": "0.0.0.0"}, {"ENVIRONMENT": "production"}])
def test_a_service_that_others_may_reach_refuses_to_start_without_a_key(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    service = Service(tmp_path, **settings)

    refused = service.run("serve")

    assert refused.returncode == 2
    assert "keys create" in refused.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"PORT": "many"}, "DARKROOM_PORT"),
        ({"DATABASE_URL": "mysql://x"}, "DARKROOM_DATABASE_URL"),
        ({"OBJECTS_URL": "ftp://x"}, "DARKROOM_OBJECTS_URL"),
        ({"SIGNING_KEYS": "short"}, "DARKROOM_SIGNING_KEYS"),
        ({"PROVIDER": "nobody"}, "DARKROOM_PROVIDER"),
        ({"DATABASE_URL": "postgresql://u:secret@127.0.0.1/x"}, "DARKROOM_SIGNING_KEYS"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_at_the_start(
    tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    service = Service(tmp_path, **settings)

    refused = service.run("serve")

    assert refused.returncode == 2
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "secret" not in refused.stderr
