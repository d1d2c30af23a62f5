"""CARROT as one object: pictures in, classes out, and every prediction comes apart again. It wires; it computes nothing.

::

    model = Carrot("vit_small_patch14_reg4_dinov2.lvd142m").select("my_pictures")     # or .fit(...), with settings of your own
    model.predict("bird.jpg")                        # as scikit-learn names things
    model.explain("bird.jpg").to_html("bird.html")   # which regions, which training pictures, which regions of those
    model.audit()                                    # labels that the other pictures contradict, near duplicates, high leverage
    model.forget(["robin/17.jpg"])                   # as if it had never been there
    model.save("birds"); Carrot.load("birds")
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray

from carrot.audit import Audit, audit
from carrot.backbone import Crop, TimmViTPatchBackbone
from carrot.data import open_dataset
from carrot.data.inputs import Labels, PictureLike, PictureList, Pictures, as_list
from carrot.encoder import DEFAULT_MODEL, Encoder
from carrot.errors import NotFittedError
from carrot.evaluation.calibration import probabilities
from carrot.evaluation.selection import candidate
from carrot.explaining import explain
from carrot.explanation import Explanation
from carrot.fitted import Fitted
from carrot.fitting import readable, refuse_too_large, tokens_of, training_set
from carrot.graph import RegionGraphBuilder
from carrot.head import RidgeHead
from carrot.hub import HubMixin
from carrot.lift import lift_from
from carrot.model_files import load, save
from carrot.operator import DiffusionOperator
from carrot.parts import Trace
from carrot.readout import GraphReadout
from carrot.stages import Setting, embed_tokens, refuse_impossible, trace_tokens
from carrot.training import PictureFinder
from carrot.updates import Certificate, add, forget

BATCH = 32
MAX_EMBEDDINGS = 16 * 2**30  # bytes of float64 embeddings that a fit may hold


class Carrot(HubMixin):
    """An image classifier that can be held to account, with scikit-learn's verbs.

    Args:
        backbone: timm's name of a vision transformer, or a ``TimmViTPatchBackbone``; "toy": the small one in this package.
        sigma_spatial: Bandwidth of the graph in space, in units of P; without effect at t = 0.
        sigma_feature: Bandwidth among features, in units of the picture's own median distance; without effect at t = 0.
        t: Diffusion time; 0 is mean pooling, or pooling by attention.
        lift: phi, as ``carrot.lift.lift_from`` reads it: "identity" (the guide's), "quadratic", "relu:M", "fourier:M", "sketch:M".
        tau: Power of the class token's attention in the readout; None: 0.5 where the backbone gives it, else 0.
        global_share: Weight of the class token as one more, global region; what it brings is always shown apart.
        coarsen: Blocks of ``coarsen`` x ``coarsen`` patches become one region each.
        lam: Ridge penalty, or "loo": by exact leave-one-out.
        fit_intercept: True: centred exactly, and explanations are told relative to the mean training picture. False is the guide's.
        checkpoint: Local weights for ``backbone``.
        img_size: As ``TimmViTPatchBackbone`` has it.
        crop: As ``TimmViTPatchBackbone`` has it.
        device: Where the backbone runs; "auto": a GPU if there is one. All after it runs on the processor, in float64.
        dtype: What tokens are rounded to, "float16" or "float32": those of every picture, so that what is exact stays so.

    Attributes (after ``fit``, ``select`` or ``load``):
        classes_: Names of the classes, in the order of the logits.
        head_: The ``RidgeHead``.
        records_: The training pictures, in the order of ``head_.G``.
        setting_: All that an embedding depends on, beside the backbone.
        temperature_: Of ``predict_proba``, fitted on exact leave-one-out logits.
        set_aside_: What was wrong with pictures that could not be read, by id.
        selection_: A line for each setting that ``select`` tried.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        backbone: str | TimmViTPatchBackbone = DEFAULT_MODEL,
        *,
        sigma_spatial: float = 0.5,
        sigma_feature: float = 1.0,
        t: float = 0.0,
        lift: str = "quadratic",
        tau: float | None = None,
        global_share: float = 0.0,
        coarsen: int = 1,
        lam: float | Literal["loo"] = "loo",
        fit_intercept: bool = True,
        checkpoint: str | Path | None = None,
        img_size: int | tuple[int, int] | None = None,
        crop: Crop = "model",
        device: str = "auto",
        dtype: Literal["float16", "float32"] = "float16",
    ) -> None:
        RidgeHead(lam)  # each of these refuses what is out of range
        lift_from(lift)
        DiffusionOperator(t)
        RegionGraphBuilder(sigma_spatial, sigma_feature)
        GraphReadout("source", tau or 0.0, global_share)
        if coarsen < 1:
            raise ValueError(f"`coarsen` must be at least 1; got {coarsen}.")
        self.lam, self.fit_intercept = lam, fit_intercept
        self.encoder = Encoder(backbone, checkpoint, img_size, crop, device, dtype)
        self._asked = Setting(lift, tau or 0.0, sigma_spatial, sigma_feature, t, global_share, coarsen)
        self._tau_is_asked = tau is not None
        self._fitted: Fitted | None = None
        self._find = PictureFinder(None)

    # ---- fitting

    def fit(self, data: Any, y: Labels | None = None, *, tokens: str | Path | None = None) -> "Carrot":
        """Fit the closed-form head on a data set's training pictures.

        Args:
            data: A folder or ``kind:PATH`` (see ``carrot.data.open_dataset``), an ``ImageDataset``, or pictures, with ``y``.
            y: Class names or numbers, one for each picture; for pictures only. Numbers become names: 3 is class "3".
            tokens: Folder for the backbone's tokens: computed once, found again by the next run, and read when pairs of regions are
                explained. Those of several data sets and backbones may share it. None: a temporary one.

        Raises:
            DataError: The data set is not what its format says, or a class has no readable training picture.
            StoreError: ``tokens`` holds those of other pictures or of another backbone.
            ValueError: Settings don't go with the backbone, or embeddings would not fit into memory.
        """
        (train, spec), s = training_set(data, y), self.setting_
        refuse_impossible(self.encoder.backbone, [s])
        with tokens_of(self.encoder, train, tokens) as cache:
            rows, labels = readable(train, cache)
            refuse_too_large(s, len(rows), self.encoder.backbone.embed_dim, MAX_EMBEDDINGS)
            G = cache.embed(rows, s)
            if self.lam == "loo":
                head = candidate(G, labels, s, self.fit_intercept).head
            else:
                head = RidgeHead(self.lam, self.fit_intercept).fit(G, labels)
            self._fitted = Fitted.of(head, s, train, rows, cache, tokens is not None, spec)
        self._find = PictureFinder(train)
        return self

    def select(
        self,
        data: Any,
        y: Labels | None = None,
        *,
        grid: Mapping[str, Sequence[Any]] | None = None,
        tokens: str | Path | None = None,
        show: bool = True,
    ) -> "Carrot":
        """Choose lift, tau, the graph, t and lam by exact leave-one-out on the training pictures alone; then it is fitted.

        First lift and tau at t = 0, then the graph for the best of them; t = 0 and mean pooling of tokens as they are always compete.
        The class token as a global region competes only where ``grid`` names it: {"global_share": [0, 0.3]}.

        Args:
            data: As in ``fit``.
            y: As in ``fit``.
            grid: What to choose from, by the names of ``Setting``; what is absent has the default of ``carrot.selecting``.
            tokens: As in ``fit``.
            show: Print the table and what was chosen.

        Raises:
            DataError, StoreError, ValueError: As in ``fit``; a name in ``grid`` is unknown.
        """
        from carrot.selecting import Plan, choose, table_lines

        train, spec = training_set(data, y)
        plan = Plan.of(grid or {}, self.encoder.backbone, len(train.records), MAX_EMBEDDINGS)
        with tokens_of(self.encoder, train, tokens) as cache:
            rows, labels = readable(train, cache)
            best, tried = choose(cache, rows, labels, plan, self.fit_intercept)
            kept = tokens is not None
            self._fitted = Fitted.of(best.head, best.setting, train, rows, cache, kept, spec, tuple(tried))
        self._find = PictureFinder(train)
        if show:
            print(*table_lines(tried, best.setting), sep="\n")
        return self

    # ---- predicting

    def predict(self, pictures: Pictures) -> NDArray[Any]:
        """Return the name of the class with the highest logit, (m,), one for each picture.

        Args:
            pictures: One or many: paths, PIL pictures, arrays (height, width, 3) of uint8, tensors (3, height, width).
        """
        return np.array(self.classes_, dtype=np.str_)[self.decision_function(pictures).argmax(axis=1)]

    def predict_proba(self, pictures: Pictures) -> NDArray[np.float64]:
        """Return softmax(logits / temperature), (m, C); the temperature is that of exact leave-one-out logits."""
        return probabilities(torch.from_numpy(self.decision_function(pictures)), self.temperature_).numpy()

    def decision_function(self, pictures: Pictures) -> NDArray[np.float64]:
        """Return logits, (m, C): ridge scores in units of the targets, not log-odds."""
        head, items = self.head_, as_list(pictures)
        batches = (items[i : i + BATCH] for i in range(0, len(items), BATCH))
        logits = [head.predict(embed_tokens(self.encoder.tokens(batch), self.setting_)) for batch in batches]
        return torch.cat(logits).numpy() if logits else np.empty((0, len(self.classes_)))

    def score(self, pictures: Pictures, y: Labels) -> float:
        """Return the share of pictures whose predicted class is ``y``: names, or indices into ``classes_``."""
        items, truth = as_list(pictures), self.fitted.class_names(y)
        if len(items) != len(truth) or not items:
            raise ValueError(f"`y` must be one class for each of {len(items)} pictures; got {len(truth)}.")
        return float(np.mean(self.predict(items) == np.array(truth)))

    # ---- taking apart

    def trace(self, picture: PictureLike) -> Trace:
        """Return every object of the theory for one picture: H, P, W, L, r, pi, H_prime, g, and logits if the model is fitted."""
        trace = trace_tokens(self.encoder.tokens([picture]), self.setting_)
        return trace if self._fitted is None else replace(trace, logits=self.head_.predict(trace.g))

    def explain(
        self,
        picture: PictureLike,
        target: str | SupportsIndex | None = None,
        against: str | SupportsIndex | None = None,
        k: int = 4,
        label: str | None = None,
    ) -> Explanation:
        """Take one logit apart, exactly: over regions, over training pictures, and over pairs of regions with the k that matter most.

        Args:
            picture: The picture.
            target: Class, by name or index; default: the predicted one.
            against: Another class: explain the difference of the two logits, "why this and not that".
            k: How many training pictures to show.
            label: What the picture is labelled with, to be shown.

        Raises:
            ValueError: A class is unknown, or ``target`` and ``against`` are the same.
        """
        return explain(self.encoder, self.fitted, self._find, self.facts(), picture, target, against, k, label)

    def audit(self, data: str | Path | None = None) -> Audit:
        """Return labels that the training pictures contradict, near duplicates, high leverage; also of ``data`` that is not fitted on."""
        return audit(self.encoder, self.fitted, data)

    # ---- changing and keeping

    def forget(self, ids: str | Iterable[str], verify: bool = True) -> Certificate:
        """Delete training pictures for good: what is left is what fitting without them, at the same settings and lam, would give.

        Args:
            ids: Of the pictures, as in ``records_``.
            verify: Fit again from scratch without them, and record the measured difference.

        Returns:
            What was deleted, by name and SHA-256, and what was measured. ``save`` the model to make it last.

        Raises:
            ValueError, StoreError: An id is unknown, a class would be left without a picture; or kept tokens can't be deleted.
        """
        self._fitted, certificate = forget(self.fitted, [ids] if isinstance(ids, str) else list(ids), verify)
        return certificate

    def add(self, pictures: Pictures, y: Labels, ids: Sequence[str] | None = None) -> "Carrot":
        """Add training pictures of known classes: what comes out is what fitting with them, at the same settings and lam, would give.

        Args:
            pictures: One or many.
            y: Their classes.
            ids: Their names; default: their paths, or "picture 7".

        Raises:
            ValueError: A class is unknown (fit again to add one), or a picture of that name is there already.
        """
        old, taken = self.fitted, [record.id for record in self.records_]
        new = PictureList(pictures, old.class_names(y), old.classes, ids=ids, taken=taken)
        self._fitted = add(self.encoder, old, new)
        return self

    def save(self, folder: str | Path) -> None:
        """Write the model: config.json, safetensors and records.jsonl, at one moment; what was there before is replaced.

        Raises:
            ModelError: The folder holds something else.
            StoreError: The disk refuses.
        """
        save(Path(folder), self.encoder, self.fitted)

    @classmethod
    def load(cls, folder: str | Path, *, checkpoint: str | Path | None = None, device: str = "auto") -> "Carrot":
        """Read a model that ``save`` wrote: the same logits, bit for bit. The backbone is built when a picture comes.

        Args:
            folder: Where it lies.
            checkpoint: The backbone's weights, where they are no longer where they were; they must be the same.
            device: As in ``Carrot``.

        Raises:
            ModelError: There is none, it is damaged, or of a newer format; or, later, the backbone's weights are others.
        """
        encoder, fitted = load(Path(folder), checkpoint, device)
        head, data = fitted.head, fitted.data
        model = cls(encoder.spec.name, lam=head.lam, fit_intercept=head.fit_intercept, **fitted.setting._asdict())
        model.encoder, model._fitted = encoder, fitted
        model._find = PictureFinder(None, None if data is None else lambda: open_dataset(data))
        return model

    # ---- what was fitted
    @property
    def fitted(self) -> Fitted:
        """All that fitting left behind; ``NotFittedError`` before."""
        if self._fitted is None:
            raise NotFittedError("This Carrot is not fitted yet: call `fit` or `select`, or `Carrot.load`.")
        return self._fitted

    @property
    def setting_(self) -> Setting:
        """All that an embedding depends on, beside the backbone."""
        if self._fitted is not None:
            return self._fitted.setting
        looks = not self._tau_is_asked and self.encoder.backbone.attention
        return self._asked._replace(tau=0.5) if looks else self._asked

    def __repr__(self) -> str:
        f = self._fitted
        what = f"{f.setting}; fitted on {len(f.records)} pictures of {len(f.classes)} classes" if f else "not fitted"
        return f"<Carrot {self.encoder.spec.name}, {what}>"

    head_ = property(lambda self: self.fitted.head)
    classes_ = property(lambda self: self.fitted.classes)
    records_ = property(lambda self: self.fitted.records)
    temperature_ = property(lambda self: self.fitted.temperature)
    set_aside_ = property(lambda self: self.fitted.set_aside)
    selection_ = property(lambda self: self.fitted.selection)

    def facts(self) -> dict[str, object]:
        """Return what the model was made with, JSON-ready."""
        fitted, encoder = self.fitted, self.encoder
        return {
            "backbone": encoder.spec.name,
            "fingerprint": encoder.fingerprint,
            "crop": encoder.spec.crop,
            "dtype": encoder.dtype,
            **fitted.setting._asdict(),
            "lam": fitted.head.lam,
            "fit_intercept": fitted.head.fit_intercept,
            "temperature": fitted.temperature,
            "training_pictures": len(fitted.records),
            "classes": len(fitted.classes),
            "data": fitted.data,
        }
