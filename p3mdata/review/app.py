"""What the review page may ask: a run's items, their pictures, and decisions about them.

No address holds a path, so none outside the run can be asked for. Nothing may be kept by the browser: the pictures
show clear faces.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from p3mdata.errors import RunFolderError
from p3mdata.records import Action
from p3mdata.review.session import Conflict, QueueItem, Refused, Session, SourceGone
from p3mdata.review.views import View
from p3mdata.review.wishes import read_wish
from p3mdata.typing import Json

HOST = "127.0.0.1"
_MOST_ITEMS = 200
_MOST_BYTES = 64 * 1024**2
_VIEWS = ("open", "decided", "sample", "all")
_PICTURES: dict[str, tuple[Callable[[View], bytes], str]] = {
    "photo": (View.photo, "image/jpeg"),
    "result": (View.result, "image/jpeg"),
    "private": (View.private, "image/png"),
    "transition": (View.transition, "image/png"),
    "facemask": (View.facemask, "image/png"),
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_STATUS = {Conflict: 409, SourceGone: 410, Refused: 422}


def _page_files() -> dict[str, tuple[bytes, str]]:
    """Files of the page by name; the empty name is the page itself."""
    folder = resources.files("p3mdata").joinpath("review/page")
    files = {
        entry.name: (entry.read_bytes(), _TYPES[Path(entry.name).suffix])
        for entry in folder.iterdir()
        if Path(entry.name).suffix in _TYPES
    }
    return {**files, "": files["index.html"]}


class _Answer(JSONResponse):
    """ASCII JSON, so that file names that are no text reach the page."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode("ascii")


def _failure(status: int, sentence: str) -> Response:
    return _Answer({"error": sentence}, status)


def _listing(item: QueueItem) -> Json:
    return {
        "id": item.id,
        "source": item.source,
        "reason": item.reason,
        "outcome": item.outcome.value,
        "action": item.decision.action.value if item.decision else None,
        "open": item.open,
    }


def _details(session: Session, item: QueueItem, view_name: str) -> Json:
    """Everything the page shows of one item but its pictures."""
    row, view = session.row(item.id), session.view(item.id)
    height, width = view.size
    shown = session.items(view_name)
    before = [other for other in shown if other.source < item.source]
    after = [other for other in shown if other.source > item.source]
    here = any(other.id == item.id for other in shown)
    return {
        **_listing(item),
        "width": row.width,
        "height": row.height,
        "view": {"width": width, "height": height},
        "released": row.outcome.released,
        "detail": row.detail,
        "faces": view.faces(),
        "doubts": [view.doubt(doubt) for doubt in row.doubts],
        "matte": view.loaded.alpha is not None,
        "recomposed": bool(row.recomposed),
        "transition": view.loaded.alpha is not None or view.loaded.trimap is not None,
        "decision": item.decision.to_json() | {"mask": None} if item.decision else None,
        "version": session.version(item.id),
        "position": {"view": view_name, "index": len(before), "total": len(shown)} if here else None,
        # Round the corner, so that nothing that is open is left behind.
        "next": next((other.id for other in (*after, *before)), None),
        "previous": next((other.id for other in reversed((*after, *before))), None),
    }


def create_app(session: Session, token: str, finish: Callable[[], None] = lambda: None) -> FastAPI:
    """The review's HTTP interface.

    Args:
        session: The review.
        token: First part of every address; any other is answered as unknown.
        finish: Called when the page ended the review.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    _guard(app, token)
    _answer_failures(app)
    # In this order: what the page's files are called is asked last.
    _show(app, session, f"/{token}")
    _decide(app, session, f"/{token}", finish)
    _give_page(app, f"/{token}")
    return app


def _guard(app: FastAPI, token: str) -> None:
    """Answer nothing but requests of this review's page."""

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        response = await call_next(request) if _is_ours(request, token) else _failure(404, "unknown address")
        response.headers.update(_HEADERS)
        return response


