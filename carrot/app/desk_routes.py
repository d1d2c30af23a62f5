"""The routes of the desk: what it tells, what is decided, and the new version that is made of it."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from carrot.app.desk import Desk
from carrot.app.held import Entry, Held, ModelChangedError, NotThereError
from carrot.app.pages import page, template, text
from carrot.app.versions import new_version, next_name

if TYPE_CHECKING:
    from carrot.app.server import Explorer


class DeskRoutes:
    """What lies below ``/desk``.

    Args:
        explorer: Knows the model of now.
    """

    def __init__(self, explorer: "Explorer") -> None:
        self._explorer = explorer

    @property
    def all(self) -> list[Route]:
        """Every route."""
        return [
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
        ]

    def _desk_page(self, request: Request) -> Response:
        held, desk = self._explorer.now()
        key = request.path_params.get("key", "")
        if key and key not in held.by_key:
            raise NotThereError
        options = "".join(f'<option value="{text(name)}"></option>' for name in held.fitted.classes)
        body = template(
            "desk.html",
            key=key,
            classes=options,
            next=text(next_name(self._explorer.asked.folder)),
            model=text(self._explorer.asked.folder),
            stale=len(desk.decisions.stale(held.fitted)),
        )
        return HTMLResponse(page("Desk", body, "desk", self._explorer.token, held, "desk.js"))

    def _progress(self, request: Request) -> Response:
        return JSONResponse(self._explorer.now()[1].progress())

    def _judged(self, request: Request) -> tuple[Desk, Entry]:
        _, desk, entry = self._explorer.entry(request)
        if not entry.is_training:
            raise NotThereError
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
        def answer(held: Held, desk: Desk, given: Mapping[str, str]) -> Response:
            entry = held.by_key.get(request.path_params["key"])
            if entry is None:
                raise NotThereError
            asked = [given.get(name, "") for name in ("action", "label")]
            desk.decide(entry, *asked, seen=given.get("seen"), new_class=given.get("new") == "yes")
            return JSONResponse(desk.progress())

        return await self._asked_for(request, answer)

    async def _undo(self, request: Request) -> Response:
        def answer(held: Held, desk: Desk, given: Mapping[str, str]) -> Response:
            return JSONResponse({"key": desk.undo(given.get("seen")), **desk.progress()})

        return await self._asked_for(request, answer)

    async def _tidy(self, request: Request) -> Response:
        def answer(held: Held, desk: Desk, given: Mapping[str, str]) -> Response:
            desk.tidy()
            return JSONResponse(desk.progress())

        return await self._asked_for(request, answer)

    async def _apply(self, request: Request) -> Response:
        def answer(held: Held, desk: Desk, given: Mapping[str, str]) -> Response:
            if not desk.review.decided:
                raise ValueError("Nothing is to be changed: no picture is relabelled or forgotten.")
            if desk.decisions.stale(held.fitted):
                raise ValueError("Some decisions are done in this model already. Put them away first.")
            model = held.asked.folder
            name = given.get("name") or next_name(model)
            table, versions = desk.decisions.table(), self._explorer.versions
            made = new_version(model, table, name, held.seal, versions, new_classes=bool(desk.added))
            told = {"folder": str(made.folder), "certificate": str(made.file), "text": made.text}
            return JSONResponse({**told, "next": next_name(model)})

        return await self._asked_for(request, answer)

    async def _asked_for(
        self, request: Request, answer: Callable[[Held, Desk, Mapping[str, str]], Response]
    ) -> Response:
        """Answer what a page asks for, if it is of the model as it is."""
        given = await _json(request)

        def checked() -> Response:
            held, desk = self._explorer.now()
            if given.get("state") != held.state:
                raise ModelChangedError("This page is of the model as it was before. Reload the page.")
            return answer(held, desk, given)

        return await run_in_threadpool(checked)


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
