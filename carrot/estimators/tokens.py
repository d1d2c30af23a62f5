"""Tokens of single pictures, kept by what each holds, so that no fold puts a picture through the backbone twice.

::

    FOLDER/<backbone, preprocessing, precision, regions>/<first two digits>/<SHA-256 of the picture>.safetensors

Cross-validation cuts a data set anew for each fit. Each file is written whole or not at all, and says in its header the
SHA-256 of its values: several processes may fill one folder (``n_jobs``), and a damaged file is refused.
``carrot fit --tokens`` keeps whole data sets instead, a shard of many pictures at a time; the two don't read each
other's.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import PIL
import safetensors.torch
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from carrot.data.inputs import PictureLike, as_picture, content_of
from carrot.embedding.encoder import Encoder
from carrot.embedding.tokens import Tokens
from carrot.errors import StoreError
from carrot.store.files import write_atomically

BATCH = 32  # pictures of one pass; of tiles fewer
INPUTS = 512  # tiles that are decoded at once


class PictureTokens:
    """Tokens of pictures, computed or found.

    Args:
        encoder: What makes them.
        folder: Where they are kept; None: nowhere.
    """

    def __init__(self, encoder: Encoder, folder: Path | None) -> None:
        self._encoder, self._folder = encoder, None
        if folder is not None:
            view = encoder.view
            decodes = hashlib.sha256(view.probe(PROBE).contiguous().numpy().tobytes()).hexdigest()
            regions = None if encoder.tiling is None else encoder.tiling.spec
            facts = [encoder.fingerprint, encoder.dtype, regions, encoder.has_whole, decodes, PIL.__version__]
            facts += ["compiled"] if view.backbone.compiled else []
            self._folder = folder / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def batches(self, pictures: Sequence[PictureLike]) -> Iterator[tuple[slice, Tokens]]:
        """Yield the tokens of pictures, in order: (which, their tokens).

        Raises:
            UnreadableImageError: One can't be decoded.
            StoreError: A file of the folder is damaged.
        """
        inputs = self._encoder.view.inputs
        size = max(1, min(BATCH, INPUTS // inputs[0])) if inputs else BATCH
        for start in range(0, len(pictures), size):
            block = pictures[start : start + size]
            yield slice(start, start + len(block)), self._tokens(block)

    def _tokens(self, block: Sequence[PictureLike]) -> Tokens:
        if self._folder is None:
            return self._encoder.tokens(block)
        paths = [self._path(self._folder, picture) for picture in block]
        absent = {path: picture for path, picture in zip(paths, block, strict=True) if not path.exists()}
        if absent:
            for path, rows in zip(absent, _each(self._encoder.tokens(list(absent.values()))), strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, safetensors.torch.save(rows, {"sha256": _digest(rows)}))
        kept = [_read(path) for path in paths]
        blank = self._encoder.view.blank
        return Tokens.of_rows(
            {name: torch.stack([one[name] for one in kept]) for name in kept[0]}, blank.grid_hw, blank.tiling
        )

    @staticmethod
    def _path(folder: Path, picture: PictureLike) -> Path:
        try:
            name = content_of(picture, None if isinstance(picture, str | Path) else as_picture(picture))
        except OSError:
            as_picture(picture)  # says it in a user's words
            raise
        return folder / name[:2] / f"{name}.safetensors"


def _probe() -> Image.Image:
    """Return a picture that stands for how pictures are prepared."""
    return Image.linear_gradient("L").convert("RGB").rotate(30)


PROBE = _probe()


def _each(tokens: Tokens) -> Iterator[dict[str, Tensor]]:
    rows = tokens.rows()
    for i in range(len(tokens.H)):
        yield {name: values[i].contiguous().clone() for name, values in rows.items()}


def _digest(rows: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(rows):
        found.update(f"{name} {rows[name].dtype} {tuple(rows[name].shape)}\n".encode())
        found.update(rows[name].contiguous().numpy().tobytes())
    return found.hexdigest()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            rows = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            says = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path}: can't be read ({error}). Delete it: its tokens are computed again.") from error
    if says != _digest(rows):
        raise StoreError(f"{path}: is damaged, its values are not what was written. Delete it.")
    return rows
