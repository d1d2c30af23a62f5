"""The routes of ``carrot explore``: what is asked, and which of the other modules answers.

Answers are of one state of the model. Where the folder holds another by now, a page says so, and reads nothing of it
until somebody asks for that.
"""

import hashlib
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

from carrot._images import decode_image, header
from carrot.app.bounded import Bounded
from carrot.app.decisions import DeskChangedError
from carrot.app.desk import Desk
from carrot.app.desk_routes import DeskRoutes
from carrot.app.explained import Explainer, Page
from carrot.app.gallery import Query
from carrot.app.guard import MOST, Guard, TooLarge, new_token
from carrot.app.held import Asked, Entry, Held, ModelChangedError, NotThereError, jpeg
from carrot.app.pages import STATIC, browse, message, page, static, template, text
from carrot.app.uploads import Upload, box_of, shown_name
from carrot.data.inputs import as_picture
from carrot.errors import CarrotError, UnreadableImageError

THUMBS, UPLOADS = 64 * 2**20, 64 * 2**20  # bytes in memory
SIDES = {"thumb": 300, "image": 900}
PIXELS = 64_000_000  # of a picture that comes in: 192 MB decoded
SMALLEST = 8  # pixels a side: less is nothing to see
_DIGEST = re.compile(r"[0-9a-f]{64}")


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
        self.asked, self.versions = asked, dict(versions)
        self._lock = Lock()
        self._read()
        self._pictures, self._uploads = Bounded(THUMBS), Bounded(UPLOADS)
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
            Route("/yours/{digest}/part", self._part),
            Route("/yours/{digest}/image", self._whole),
            *DeskRoutes(self).all,
            Route("/reload", self._reload, methods=["POST"]),
            Route("/favicon.ico", lambda _: Response(status_code=204)),
        ]
        errors = {
            404: self._missing,
            405: self._missing,
            NotThereError: self._missing,
            ModelChangedError: self._changed,
            DeskChangedError: self._changed,
            TooLarge: self._refused(413),
            UnreadableImageError: self._refused(422),
            ValueError: self._refused(400),
            CarrotError: self._refused(409),
            FileNotFoundError: self._refused(404),
            Exception: self._failed,
        }
        guard = Middleware(Guard, host=self._host, token=self.token, most=self._most)
        return Starlette(routes=routes, exception_handlers=errors, middleware=[guard])

    # ---- the state

    def _read(self) -> None:
        held = Held(self.asked)
        held.training  # noqa: B018  # solved for here, once, rather than in the first page
        self._held, self._desk = held, Desk(held)

    def now(self) -> tuple[Held, Desk]:
        """Return the state in memory, which is the folder's.

        Raises:
            ModelChangedError: It isn't.
        """
        with self._lock:
            held, desk = self._held, self._desk
        if not held.is_current:
            raise ModelChangedError("The model was changed by another program since it was read.")
        return held, desk

    def entry(self, request: Request) -> tuple[Held, Desk, Entry]:
        """Return the picture that a link names, and the state that knows it.

        Raises:
            ModelChangedError, NotThereError: As ``now``; the index names none.
        """
        held, desk = self.now()
        entry = held.entry(request.path_params["key"])
        if entry is None:
            raise NotThereError
        return held, desk, entry

    # ---- pictures

    def _browse(self, request: Request) -> Response:
        held, _ = self.now()
        query = Query.read(request.query_params)
        entries, why = (held.training, "") if query.of == "train" else held.others()
        return HTMLResponse(browse(held, query, entries, why, self.token))

    def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        found = static(name)
        if found is None:
            raise NotThereError
        return Response(found, media_type=STATIC[name], headers={"Cache-Control": "no-cache"})

    def _shown(self, kind: str) -> Any:
        def answer(request: Request) -> Response:
            held, _, entry = self.entry(request)
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
        held, _, entry = self.entry(request)
        left_out = self._explainer.left_out(held, entry) if entry.is_training else None
        return RedirectResponse(f"/picture/{entry.key}/page" + ("" if left_out is None else f"#{left_out}"), 303)

    def _picture_page(self, request: Request) -> Response:
        held, _, entry = self.entry(request)
        asked = [request.query_params.get(name) for name in ("target", "against")]
        return _explanation(self._explainer.of_entry(held, entry, *asked))

    # ---- one's own picture

    def _upload_page(self, request: Request) -> Response:
        held, _ = self.now()
        cut = template("cut.html") if held.knows_parts else ""
        body = template("upload.html", most=self._most // 2**20, cut=cut)
        return HTMLResponse(page("Your picture", body, "upload", self.token, held))

    async def _upload(self, request: Request) -> Response:
        content = await request.body()
        return await run_in_threadpool(self._received, content, request.query_params.get("name", ""))

    def _received(self, content: bytes, name: str) -> Response:
        held, _ = self.now()
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
        decode_image(content, name)  # refuses it here, with a reason, where its page would
        kept = name.encode() + b"\n" + content  # the same picture under another name is another upload
        digest = hashlib.sha256(kept).hexdigest()
        self._uploads.put(digest, kept)
        return JSONResponse({"link": f"/yours/{digest}" + ("/part" if held.knows_parts else "")})

    def _yours(self, request: Request) -> Response:
        held, _ = self.now()
        upload = self._given(request)
        box = box_of(request.query_params)
        return _explanation(self._explainer.of_upload(held, upload, box))

    def _part(self, request: Request) -> Response:
        held, _ = self.now()
        upload = self._given(request)
        wide, high = upload.picture.size
        why = template("cut.html") if held.knows_parts else ""
        body = template("part.html", digest=upload.digest, called=text(upload.name), wide=wide, high=high, why=why)
        return HTMLResponse(page("A part of your picture", body, "upload", self.token, held))

    def _whole(self, request: Request) -> Response:
        self.now()
        return Response(jpeg(self._given(request).picture, SIDES["image"]), media_type="image/jpeg")

    def _given(self, request: Request) -> Upload:
        """Return the picture that a link names.

        Raises:
            FileNotFoundError: It isn't kept.
        """
        digest = request.path_params["digest"]
        kept = self._uploads.get(digest) if _DIGEST.fullmatch(digest) else None
        if kept is None:
            raise FileNotFoundError("This picture is no longer in memory: give it again.")
        name, _, content = kept.partition(b"\n")
        return Upload(digest, name.decode(), as_picture(content), header(content, "it").is_animated)

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

    def _failed(self, request: Request, error: Exception) -> Response:
        return self._told(request, 500, "That went wrong", f"{type(error).__name__}: the terminal says more.")

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


def _explanation(made: Page) -> Response:
    return HTMLResponse(made.content, headers={"Content-Security-Policy": made.policy})
