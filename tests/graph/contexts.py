"""What a resolver is given, for tests that execute the schema without HTTP."""

from graph.context import Context
from graph.delivery import SignedUrls
from graph.parts import Parts
from storage.viewers import Viewer


def context_of(parts: Parts, viewer: Viewer) -> Context:
    return Context(
        viewer,
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
        urls=SignedUrls("http://127.0.0.1", [b"k" * 32]),
    )
