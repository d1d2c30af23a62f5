"""``carrot explore``: a model looked at in a browser, and the desk for its doubtful labels."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from carrot._display.extras import how_to_install, missing
from carrot.cli import early
from carrot.cli.options import Checkpoint, Device, UsageError, Whole, note
from carrot.store.versions import versions


def explore(
    model: Path,
    /,
    *,
    port: Annotated[Whole, Parameter(help="Port; 0: any that is free.")] = 7860,
    host: Annotated[str, Parameter(help="Address to listen at: of this machine alone, unless you say another.")] = (
        "127.0.0.1"
    ),
    data: str | None = None,
    open: bool = True,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
) -> int:
    """Look at a model in the browser: pictures, explanations, one's own pictures, and the desk for doubtful labels.

    A small server on this machine; it asks nothing of any other. Ctrl-C ends it.

    ```
    carrot explore my_model
    carrot explore my_model --port 8000 --no-open
    ```

    Args:
        model: Folder of the model.
        port: Port; 0: any that is free.
        host: Address to listen at.
        data: Where pictures are, if no longer where the model was fitted; held-out ones are shown from there too.
        open: Open the browser.
        checkpoint: The backbone's weights, if they are no longer where they were.
        device: Where the backbone runs.
    """
    early.need_model(model, *([Path(data)] if data else []))
    early.need_data(data)
    early.need_checkpoint(checkpoint)
    if not 0 <= port < 65536:
        raise UsageError(f"`--port` must be 0 to 65535; got {port}.")
    if absent := missing("app"):
        raise UsageError(f"carrot explore needs {' and '.join(absent)}: {how_to_install('app')}.")

    from carrot.app.guard import is_loopback
    from carrot.app.held import Asked
    from carrot.app.serving import listening, serve

    if not is_loopback(host):
        note(
            f"warning: at {host} others can reach it too: whoever does sees the pictures, and may decide at the desk. "
            "There is no password."
        )
    with listening(host, port) as socket:
        address = serve(Asked(model, data, checkpoint, device), socket, host, versions(), open, note)
    note(f"stopped: {address}")
    return 0
