"""The verbs that fit a model to pictures: with settings of one's own, or those that exact leave-one-out chooses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from torch import Tensor

from carrot._ambient import pinned_class
from carrot.classifier.classifier import Classifier
from carrot.classifier.fitted import Fitted
from carrot.classifier.fitting import Caches, refuse_too_large, require_named, tokens_of, training_set
from carrot.classifier.records import PictureFinder
from carrot.classifier.weighting import ClassWeight, own_weights, refuse_unknown_classes, row_weights
from carrot.data.labels import Labels
from carrot.data.records import Subset
from carrot.embedding.encoder import Encoder
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import Setting
from carrot.head import RidgeHead

if TYPE_CHECKING:
    from carrot.classifier.selecting_again import SelectedAgain
    from carrot.embedding.extracting import Extracted

MAX_EMBEDDINGS = 16 * 2**30  # bytes of float64 embeddings that a fit may hold
Solved = tuple[RidgeHead, Setting, tuple[Mapping[str, object], ...]]
Model = TypeVar("Model", bound="Fittable")


@pinned_class
class Fittable:
    """``fit``, ``select`` and ``extract``, over a model that has the attributes below."""

    encoder: Encoder
    lam: float | Literal["loo"]
    fit_intercept: bool
    class_weight: ClassWeight
    records_: Any
    selection_: Any
    setting_: Any
    selected_again_: "SelectedAgain | None" = None
    _now: Classifier | None
    _lock: Any

    def require(self, grid: Mapping[str, Sequence[Any]] | None = None, passes: float | None = None) -> None:
        """Refuse settings that don't go together, or not with the backbone: what can be said before data is read.

        Args:
            grid: As ``select`` takes it; None: what ``fit`` would take.
            passes: As ``select`` takes it.

        Raises:
            TypeError, ValueError, BackboneError: They don't.
        """
        from carrot.classifier.selecting import Plan

        if grid is None:
            s = self.setting_
            Pooling(s).require(self.encoder.of(s).view)
        else:
            Plan.of(grid, self.encoder, 1, MAX_EMBEDDINGS, passes)

    def fit(
        self: Model, data: Any, y: Labels | None = None, *, sample_weight: Any = None, tokens: str | Path | None = None
    ) -> Model:
        """Fit the closed-form head on a data set's training pictures.

        Args:
            data: A folder or ``kind:PATH`` (see ``carrot.data.open_dataset``); a data set: an ``ImageDataset``, one of
                torch or torchvision, also a ``Subset``, or of Hugging Face; a data frame with the columns image (paths)
                and label, and perhaps split; or pictures, with ``y``.
            y: Labels, one for each picture, for pictures only: names, whole numbers or truth values.
            sample_weight: What each training picture counts, > 0, in their order; or by id, 1 for the others.
            tokens: Folder for the backbone's tokens: computed once, found again by the next run, and read when pairs of
                regions are explained. Those of several data sets and backbones may share it. None: a temporary one.

        Raises:
            DataError: The data set is not what its format says, or a class has no readable training picture.
            StoreError: ``tokens`` holds those of other pictures or of another backbone.
            ValueError: Settings or weights don't go with the backbone or the pictures, or embeddings would not fit into
                memory.
        """
        require_named(data, y)
        self.require()
        train, spec = training_set(data, y)
        encoder = self.encoder.of(s := self.setting_)
        refuse_too_large(s, len(train.records), encoder.backbone.embed_dim, MAX_EMBEDDINGS)

        def solve(caches: Caches, rows: list[int], labels: Tensor, w: Tensor) -> Solved:
            return RidgeHead(self.lam, self.fit_intercept).fit(caches.of(s).embed(rows, s), labels, w), s, ()

        return self._solve(train, spec, sample_weight, tokens, [s], solve)

    def select(
        self: Model,
        data: Any,
        y: Labels | None = None,
        *,
        grid: Mapping[str, Sequence[Any]] | None = None,
        sample_weight: Any = None,
        tokens: str | Path | None = None,
        passes: float | None = None,
        again: bool = False,
        show: bool = True,
    ) -> Model:
        """Choose regions, lift, readout, graph, t and lam by exact leave-one-out on the training pictures; then fit.

        First regions, lift and readout at t = 0, then the graph for the best of them; t = 0 and mean pooling of tokens
        as they are always compete. Tiles see only themselves, so their maps show the picture: they are taken unless
        they lose more than a standard error of leave-one-out accuracy against the best; then with a told share of the
        whole picture, if that closes the gap; else patches (``carrot.classifier.selecting``). The table says what was
        given up.

        Args:
            data: As in ``fit``.
            y: As in ``fit``.
            grid: What to choose from, by the names of ``Setting``; what is absent has the default of
                ``carrot.classifier.selecting``.
            sample_weight: As in ``fit``; leave-one-out errors are weighted alike.
            tokens: As in ``fit``.
            passes: What the regions of a picture may cost, in passes of the backbone at its own input; default: any.
            again: Also choose again without each training picture, exactly, for ``selected_again_``: how much the
                choice leans on single pictures, and leave-one-out accuracy that no choice flatters. It takes n^2 (M +
                C) multiplications more, M at most n, for each setting and penalty.
            show: Print the table and what was chosen.

        Raises:
            DataError, StoreError, ValueError: As in ``fit``; a name in ``grid`` is unknown.
        """
        from carrot.classifier.selecting import Plan, choose
        from carrot.classifier.selecting_again import SelectedAgain, choose_again
        from carrot.classifier.selection_table import table_lines

        require_named(data, y)
        self.require(grid or {}, passes)
        train, spec = training_set(data, y)
        plan = Plan.of(grid or {}, self.encoder, len(train.records), MAX_EMBEDDINGS, passes)
        found = list[SelectedAgain]()

        def solve(caches: Caches, rows: list[int], labels: Tensor, w: Tensor) -> Solved:
            best, tried = choose(caches, rows, labels, plan, self.fit_intercept, w)
            if again:
                found.append(choose_again(caches, rows, labels, plan, best.setting, self.fit_intercept, w))
            return best.head, best.setting, tuple(tried)

        self._solve(train, spec, sample_weight, tokens, plan.plain, solve)
        self.selected_again_ = found[0] if found else None
        if show:
            n = len(self.records_)
            print(*table_lines(self.selection_, self.setting_, n, False, plan.limit, plan.beyond), *found, sep="\n")
        return self

    def extract(
        self,
        data: Any,
        folder: str | Path,
        *,
        part: tuple[int, int] = (1, 1),
        rows: Literal["float64", "float32", "float16"] = "float64",
        shard_size: int | None = None,
    ) -> "Extracted":
        """Compute embeddings of the training pictures in parts that several machines may do at once, for ``merge``.

        Only these are kept, no tokens; with the settings of this model, which needn't be fitted and isn't changed. What
        is there already is not computed again, but where a picture's file was changed since.

        Args:
            data: As in ``fit``.
            folder: Where, or an address that fsspec opens, "s3://BUCKET/FOLDER" say; one for all parts or one for each.
            part: (i, n), i from 1 to n: every n-th shard from the i-th on.
            rows: What embeddings are rounded to; only "float64" gives the model of ``fit``.
            shard_size: Pictures of a file, a multiple of those of a pass; None: as of 64 files, 1,024 at most.

        Returns:
            What became of the shards: ``of("made")``, ``of("found")``, ``of("again")``, ``missing``, ``errors``.

        Raises:
            DataError, StoreError: As in ``fit``; the folder holds embeddings of other pictures or settings.
            ValueError: As in ``fit``; ``part``, ``rows`` or ``shard_size`` is none.
        """
        from carrot.embedding.extracting import ExtractShard, extract
        from carrot.engine import current

        if not 1 <= part[0] <= part[1]:
            raise ValueError(f"`part` must be (i, n) with i from 1 to n; got {part!r}.")
        require_named(data, None)
        self.require()
        train, spec = training_set(data, None)
        job = ExtractShard.of(train, self.encoder, self.setting_, folder, rows, shard_size, spec)
        return extract(job, current(), part)

    def _solve(
        self: Model,
        train: Subset,
        spec: str | None,
        sample_weight: Any,
        tokens: str | Path | None,
        settings: Sequence[Setting],
        solve: Callable[..., Solved],
    ) -> Model:
        refuse_unknown_classes(self.class_weight, train.classes)
        own = own_weights(train, sample_weight)
        with tokens_of(self.encoder, train, tokens) as caches:
            for s in settings:  # all of them, so that all are compared on the same pictures
                caches.of(s)
            rows, labels = caches.readable()
            w = row_weights(own[rows], labels, self.class_weight, train.classes)
            head, setting, tried = solve(caches, rows, labels, w)
            lam = self.lam if isinstance(self.lam, str) else float(self.lam)
            facts = {"data": spec, "selection": tried, "class_weight": self.class_weight, "asked_lam": lam}
            kept = None if tokens is None else caches.kept(setting)
            fitted = Fitted.of(head, setting, train, rows, own, caches.of(setting), kept, **facts)
            fitted = replace(fitted, set_aside={**fitted.set_aside, **caches.errors})
        with self._lock:
            self._now = Classifier(self.encoder.of(setting), fitted, PictureFinder(train))
            self.selected_again_ = None
        return self
