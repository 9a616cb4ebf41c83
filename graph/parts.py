"""The one place where the parts are put together, for the API and for the worker."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

from anyio import to_thread
from sqlmodel.ext.asyncio.session import AsyncSession

from generation.catalogue import Catalogue, open_catalogue
from generation.drafts import Drafts
from generation.errors import ProviderUnavailable
from generation.prompts import PromptWriter, Rules, open_text_model
from generation.providers.midjourney import result_hosts
from generation.references import References
from generation.results import Quarters, Results
from generation.studio import Studio
from generation.tasks import GenerationTask
from graph.config import Settings
from storage import failpoints
from storage.changes import LIBRARY, Changes, Notice, after
from storage.contents import Contents
from storage.counters import Counters
from storage.database import Database
from storage.decoders import Decoders
from storage.direct_uploads import DirectUploads
from storage.errors import Unavailable
from storage.fetching import Fetcher, is_among
from storage.generations import Generations, queue_of
from storage.imports import Imports
from storage.intake import Intake
from storage.jobs import Jobs, Reaper, Worker, only_process, postgres_dsn
from storage.keeper import Keeper
from storage.ledger import Ledger
from storage.library import Library
from storage.marks import Seal
from storage.migrations import is_current, migrate
from storage.objects import ObjectStore
from storage.objects.fallback import FallbackStore
from storage.objects.local import LocalObjectStore
from storage.progress import LocalBus, PostgresBus, PostgresListener
from storage.renditions import Renditions
from storage.trash import Trash
from storage.versions import Versions
from storage.viewers import Viewer, Viewers

if TYPE_CHECKING:
    from storage.redis_bus import RedisBus

log = logging.getLogger(__name__)

KEEP_JOBS = timedelta(days=7)
POLL_SECONDS = 0.05  # for work of other processes: costs four hundredths of a core for each queue
EMBEDDED_POLL_SECONDS = 0.2  # for jobs that waited until another ended: new ones are looked for
PROMPT_SECONDS = 20.0
ANYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that is open while the service runs."""

    database: Database
    store: ObjectStore
    keeper: Keeper
    viewers: Viewers
    library: Library
    versions: Versions
    trash: Trash
    direct_uploads: DirectUploads
    imports: Imports
    contents: Contents
    jobs: Jobs
    generations: Generations
    changes: Changes
    ledger: Ledger
    studio: Studio
    renditions: Renditions
    local_viewer: Viewer | None


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    if settings.is_embedded:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_store(settings: Settings, url: str | None) -> AsyncIterator[ObjectStore]:
    """The store at `url`, as in DARKROOM_OBJECTS_URL; None is the folder in DATA_DIR."""
    scheme, _, _ = (url or "file://").partition("://")
    match scheme:
        case "s3":
            from storage.objects.s3 import open_s3  # its library takes half a second to import

            async with open_s3(settings.s3(str(url))) as s3:
                yield s3
        case "cloudinary":
            from storage.objects.cloudinary import open_cloudinary

            async with open_cloudinary(settings.cloudinary(str(url))) as cloudinary:
                yield cloudinary
        case _:
            store = LocalObjectStore(settings.objects_dir(url))
            await to_thread.run_sync(store.open)
            yield store


