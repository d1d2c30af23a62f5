"""Who may ask, and for how much: in front of every route.

- Host must be this machine's name for itself: a page elsewhere whose name was made to lead here (DNS rebinding) has
  another. Addresses in numbers can't be such a name.
- A POST must come from a page of ours: its Origin is ours, and it carries the token that only our pages know.
- A body larger than the limit is refused, before it is read where it states its size.
"""

import hmac
import ipaddress
import secrets
import socket

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST = 32 * 2**20  # bytes of a body
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class TooLarge(Exception):
    """A body is larger than the limit."""


class Guard:
    """Refuses what doesn't come from our own pages.

    Args:
        app: What is guarded.
        host: Where it listens.
        token: What a POST must carry as ``X-Carrot-Token``.
        most: Bytes of a body.
    """

    def __init__(self, app: ASGIApp, host: str, token: str, most: int = MOST) -> None:
        self._app, self._token, self._most = app, token, most
        self._names = {"localhost", host.casefold()}
        self._is_open = not is_loopback(host)
        if self._is_open:
            self._names.add(socket.gethostname().casefold())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            status, why = refusal
            await JSONResponse({"error": why}, status)(scope, receive, with_headers)
            return
        await self._app(scope, self._limited(receive), with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return the status and the reason of a refusal; None: there is none."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return 421, "This server answers to its own address only. Open it as carrot explore printed it."
        if scope["method"] in ("GET", "HEAD"):
            return None
        if scope["method"] != "POST":
            return 405, "Only GET and POST are answered."
        if headers.getlist("origin") not in ([], [f"http://{hosts[0]}"]):
            return 403, "A page of another site asked for this: refused."
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "A page of another site asked for this: refused."
        if not hmac.compare_digest(headers.get("x-carrot-token", "").encode(), self._token.encode()):
            return 403, "The server was started anew since this page was opened: reload the page."
        stated = headers.get("content-length", "0")
        if not stated.isdecimal() or int(stated) > self._most:
            return 413, too_large(self._most)
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        name = name.removeprefix("[").removesuffix("]").casefold()
        if name in self._names:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback or self._is_open
        except ValueError:
            return False

    def _limited(self, receive: Receive) -> Receive:
        """Return what hands a body on and stops where it is too large, whatever it states."""
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._most:
                    raise TooLarge(too_large(self._most))
            return message

        return limited


def too_large(most: int) -> str:
    """Return what is said of a body that is too large."""
    return f"The file is larger than {most // 2**20} MB. Give a smaller one."


def is_loopback(host: str) -> bool:
    """Whether an address or name can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.casefold() == "localhost"


def new_token() -> str:
    """Return a token for one run of the server."""
    return secrets.token_urlsafe(24)
