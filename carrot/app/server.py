"""The routes of ``carrot explore``: what is asked, and which of the other modules answers.

Answers are of one state of the model. Where the folder holds another by now, a page says so, and reads nothing of it
until somebody asks for that.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from threading import Lock
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from carrot._images import header
from carrot.app.bounded import Bounded
from carrot.app.desk import Desk
from carrot.app.explained import Explainer, Page, shown_name, upload_note
from carrot.app.gallery import Query
from carrot.app.guard import MOST, Guard, TooLarge, new_token
from carrot.app.held import Asked, Entry, Held, ModelChangedError, jpeg
from carrot.app.pages import STATIC, browse, message, page, static, template, text
from carrot.app.versions import new_version, next_name
from carrot.data.inputs import as_picture
from carrot.errors import CarrotError, UnreadableImageError

THUMBS, UPLOADS = 64 * 2**20, 64 * 2**20  # bytes in memory
SIDES = {"thumb": 300, "image": 900}
PIXELS = 64_000_000  # of a picture that comes in: 192 MB decoded
SMALLEST = 8  # pixels a side: less is nothing to see
_DIGEST = re.compile(r"[0-9a-f]{64}")


class NotThere(Exception):
    """The index names no such thing."""


class Explorer:
    """One model served: its state of now, and what was made of it.

    Args:
        asked: How to read the model.
        host: Where it listens.
        versions: Of the software, for certificates.
        most: Bytes of an upload.
    """

    def __init__(self, asked: Asked, host: str, versions: Mapping[str, str], most: int = MOST) -> None:
        self.token, self._host, self._most = new_token(), host, most
        self._asked, self._versions = asked, dict(versions)
        self._lock = Lock()
        self._read()
        self._pictures, self._uploads = Bounded(THUMBS), Bounded(UPLOADS)
        self._names: dict[str, str] = {}
        self._explainer = Explainer()

    @property
    def app(self) -> Starlette:
        """The application."""
        routes = [
            Route("/", self._browse),
            Route("/static/{name}", self._static),
            Route("/thumb/{key}", self._shown("thumb")),
            Route("/image/{key}", self._shown("image")),
            Route("/picture/{key}", self._picture),
            Route("/picture/{key}/page", self._picture_page),
            Route("/upload", self._upload_page),
            Route("/upload", self._upload, methods=["POST"]),
            Route("/yours/{digest}", self._yours),
            Route("/desk", self._desk_page),
            Route("/desk/api/progress", self._progress),
            Route("/desk/api/undo", self._undo, methods=["POST"]),
            Route("/desk/api/tidy", self._tidy, methods=["POST"]),
            Route("/desk/api/apply", self._apply, methods=["POST"]),
            Route("/desk/api/look/{key}", self._look),
            Route("/desk/api/look/{key}", self._decide, methods=["POST"]),
            Route("/desk/api/pair/{key}", self._pair),
            Route("/desk/api/effect/{key}", self._effect),
            Route("/desk/{key}", self._desk_page),
            Route("/reload", self._reload, methods=["POST"]),
            Route("/favicon.ico", lambda _: Response(status_code=204)),
        ]
        errors = {
            404: self._missing,
            405: self._missing,
            NotThere: self._missing,
            ModelChangedError: self._changed,
            TooLarge: self._refused(413),
            UnreadableImageError: self._refused(422),
            ValueError: self._refused(400),
            CarrotError: self._refused(409),
            FileNotFoundError: self._refused(404),
        }
        guard = Middleware(Guard, host=self._host, token=self.token, most=self._most)
        return Starlette(routes=routes, exception_handlers=errors, middleware=[guard])

    # ---- the state

    def _read(self) -> None:
        held = Held(self._asked)
        self._held, self._desk = held, Desk(held)

    def _now(self) -> tuple[Held, Desk]:
        """Return the state in memory, which is the folder's.

        Raises:
            ModelChangedError: It isn't.
        """
        with self._lock:
            held, desk = self._held, self._desk
        if not held.is_current:
            raise ModelChangedError("The model was changed by another program since it was read. Reload it.")
        return held, desk

    def _entry(self, request: Request) -> tuple[Held, Desk, Entry]:
        held, desk = self._now()
        entry = held.entry(request.path_params["key"])
        if entry is None:
            raise NotThere
        return held, desk, entry

    # ---- pictures

    def _browse(self, request: Request) -> Response:
        held, _ = self._now()
        query = Query.read(request.query_params)
        entries, why = (held.training, "") if query.of == "train" else held.others()
        return HTMLResponse(browse(held, query, entries, why, self.token))

    def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        found = static(name)
        if found is None:
            raise NotThere
        return Response(found, media_type=STATIC[name], headers={"Cache-Control": "no-cache"})

    def _shown(self, kind: str) -> Any:
        def answer(request: Request) -> Response:
            held, _, entry = self._entry(request)
            key = (held.state, entry.key, kind)
            found = self._pictures.get(key)
            if found is None:
                picture = held.picture(entry)
                if isinstance(picture, str):
                    return Response(template("gone.svg", why=text(picture)), media_type="image/svg+xml")
                found = jpeg(picture, SIDES[kind])
                self._pictures.put(key, found)
            return Response(found, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

        return answer

    def _picture(self, request: Request) -> Response:
        held, _, entry = self._entry(request)
        left_out = self._explainer.left_out(held, entry) if entry.is_training else None
        return RedirectResponse(f"/picture/{entry.key}/page" + ("" if left_out is None else f"#o={left_out}"), 303)

    def _picture_page(self, request: Request) -> Response:
        held, _, entry = self._entry(request)
        asked = [request.query_params.get(name) for name in ("target", "against")]
        return _explanation(self._explainer.of_entry(held, entry, *asked))

    # ---- one's own picture

    def _upload_page(self, request: Request) -> Response:
        held, _ = self._now()
        body = template("upload.html", most=self._most // 2**20)
        return HTMLResponse(page("Your picture", body, "upload", self.token, held))

    async def _upload(self, request: Request) -> Response:
        content = await request.body()
        return await run_in_threadpool(self._received, content, request.query_params.get("name", ""))

    def _received(self, content: bytes, name: str) -> Response:
        self._now()
        name = shown_name(name)
        said = header(content, name) if content else None
        if said is not None and said.width * said.height > PIXELS:
            raise UnreadableImageError(
                f"{name}: has {said.width} x {said.height} pixels, more than {PIXELS:,}. Give a smaller one."
            )
        if said is not None and min(said.width, said.height) < SMALLEST:
            raise UnreadableImageError(
                f"{name}: has {said.width} x {said.height} pixels: there is nothing to see. Give one of at least "
                f"{SMALLEST} x {SMALLEST}."
            )
        as_picture(content)  # refuses it here, with a reason, where its page would
        digest = hashlib.sha256(content).hexdigest()
        self._uploads.put(digest, content)
        self._names[digest] = name
        return JSONResponse({"link": f"/yours/{digest}"})

    def _yours(self, request: Request) -> Response:
        held, _ = self._now()
        digest = request.path_params["digest"]
        content = self._uploads.get(digest) if _DIGEST.fullmatch(digest) else None
        if content is None:
            raise FileNotFoundError("This picture is no longer in memory: give it again.")
        said = header(content, "it")
        picture = as_picture(content)
        note = upload_note(picture.size, said.is_animated)
        name = self._names.get(digest, "your picture")
        return _explanation(self._explainer.of_upload(held, digest, picture, name, note))

    # ---- the desk

    def _desk_page(self, request: Request) -> Response:
        held, desk = self._now()
        key = request.path_params.get("key", "")
        if key and key not in held.by_key:
            raise NotThere
        options = "".join(f'<option value="{text(name)}">{text(name)}</option>' for name in held.fitted.classes)
        body = template(
            "desk.html",
            key=key,
            classes=options,
            next=text(next_name(self._asked.folder)),
            model=text(self._asked.folder),
            stale=len(desk.decisions.stale(held.fitted)),
        )
        return HTMLResponse(page("Desk", body, "desk", self.token, held, "desk.js"))

    def _progress(self, request: Request) -> Response:
        return JSONResponse(self._now()[1].progress())

    def _judged(self, request: Request) -> tuple[Desk, Entry]:
        _, desk, entry = self._entry(request)
        if not entry.is_training:
            raise NotThere
        return desk, entry

    def _look(self, request: Request) -> Response:
        desk, entry = self._judged(request)
        return JSONResponse(desk.look(entry))

    def _pair(self, request: Request) -> Response:
        desk, entry = self._judged(request)
        return JSONResponse(desk.pair(entry))

    def _effect(self, request: Request) -> Response:
        desk, entry = self._judged(request)
        return JSONResponse(desk.effect(entry, "relabel", request.query_params.get("label", "")))

    async def _decide(self, request: Request) -> Response:
        given = await _json(request)

        def answer() -> Response:
            desk, entry = self._judged(request)
            self._same_state(given)
            desk.decide(entry, given.get("action", ""), given.get("label", ""))
            return JSONResponse(desk.progress())

        return await run_in_threadpool(answer)

    async def _undo(self, request: Request) -> Response:
        given = await _json(request)

        def answer() -> Response:
            _, desk = self._now()
            self._same_state(given)
            key = desk.undo()
            return JSONResponse({"key": key, **desk.progress()})

        return await run_in_threadpool(answer)

    async def _tidy(self, request: Request) -> Response:
        given = await _json(request)

        def answer() -> Response:
            _, desk = self._now()
            self._same_state(given)
            desk.tidy()
            return JSONResponse(desk.progress())

        return await run_in_threadpool(answer)

    async def _apply(self, request: Request) -> Response:
        given = await _json(request)

        def answer() -> Response:
            held, desk = self._now()
            self._same_state(given)
            if not desk.review.decided:
                raise ValueError("Nothing is to be changed: no picture is relabelled or forgotten.")
            if desk.decisions.stale(held.fitted):
                raise ValueError("Some decisions are done in this model already. Put them away first.")
            name = given.get("name") or next_name(self._asked.folder)
            made = new_version(self._asked.folder, desk.decisions.edits, name, held.seal, self._versions)
            return JSONResponse(
                {
                    "folder": str(made.folder),
                    "certificate": str(made.file),
                    "text": made.text,
                    "next": next_name(made.folder),
                }
            )

        return await run_in_threadpool(answer)

    def _same_state(self, given: Mapping[str, str]) -> None:
        held, _ = self._now()
        if given.get("state") != held.state:
            raise ModelChangedError("This page is of the model as it was before. Reload the page.")

    # ---- errors, and reading again

    def _reload(self, request: Request) -> Response:
        with self._lock:
            self._read()
        return JSONResponse({"state": self._held.state})

    def _missing(self, request: Request, _: Exception) -> Response:
        return self._told(request, 404, "Not here", "This model's index names no such thing.")

    def _changed(self, request: Request, error: Exception) -> Response:
        button = '<p><button type="button" data-reload>Read the model again</button></p>'
        return self._told(request, 409, "The model was changed", str(error), button, {"changed": True})

    def _refused(self, status: int) -> Any:
        def answer(request: Request, error: Exception) -> Response:
            return self._told(request, status, "That can't be done", str(error))

        return answer

    def _told(
        self,
        request: Request,
        status: int,
        title: str,
        words: str,
        action: str = "",
        more: Mapping[str, Any] | None = None,
    ) -> Response:
        if request.method == "POST" or request.url.path.startswith("/desk/api/"):
            return JSONResponse({"error": words, **(more or {})}, status)
        return HTMLResponse(message(title, words, self.token, None, action), status)


async def _json(request: Request) -> dict[str, str]:
    """Return the object of words that was sent.

    Raises:
        ValueError: It is none.
    """
    try:
        found = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError) as error:
        raise ValueError("The body must be JSON.") from error
    if not isinstance(found, dict) or not all(isinstance(x, str) for x in found.values()):
        raise ValueError("The body must be a JSON object of words.")
    return found


def _explanation(made: Page) -> Response:
    return HTMLResponse(made.content, headers={"Content-Security-Policy": made.policy})