@asynccontextmanager
async def open_parts(
    settings: Settings, *, works: bool, alone: bool = True
) -> AsyncIterator[Parts]:
    """Open every client, and run jobs if `works`; close all in the opposite order.

    Embedded, there is one process, unless this one is not `alone`: then it leaves the
    other's files alone.

    Raises Unavailable for a database that is not migrated, a folder that another process serves,
    a store that is not there; Rejected for an unknown provider.
    """
    if settings.failpoint:
        failpoints.arm(settings.failpoint)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings))
        alone = alone and settings.is_embedded
        if alone:
            stack.enter_context(only_process(Path(database.url.database or "")))
        if settings.is_embedded:
            await migrate(database)
        elif not await is_current(database):
            raise Unavailable("The database is not up to date. Run `python -m graph migrate`.")

        store = await stack.enter_async_context(open_store(settings, settings.objects_url))
        if settings.objects_fallback_url:
            former = open_store(settings, settings.objects_fallback_url)
            store = FallbackStore(store, await stack.enter_async_context(former))
        keeper = Keeper(database, store, grace=settings.grace)
        decoders = Decoders(
            workers=settings.decode_workers,
            waiting=settings.decode_waiting,
            seconds=settings.decode_seconds,
            memory_bytes=settings.decode_memory_bytes,
        )
        stack.push_async_callback(decoders.close)
        arrivals = _empty_folder(settings.data_dir / "arrivals") if alone else None
        intake = Intake(
            arrivals,
            decoders,
            max_bytes=settings.max_upload_bytes,
            bounds=settings.bounds,
        )
        seal = await to_thread.run_sync(_seal, settings)
        renditions = Renditions(
            database,
            keeper,
            store,
            threads=settings.render_threads,
            memory_bytes=settings.rendition_memory_bytes,
            kept=settings.renditions_per_image,
            is_alone=alone,
            seal=seal,
        )
        viewers = Viewers(database)
        changes = Changes(database, is_alone=alone)

        async def changed(session: AsyncSession, notices: Collection[Notice]) -> None:
            def forget() -> None:
                for notice in notices:
                    renditions.forget(notice.image_id)

            after(session, forget)
            await changes.tell(session, notices)

        library = Library(database, keeper, intake, seal=seal, changed=changed)
        versions = Versions(
            database,
            keeper,
            intake,
            kept=settings.versions_per_image,
            changed=changed,
        )
        trash = Trash(
            database,
            keeper,
            kept_for=timedelta(days=settings.trash_days),
            changed=changed,
        )
        direct_uploads = DirectUploads(
            database,
            store,
            library,
            lifetime=timedelta(minutes=settings.upload_minutes),
            waiting=settings.uploads_waiting,
            max_bytes=settings.max_upload_bytes,
            folder=arrivals,
        )
        fetcher = await stack.enter_async_context(
            Fetcher(
                ports=settings.import_ports,
                allowed_networks=settings.import_networks,
                seconds=settings.import_seconds,
                max_bytes=settings.max_upload_bytes,
                at_once=settings.imports_at_once,
            )
        )
        contents = Contents(database, changed=changes.tell)
        catalogue = await stack.enter_async_context(_open_catalogue(settings, arrivals, decoders))
        jobs = await Jobs.open(database.url, stack)
        generations = Generations(
            database,
            jobs,
            budgets=settings.budgets,
            waiting=settings.generations_waiting,
            changed=changes.tell,
        )

        beside = _Beside()
        stack.push_async_callback(beside.stop)
        beside.start("hub", generations.hub.run())
        stack.callback(generations.hub.close)
        beside.start("changes", changes.run())
        stack.callback(changes.close)
        if settings.is_embedded:
            generations.bus = LocalBus(generations.hub.look_again)
        else:
            dsn = postgres_dsn(database.url)
            listener = PostgresListener(dsn, LIBRARY, Notice.parse, changes.hear)
            beside.start("listener", listener.run())
            bus = _bus(settings, dsn, generations.hub.look_again)
            beside.start("bus", bus.run())
            stack.push_async_callback(bus.flush)  # after the last job has told how it ended
            generations.bus = bus
        beside.start("catalogue", catalogue.keep_fresh())
        if works:
            task = GenerationTask(
                generations,
                library,
                keeper,
                store,
                catalogue.providers,
                lease=timedelta(0) if settings.is_embedded else settings.lease,
            )
            worker = Worker(
                database.url,
                {queue_of(name): task.run for name in catalogue.providers},
                embedded=settings.is_embedded,
            )
            if not settings.is_embedded:
                reaper = Reaper(database.url, jobs, worker.executor_id, lease=settings.lease)
                await stack.enter_async_context(reaper.alive())
            limits = {queue_of(name): settings.limits_of(name) for name in catalogue.providers}
            poll_seconds = EMBEDDED_POLL_SECONDS if settings.is_embedded else POLL_SECONDS
            # No job may run any more when what it uses is closed, even if the start fails.
            stack.push_async_callback(worker.stop, drain_seconds=settings.drain_seconds)
            await worker.start(limits, poll_seconds=poll_seconds)
            jobs.worker = worker
            sweeping = (keeper, trash, direct_uploads, generations, jobs, Counters(database))
            beside.start("sweep", _sweep(settings, catalogue.providers, *sweeping))

        yield Parts(
            database=database,
            store=store,
            keeper=keeper,
            viewers=viewers,
            library=library,
            versions=versions,
            trash=trash,
            direct_uploads=direct_uploads,
            imports=Imports(library, fetcher),
            contents=contents,
            jobs=jobs,
            generations=generations,
            changes=changes,
            ledger=Ledger(database, settings.budgets),
            studio=Studio(
                generations,
                contents,
                References(library, store),
                catalogue,
                drafts=await stack.enter_async_context(_open_drafts(settings)),
            ),
            renditions=renditions,
            local_viewer=await viewers.local() if settings.has_local_viewer else None,
        )


