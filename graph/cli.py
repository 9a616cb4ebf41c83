"""The operator's commands. What they need is imported when they run, so that help comes at once."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar
from uuid import UUID

import typer

if TYPE_CHECKING:
    from graph.config import Settings

T = TypeVar("T")

GARBAGE = 50_000
"""Objects that may come before those are looked through that nobody holds any more."""

cli = typer.Typer(
    help="Darkroom keeps a social-media team's pictures. Settings are environment variables "
    "that begin with DARKROOM_, see the README.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="API keys: who may come in.", no_args_is_help=True)
cli.add_typer(keys, name="keys")


def main() -> None:
    cli()


@cli.command()
def serve(
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Leave the work to `worker` processes.")
    ] = False,
) -> None:
    """Serve the API; embedded, do the work too."""
    import uvicorn

    from graph.app import create_app

    settings = _settings()
    if no_worker and settings.is_embedded:
        _give_up("--no-worker needs PostgreSQL: on SQLite nobody else can do the work.")
    _run(_check_before_serving(settings))
    app = create_app(settings, works=not no_worker)

    class Server(uvicorn.Server):
        """Ends the open streams before it waits for its connections to close."""

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            # What is there now stays: without it, and less often, a collection is a millisecond.
            gc.collect()
            gc.freeze()
            gc.set_threshold(GARBAGE, 20, 50)

        async def shutdown(self, sockets: Any = None) -> None:
            app.state.shutdown.set()
            await super().shutdown(sockets)

    _print_what_is_used(settings)
    # uvicorn drains, then raises the signal that stopped it once more: a stop that was asked for
    # is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,  # URLs hold signatures
            server_header=False,
            ws_max_size=256 * 1024,
            ws_per_message_deflate=False,  # costs 50 kB a socket
            timeout_graceful_shutdown=settings.drain_seconds,
        )
    )
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(1)


@cli.command()
def worker() -> None:
    """Do the work of `serve --no-worker` processes, until SIGTERM. Needs PostgreSQL."""
    from graph.parts import open_parts

    settings = _settings()
    if settings.is_embedded:
        _give_up(
            "On SQLite `serve` does the work itself: set DARKROOM_DATABASE_URL for PostgreSQL."
        )

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with open_parts(settings, works=True):
            logging.getLogger(__name__).info("worker.ready")
            await stop.wait()

    _run(work())


@cli.command()
def migrate() -> None:
    """Bring the database to this release's schema. `serve` does so itself on SQLite."""
    from graph.parts import open_database
    from storage.migrations import migrate as run_migrations

    async def upgrade() -> None:
        async with open_database(settings) as database:
            await run_migrations(database)

    settings = _settings()
    _run(upgrade())
    typer.echo("The database is up to date.")


@cli.command()
def export_schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file. Default: print it.")
    ] = None,
) -> None:
    """Print the GraphQL schema."""
    from graph.operations import Limits
    from graph.schema import create_schema

    text = create_schema(Limits()).as_str() + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text)


@cli.command("import")
def import_folder(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The pictures.")],
    workspace: Annotated[str, typer.Option(help="Whose library; made if it is new.")] = "local",
    tag: Annotated[list[str] | None, typer.Option(help="For every image; may be repeated.")] = None,
) -> None:
    """Bring a folder of pictures into a library. Start it again to go on where it stopped."""
    from graph.parts import open_parts
    from storage.folders import FolderImport, Imported

    settings = _settings()

    async def work() -> Imported:
        async with open_parts(settings, works=False, alone=False) as parts:
            viewer = await parts.viewers.of_workspace(workspace)
            importing = FolderImport(
                parts.database, parts.library, at_once=settings.decode_workers + 1
            )
            with _progress("Importing") as progress:
                return await importing.run(viewer, folder, tags=tag or (), progress=progress)

    imported = _run(work())
    for file, reason in sorted(imported.failed.items()):
        typer.echo(f"{file}: {reason}", err=True)
    typer.echo(
        f"{imported.added} added, {imported.there_already} there already, "
        f"{len(imported.failed)} not taken in."
    )
    raise typer.Exit(1 if imported.failed else 0)


@cli.command()
def doctor(
    read: Annotated[
        bool, typer.Option("--read", help="Read all bytes and compare their hashes, too.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Mend what is found. On SQLite, stop the service first."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Repair even if more than 1 % of all would change.")
    ] = False,
) -> None:
    """Compare the rows with the store, both ways. Without --repair nothing is changed."""
    from graph.parts import open_parts
    from storage.doctor import Doctor, Repairs, Report

    settings = _settings()

    async def work() -> tuple[Report, Repairs | None]:
        async with open_parts(settings, works=False, alone=repair) as parts:
            doctor = Doctor(
                parts.database, parts.store, parts.keeper, parts.trash, grace=settings.grace
            )
            with _progress("Comparing") as progress:
                report = await doctor.examine(reads_bytes=read, progress=progress)
            return report, await doctor.repair(report, force=force) if repair else None

    report, repairs = _run(work())
    for fault in report.faults:
        typer.echo(f"{fault.kind}: {fault.key}", err=True)
    kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(report.counts().items()))
    typer.echo(f"{report.objects} objects compared: {kinds or 'all is well'}.")
    if repairs:
        done = (f"{count} {name.replace('_', ' ')}" for name, count in asdict(repairs).items())
        typer.echo(f"Repaired: {', '.join(done)}.")
    elif report.faults:
        typer.echo("Nothing was changed. `doctor --repair` mends this.")
        raise typer.Exit(1)


