"""From records to the backbone's input: a batch at a time, decoded ahead, bad pictures set aside."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from carrot._display.brief import brief
from carrot.data.inputs import content_sha256
from carrot.data.records import ImageDataset
from carrot.errors import UnreadableImageError

Loaded: TypeAlias = tuple[Tensor, bytes]
T = TypeVar("T")
R = TypeVar("R")
DECODERS = 4  # threads; PIL lets go of the interpreter while it decodes and resizes


@dataclass(frozen=True)
class Batch:
    """Pictures ready for a backbone.

    Attributes:
        x: Model inputs, one a picture or one for each of its tiles; zeros where a picture can't be read.
        readable: False for those.
        errors: What was wrong with each of them.
        sha256: Of each picture's content, see ``content_sha256``; zeros where it can't be read.
    """

    x: Float[Tensor, "B *tiles 3 img_h img_w"]
    readable: Bool[Tensor, " B"]
    errors: tuple[str, ...]
    sha256: UInt8[Tensor, "B 32"]

    __repr__ = brief


def batches(
    dataset: ImageDataset,
    transform: Callable[[Image.Image], Tensor],
    index_lists: Sequence[Sequence[int]],
    workers: int = 0,
    threads: int = DECODERS,
) -> Iterator[Batch]:
    """Yield a ``Batch`` for each list of record indices; the next ones are decoded while the caller works on this one.

    Pictures that can't be decoded are set aside, not fatal: see ``Batch.errors``.

    Args:
        dataset: The pictures.
        transform: Picture to model input.
        index_lists: Records of each batch.
        workers: Processes that decode, for a backbone that is faster than one interpreter; data set and transform are
            then pickled, by this program and for it alone. 0: threads, which a backbone on the processor needs no more
            than.
        threads: How many, where there are no processes.

    Raises:
        ValueError: A list is empty, or ``workers`` is negative.
    """
    if not all(index_lists):
        raise ValueError("`index_lists` must hold no empty list.")
    if workers < 0:
        raise ValueError(f"`workers` must be 0 or more; got {workers}.")
    load = Loader(dataset, transform)
    if workers:
        loader: DataLoader[Batch] = DataLoader(
            load,  # type: ignore[arg-type]
            batch_sampler=[list(indices) for indices in index_lists],
            num_workers=workers,
            collate_fn=_collate,
            multiprocessing_context="spawn",
        )
        yield from loader
        return
    with ThreadPoolExecutor(threads) as pool:

        def start(position: int) -> list[Future[Loaded | str]]:
            return (
                [pool.submit(load.__getitem__, i) for i in index_lists[position]] if position < len(index_lists) else []
            )

        ahead = start(0)
        for position in range(len(index_lists)):
            now, ahead = ahead, start(position + 1)
            yield _collate([future.result() for future in now])


def in_flight(work: Callable[[T], R], items: Iterable[T], at_a_time: int) -> Iterator[R]:
    """Yield what ``work`` makes of each item, in order; several are worked on at a time, by threads.

    So a GPU has its next pass while the rows of the last one come back and are written. An error is raised in its
    turn, and nothing is begun after it.

    Args:
        work: What is done; of one item alone, so that its result doesn't depend on the others.
        items: Taken one by one, as there is room.
        at_a_time: How many; 1: in this thread.
    """
    if at_a_time == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(at_a_time) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) == at_a_time:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True, eq=False)
class Loader:
    """Decodes one picture of a data set at a time: its model input and its SHA-256, or what is wrong with it."""

    dataset: ImageDataset
    transform: Callable[[Image.Image], Tensor]

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.dataset.records)

    def __getitem__(self, index: int) -> Loaded | str:
        try:
            image = self.dataset.image(index)
            return self.transform(image), bytes.fromhex(content_sha256(self.dataset.records[index], image))
        except UnreadableImageError as error:
            return str(error)
        except ValueError as error:  # the transform refuses it: far too long and narrow
            return f"{self.dataset.records[index].id}: {error}"


def _collate(loaded: list[Loaded | str]) -> Batch:
    pictures = [item[0] for item in loaded if not isinstance(item, str)]
    blank = torch.zeros_like(pictures[0]) if pictures else torch.zeros(3, 1, 1)
    digests = [bytes(32) if isinstance(item, str) else item[1] for item in loaded]
    return Batch(
        x=torch.stack([blank if isinstance(item, str) else item[0] for item in loaded]),
        readable=torch.tensor([not isinstance(item, str) for item in loaded]),
        errors=tuple(item for item in loaded if isinstance(item, str)),
        sha256=torch.tensor([list(digest) for digest in digests], dtype=torch.uint8),
    )
