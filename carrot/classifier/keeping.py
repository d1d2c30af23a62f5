"""A model to and from its folder, and from what many machines extracted: the verbs ``save``, ``load``, ``merge``."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from carrot._ambient import pinned_class
from carrot._vit.base import TimmBackbone
from carrot.classifier.classifier import Classifier
from carrot.classifier.files import load, save, seal
from carrot.classifier.records import PictureFinder
from carrot.classifier.weighting import ClassWeight
from carrot.data import open_dataset
from carrot.data.opening import resolved
from carrot.embedding.encoder import Encoder
from carrot.embedding.spec import Precision

Model = TypeVar("Model", bound="Keeping")


@pinned_class
class Keeping:
    """``save``, ``load`` and ``merge``, over a model that has the attributes below, and ``Carrot``'s arguments."""

    classifier: Any
    encoder: Encoder
    _now: Classifier | None
    _seen: tuple[Path, str] | None
    _lock: Any

    if TYPE_CHECKING:

        def __init__(self, backbone: str | TimmBackbone, **settings: Any) -> None: ...

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the model: config.json, safetensors and records.jsonl, at one moment; one that was there is replaced.

        Args:
            folder: Where.
            overwrite: Also where the model there was changed by another since this one was loaded from it or saved to
                it.

        Raises:
            ModelError: The folder holds something else, or was changed since.
            StoreError: The disk refuses.
        """
        with self._lock:
            where = Path(folder).resolve()
            seen = None if overwrite or self._seen is None or self._seen[0] != where else self._seen[1]
            self._seen = (where, save(Path(folder), self.classifier, seen))

    @classmethod
    def load(
        cls: type[Model],
        folder: str | Path,
        *,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        backbone: TimmBackbone | None = None,
        data: str | Path | None = None,
    ) -> Model:
        """Read a model that ``save`` wrote: the same logits, bit for bit. The backbone is built when a picture comes.

        Args:
            folder: Where it lies.
            checkpoint: The backbone's weights, where they are no longer where they were; they must be the same.
            device: As in ``Carrot``.
            backbone: The backbone itself, where its description doesn't build it: its fingerprint must be the same.
            data: The data set that it was fitted on, where that is no longer where it was: training pictures are shown
                from it.

        Raises:
            ModelError: There is none, it is damaged, or of a newer format; or, later, the backbone's weights are
                others.
            DataError: ``data`` is no data set.
        """
        seen = seal(Path(folder))
        model = cls._holding(load(Path(folder), checkpoint, device, backbone), device, backbone, data)
        model._seen = (Path(folder).resolve(), seen or "")
        return model

    @classmethod
    def merge(
        cls: type[Model],
        *folders: str | Path,
        lam: float | Literal["loo"] = "loo",
        class_weight: ClassWeight = None,
    ) -> Model:
        """Return the model that ``fit`` makes of the pictures whose embeddings ``extract`` left, bit for bit.

        No picture is read, and no backbone runs. Embeddings are held in memory; ``carrot merge`` has them on the disk.

        Args:
            folders: One or several, in any order; each shard counts once.
            lam: As in ``Carrot``.
            class_weight: As in ``Carrot``.

        Raises:
            StoreError: A folder holds no extract, they are not of one, or a shard is missing or damaged.
            DataError: A class has no picture that could be read.
            ValueError: There is no folder, or ``class_weight`` names no class of the data.
        """
        from carrot.classifier.merged import merge
        from carrot.embedding.extracted import Extracts

        return cls._holding(merge(Extracts.of(folders), lam, class_weight))

    @classmethod
    def _holding(
        cls: type[Model],
        now: Classifier,
        device: str = "auto",
        backbone: TimmBackbone | None = None,
        data: str | Path | None = None,
    ) -> Model:
        """Return the model that was asked for with what a classifier was fitted with, and holds it."""
        encoder, fitted = now.encoder, now.fitted
        if data is not None:
            fitted = replace(fitted, data=resolved(str(data)))
        spec, weight = encoder.spec, fitted.class_weight
        if isinstance(weight, Mapping):
            weight = dict(zip(fitted.labels_of(list(weight)).tolist(), weight.values(), strict=True))
        model = cls(
            backbone or spec.name,
            **fitted.setting.to_dict(),
            lam=fitted.asked_lam,
            fit_intercept=fitted.head.fit_intercept,
            class_weight=weight,
            checkpoint=spec.checkpoint,
            img_size=spec.img_size,
            crop=spec.crop,
            device=device,
            dtype=encoder.dtype,
            precision=cast(Precision, spec.precision),
        )
        reopen = None if fitted.data is None else partial(open_dataset, fitted.data)
        find = PictureFinder(None if reopen is None or data is None else reopen(), reopen)
        model.encoder, model._now = encoder, Classifier(encoder, fitted, find)
        return model
