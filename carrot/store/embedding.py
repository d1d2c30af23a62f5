"""Embed a data set once, resumably: every finished shard is on the disk, a killed run goes on after its last one."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from carrot.data.loading import batches
from carrot.data.records import ImageDataset
from carrot.errors import BackboneError, UnreadableImageError
from carrot.progress import progress
from carrot.store.shards import EmbeddingStore


def embed_dataset(
    dataset: ImageDataset,
    transform: Callable[[Image.Image], Tensor],
    embed: Callable[[Tensor], Mapping[str, Tensor]],
    row_shapes: Mapping[str, tuple[int, ...]],
    facts: Mapping[str, object],
    folder: Path,
    batch_size: int = 32,
    dtypes: Mapping[str, torch.dtype] | None = None,
    workers: int = 0,
) -> tuple[EmbeddingStore, dict[str, str]]:
    """Return a complete store of one row for each picture, computed or found in ``folder``.

    Args:
        dataset: The pictures.
        transform: Picture to model input (3, h, w).
        embed: Model inputs (B, 3, h, w) to rows (B, *shape) by name.
        row_shapes: Shape of a row of each of these names.
        facts: What the rows depend on, as JSON: another value later is refused, not mixed. Sizes and times of the picture
            files, and the first model input, are added here: edited files are refused too, and so is another renderer.
        folder: Where the shards lie; made if absent.
        batch_size: Pictures of one pass and of one shard: what a kill loses at most.
        dtypes: Of the rows, by name; default float32.
        workers: Processes that decode; 0: threads.

    Returns:
        The store, rows in the order of the records and NaN where a picture can't be read, with their ``sha256`` (32 bytes); and
        what was wrong with each of those of this run, by record id.

    Raises:
        StoreError: ``folder`` holds rows of other facts or pictures, or a damaged shard.
    """
    records = dataset.records
    store = EmbeddingStore(
        folder,
        {**facts, "pictures": _state(dataset, transform)},
        [record.id for record in records],
        shard_size=batch_size,
    )
    missing = store.missing()
    work = batches(dataset, transform, [list(store.rows(shard)) for shard in missing], workers if missing else 0)
    errors: dict[str, str] = {}
    most = sum(len(store.rows(shard)) for shard in missing)
    pieces = zip(missing, work, strict=True)
    for shard, batch in progress(pieces, f"embedding {dataset.name}", len(missing), "pictures", batch_size, most):
        B = len(batch.readable)
        rows = {
            name: torch.full((B, *shape), torch.nan, dtype=(dtypes or {}).get(name, torch.float32))
            for name, shape in row_shapes.items()
        }
        if bool(batch.readable.any()):
            try:
                found = embed(batch.x[batch.readable])
            except BackboneError as error:
                first, last = (records[row].id for row in (store.rows(shard)[0], store.rows(shard)[-1]))
                raise BackboneError(f"{first} .. {last}: {error}") from error
            for name, values in found.items():
                rows[name][batch.readable] = values.to(rows[name])
        store.write(shard, {**rows, "sha256": batch.sha256})
        unreadable = [records[row].id for row, good in zip(store.rows(shard), batch.readable, strict=True) if not good]
        errors.update(zip(unreadable, batch.errors, strict=True))
    return store, errors


def _state(dataset: ImageDataset, transform: Callable[[Image.Image], Tensor]) -> dict[str, str]:
    """Return what tells an edited data set from the one that was embedded, without reading every picture."""
    files = hashlib.sha256()
    for record in dataset.records:
        if record.path is not None and record.path.exists():
            status = record.path.stat()
            files.update(f"{record.id} {status.st_size} {status.st_mtime_ns}\n".encode())
    try:
        first = transform(dataset.image(0)).contiguous().numpy().tobytes()
    except (UnreadableImageError, ValueError) as error:
        first = str(error).encode()
    return {"sizes_and_times": files.hexdigest(), "first_input": hashlib.sha256(first).hexdigest()}