def _answer_failures(app: FastAPI) -> None:
    """One sentence for each thing that goes wrong."""

    @app.exception_handler(Refused)
    async def refused(request: Request, exc: Refused) -> Response:
        return _failure(_STATUS[type(exc)], str(exc))

    @app.exception_handler(OSError)
    async def no_room(request: Request, exc: OSError) -> Response:
        return _failure(507, f"The run folder cannot be written ({exc.strerror or exc}). Make room, then reload.")

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, exc: RequestValidationError) -> Response:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return _failure(422, f"the request cannot be used: {where or 'body'}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, exc: HTTPException) -> Response:
        return _failure(exc.status_code, "unknown address" if exc.status_code in (404, 405) else str(exc.detail))

    @app.exception_handler(RunFolderError)
    async def not_possible(request: Request, exc: RunFolderError) -> Response:
        return _failure(409, str(exc))


def _show(app: FastAPI, session: Session, prefix: str) -> None:
    """The run, its items and their pictures."""

    @app.get(prefix + "/api/run")
    def run() -> Response:
        counts = {view: len(session.items(view)) for view in ("open", "decided", "sample")}
        about = {
            "run": session.plan.job.out.resolve().name,
            "total": session.plan.samples,
            **counts,
            "reviewer": session.reviewer,
            "method": session.plan.job.settings.named(),
        }
        return _Answer(about)

    @app.get(prefix + "/api/items")
    def items(view: str = "open", offset: int = 0, limit: int = 100) -> Response:
        if view not in _VIEWS or offset < 0 or not 0 < limit <= _MOST_ITEMS:
            return _failure(422, f"view is one of {', '.join(_VIEWS)}, limit at most {_MOST_ITEMS}")
        shown = session.items(view)
        return _Answer({"total": len(shown), "items": [_listing(item) for item in shown[offset : offset + limit]]})

    @app.get(prefix + "/api/items/{identity}")
    def item(identity: str, view: str = "open") -> Response:
        return _Answer(_details(session, session.item(identity), view if view in _VIEWS else "open"))

    @app.get(prefix + "/api/items/{identity}/{picture}")
    def picture(identity: str, picture: str) -> Response:
        if picture not in _PICTURES:
            return _failure(404, "unknown address")
        make, kind = _PICTURES[picture]
        return Response(make(session.view(session.item(identity).id)), media_type=kind)


def _decide(app: FastAPI, session: Session, prefix: str, finish: Callable[[], None]) -> None:
    """Decisions, and the end of the review."""

    @app.post(prefix + "/api/items/{identity}/decision")
    def decide(identity: str, body: Annotated[Json, Body()]) -> Response:
        chosen = session.item(identity)
        wish = read_wish(body, [face.box for face in session.row(chosen.id).faces])
        drawn = None
        if wish.action is Action.MASK:
            drawn = session.view(chosen.id).drawn(wish.mask)
            if drawn is None:
                raise Refused("the mask is no PNG of the size of the photograph as shown")
        session.decide(
            chosen.id,
            wish.action,
            mask=drawn,
            keep_transition=wish.keep_transition,
            confirmed=wish.confirmed,
            settings=wish.settings,
            dropped=wish.dropped,
            basis=wish.basis,
            version=wish.version,
        )
        return _Answer(_details(session, session.item(identity), "open"))

    @app.post(prefix + "/api/finish")
    def end() -> Response:
        summary = session.close()
        finish()
        return _Answer({"released": summary.released if summary else None, "open": len(session.items("open"))})


def _give_page(app: FastAPI, prefix: str) -> None:
    """Files of the page."""
    files = _page_files()

    @app.get(prefix + "/{name}")
    def page(name: str) -> Response:
        if name not in files:
            return _failure(404, "unknown address")
        content, kind = files[name]
        return Response(content, media_type=kind)

    @app.get(prefix + "/")
    def index() -> Response:
        return page("")


def _is_ours(request: Request, token: str) -> bool:
    """Whether a request comes from this review's page: names of other hosts and pages of other sites do not."""
    port = request.scope["server"][1]
    hosts = {f"{HOST}:{port}", f"localhost:{port}"}
    if request.headers.get("host", "") not in hosts:
        return False
    if not secrets.compare_digest(request.url.path.split("/")[1].encode(), token.encode()):
        return False
    if request.method == "GET":
        return True
    origin = request.headers.get("origin")
    size = request.headers.get("content-length", "")
    return (
        (origin is None or origin in {f"http://{host}" for host in hosts})
        and request.headers.get("content-type", "").split(";")[0] == "application/json"
        # A body in pieces may be of any size, whatever its length is said to be.
        and "transfer-encoding" not in request.headers
        and size.isdigit()
        and int(size) <= _MOST_BYTES
    )