@asynccontextmanager
async def _open_catalogue(
    settings: Settings, folder: Path | None, decoders: Decoders
) -> AsyncIterator[Catalogue]:
    """Every provider that is set up, with what it needs of us."""
    options = settings.catalogue
    async with AsyncExitStack() as stack:

        async def results(
            hosts: Collection[str],
            *,
            ports: Collection[int],
            networks: Sequence[IPv4Network | IPv6Network] = ANYWHERE,
        ) -> Results:
            """From hosts that the operator has named, at public addresses and in `networks`."""
            fetcher = Fetcher(
                hosts=hosts,
                ports=ports,
                allowed_networks=networks,
                seconds=settings.import_seconds,
                max_bytes=settings.max_upload_bytes,
                at_once=settings.imports_at_once,
            )
            return Results(
                await stack.enter_async_context(fetcher), max_bytes=settings.max_upload_bytes
            )

        server = urlsplit((options.compatible and options.compatible.base_url) or "")
        its_own = await results([server.hostname or ""], ports=_ports(server))
        of_others = await results(
            settings.compatible_hosts,
            ports=settings.import_ports,
            networks=settings.import_networks,
        )

        async def fetch(url: str) -> bytes:
            """From the server wherever it is, from others only where everybody may fetch."""
            host = urlsplit(url).hostname or ""
            if host == server.hostname:
                return await its_own(url)
            if not is_among(host, settings.compatible_hosts):
                raise ProviderUnavailable(
                    f"The image server has its pictures at {host}, from where none are fetched: "
                    "that takes DARKROOM_COMPATIBLE_HOSTS."
                )
            return await of_others(url)

        proxy = options.midjourney
        opening = open_catalogue(
            options,
            fetch=fetch,
            fetch_midjourney=await results(
                result_hosts(proxy) if proxy else [],
                ports=_ports(urlsplit(proxy.base_url if proxy else "")),
            ),
            quarter=Quarters(folder, decoders, bounds=settings.bounds),
        )
        yield await stack.enter_async_context(opening)


def _ports(url: SplitResult) -> Collection[int]:
    return (80, 443) if url.port is None else (80, 443, url.port)


@asynccontextmanager
async def _open_drafts(settings: Settings) -> AsyncIterator[Drafts]:
    """What turns posts into prompts: rules, or a text model where one is set."""
    async with AsyncExitStack() as stack:
        writer: PromptWriter = Rules()
        if settings.prompt_model is not None and settings.openai_api_key is None:
            log.warning(
                "prompt_model.ignored model=%s reason=%r",
                settings.prompt_model,
                "Set DARKROOM_OPENAI_API_KEY.",
            )
        elif settings.prompt_model is not None and settings.openai_api_key is not None:
            opening = open_text_model(
                settings.openai_api_key,
                settings.prompt_model,
                settings.openai_base_url,
                PROMPT_SECONDS,
                organization=settings.openai_organization,
                project=settings.openai_project,
            )
            writer = await stack.enter_async_context(opening)
        drafts = Drafts(writer)
        stack.push_async_callback(drafts.close)
        yield drafts


def _seal(settings: Settings) -> Seal | None:
    """Who signs AI pictures. Raises Unavailable for what cannot sign."""
    if settings.c2pa_certificates is None or settings.c2pa_private_key is None:
        return None
    from generation.provenance import Signer, SignerOptions  # a large library

    options = SignerOptions(
        settings.c2pa_certificates,
        settings.c2pa_private_key,
        settings.c2pa_algorithm,
        settings.c2pa_timestamp_url,
    )
    return Signer(options, version=version("darkroom"))


def _bus(
    settings: Settings, dsn: str, heard: Callable[[UUID | None], None]
) -> "PostgresBus | RedisBus":
    """What carries the progress of jobs to every process."""
    if settings.redis_url is None:
        return PostgresBus(dsn, heard)
    from storage.redis_bus import RedisBus  # not everybody has one

    url, prefix = settings.redis_url.get_secret_value(), settings.redis_prefix
    return RedisBus(url, heard, prefix=prefix)


def _empty_folder(path: Path) -> Path:
    """What an earlier run left in it is nobody's any more."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


class _Beside:
    """Tasks that run beside the service until it closes."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _sweep(
    settings: Settings,
    providers: Collection[str],
    keeper: Keeper,
    trash: Trash,
    direct_uploads: DirectUploads,
    generations: Generations,
    jobs: Jobs,
    counters: Counters,
) -> None:
    """Clear up after crashes, and what has had its time, now and then."""
    while True:
        try:
            purged = await trash.purge_expired()
            await direct_uploads.forget_expired()
            swept = await keeper.sweep()
            lost = await generations.fail_lost(4 * settings.lease)
            lost += await generations.fail_unserved(providers, 4 * settings.lease)
            await jobs.forget(KEEP_JOBS)
            await counters.fold()
            if swept or lost or purged:
                log.info("sweep.done objects=%s generations=%s purged=%s", swept, lost, purged)
        except Exception:  # a database that is away comes back
            log.exception("sweep.failed")
        await asyncio.sleep(settings.sweep_seconds)