@cli.command()
def move_objects(
    to: Annotated[str, typer.Option(help="The other store, as in DARKROOM_OBJECTS_URL.")],
) -> None:
    """Copy all objects to another store, while the service runs. Start it again to go on."""
    from graph.parts import open_database, open_store
    from storage.moving import Move, Moved

    settings = _settings()
    # Once the service uses the new store, what came meanwhile is in the former one.
    source = settings.objects_fallback_url if to == settings.objects_url else settings.objects_url
    if to == settings.objects_url and source is None:
        _give_up("The service uses this store already, and DARKROOM_OBJECTS_FALLBACK_URL is unset.")

    async def work() -> Moved:
        async with (
            open_database(settings) as database,
            open_store(settings, source) as former,
            open_store(settings, to) as new,
        ):
            with _progress("Copying") as progress:
                return await Move(database, former, new).run(progress)

    moved = _run(work())
    for key, reason in sorted(moved.failed.items()):
        typer.echo(f"{key}: {reason}", err=True)
    typer.echo(
        f"{moved.copied} copied, {moved.there_already} there already, {len(moved.failed)} failed."
    )
    if moved.failed:
        raise typer.Exit(1)
    if to == settings.objects_url:
        typer.echo("All is in the new store: unset DARKROOM_OBJECTS_FALLBACK_URL.")
    else:
        former = settings.objects_url or settings.objects_dir(None).as_uri()
        typer.echo(
            f"Next: set DARKROOM_OBJECTS_URL={to} and DARKROOM_OBJECTS_FALLBACK_URL={former}, "
            "restart the service, and run this again for what came meanwhile."
        )


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, and silence where there is none."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


@keys.command("create")
def create_key(
    workspace: Annotated[str, typer.Option(help="Whose library; made if it is new.")],
    name: Annotated[str, typer.Option(help="Who will use the key.")] = "default",
) -> None:
    """Make an API key and show it, once."""
    token = _run(_with_viewers(lambda viewers: viewers.create_key(workspace, name)))
    typer.echo(
        f"Keep this key, it is not shown again. It opens the workspace {workspace}.", err=True
    )
    typer.echo(token)


@keys.command("list")
def list_keys() -> None:
    """Show all keys, without their secrets."""
    for key in _run(_with_viewers(lambda viewers: viewers.keys())):
        state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "active"
        typer.echo(f"{key.id}  {key.workspace}  {key.name}  {key.created_at:%Y-%m-%d}  {state}")


@keys.command("revoke")
def revoke_key(id: Annotated[UUID, typer.Argument(help="As `keys list` shows it.")]) -> None:
    """Close a key from the next operation on."""
    _run(_with_viewers(lambda viewers: viewers.revoke_key(id)))
    typer.echo("Revoked.")


async def _with_viewers(use: Any) -> Any:
    from graph.parts import open_database
    from storage.migrations import migrate as run_migrations
    from storage.viewers import Viewers

    settings = _settings()
    async with open_database(settings) as database:
        if settings.is_embedded:
            await run_migrations(database)
        return await use(Viewers(database))


async def _check_before_serving(settings: "Settings") -> None:
    """Fail here with a sentence, rather than in the server with a traceback."""
    from graph.parts import open_parts

    async with open_parts(settings, works=False) as parts:
        if parts.local_viewer is None and not await parts.viewers.has_key():
            _give_up(
                f"Nobody could come in: on {settings.host} in {settings.environment} an API key is "
                "needed, and there is none. Run `python -m graph keys create --workspace NAME`."
            )


def _settings() -> "Settings":
    from pydantic import ValidationError

    from graph.config import Settings

    try:
        settings = Settings()
    except ValidationError as fault:
        lines = []
        for error in fault.errors(include_url=False, include_input=False):
            name = "".join(str(part) for part in error["loc"][:1]).upper()
            reason = error["msg"].removeprefix("Value error, ")
            lines.append(f"DARKROOM_{name}: {reason}" if name else reason)
        _give_up("\n".join(lines))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for talkative in ("alembic", "dbos"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    return settings


def _print_what_is_used(settings: "Settings") -> None:
    from sqlalchemy import make_url

    from graph.config import Environment

    database = make_url(settings.database).render_as_string(hide_password=True)
    has_ide = settings.environment is Environment.DEVELOPMENT
    ide = f"{settings.base_url}/graphql in a browser" if has_ide else "none in production"
    viewer = "the local viewer, without a key" if settings.has_local_viewer else "API keys"
    typer.echo(
        "\n"
        f"  API        {settings.base_url}/graphql\n"
        f"  IDE        {ide}\n"
        f"  database   {database}\n"
        f"  objects    {settings.objects_url or settings.objects_dir(None)}\n"
        f"  provider   {settings.provider or 'the first of openai, stability, card'}\n"
        f"  viewers    {viewer}\n"
    )


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run it; an expected failure is a sentence and exit code 2."""
    from storage.errors import LibraryError

    try:
        return asyncio.run(work)
    except LibraryError as failure:
        _give_up(failure.message)


def _give_up(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise SystemExit(2)
