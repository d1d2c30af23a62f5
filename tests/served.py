"""A model's explorer at an address of this machine, for tests that ask it in a browser."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from carrot.app.held import Asked
from carrot.app.server import Explorer
from carrot.app.serving import listening


@contextmanager
def served(model: Path) -> Iterator[str]:
    """Serve the model of a folder; the address, as long as the block lasts."""
    socket = listening("127.0.0.1", 0)
    app = Explorer(Asked(model), "127.0.0.1", {}).app
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    socket.close()
