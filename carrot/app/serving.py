"""The server runs: a socket of its own, a browser that is opened, an end by Ctrl-C."""

import errno
import socket
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import suppress

import uvicorn

from carrot.app.held import Asked
from carrot.app.server import Explorer
from carrot.errors import CarrotError

AT_ONCE = 64  # connections
PATIENCE = 3  # seconds that answers under way have when it ends


class AddressError(CarrotError):
    """The server can't listen where it was told to."""


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        AddressError: The port is taken or not allowed, or the address isn't this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise AddressError(f"`host` {host!r}: is no address of this machine.") from error
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(AT_ONCE)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            why = f"port {port} is taken: another carrot explore, perhaps. Give another: `port`."
        elif error.errno == errno.EACCES:
            why = f"port {port} is not for everybody to use. Give one above 1023: `port`."
        else:
            why = f"can't listen at {host}: {error.strerror}."
        raise AddressError(why) from error
    return found


def serve(
    asked: Asked,
    at: socket.socket,
    host: str,
    versions: Mapping[str, str],
    opens: bool,
    say: Callable[[str], None],
) -> str:
    """Serve a model until Ctrl-C; return its address.

    Args:
        asked: The model.
        at: Where, ``listening``.
        host: The name of that.
        versions: Of the software, for certificates.
        opens: Whether to open a browser.
        say: Is told the address.
    """
    say(f"reading {asked.folder} ...")
    explorer = Explorer(asked, host, versions)
    port = at.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)
    address = f"http://{name}:{port}/"
    config = uvicorn.Config(
        explorer.app,
        log_level="error",
        access_log=False,
        server_header=False,
        limit_concurrency=AT_ONCE,
        timeout_graceful_shutdown=PATIENCE,
        lifespan="off",
        ws="none",
        proxy_headers=False,
    )
    say(f"{address}   (Ctrl-C ends it)")
    if opens:
        with suppress(webbrowser.Error):
            webbrowser.open(address)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[at])
    return address
