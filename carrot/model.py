"""CARROT as one object: pictures in, classes out, every prediction comes apart again. It wires; it computes nothing.

::

    model = Carrot("vit_small_patch14_reg4_dinov2.lvd142m").select("my_pictures")  # or .fit(...) with your own settings
    model.predict("bird.jpg")                        # as scikit-learn names things
    model.explain("bird.jpg").to_html("bird.html")   # which regions, which training pictures, which regions of those
    model.audit()                                    # doubtful labels, near duplicates, high leverage
    model.relabel({"robin/3.jpg": "wren"})           # as if it had always been a wren
    model.forget(["robin/17.jpg"])                   # as if it had never been there
    model.save("birds"); Carrot.load("birds")
"""

from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from carrot._ambient import pinned_class
from carrot._choices import PATCHES
from carrot._vit.base import TimmBackbone
from carrot._vit.transform import Crop
from carrot.classifier.answering import Answering
from carrot.classifier.classifier import Classifier
from carrot.classifier.editing import Editable
from carrot.classifier.estimator import Estimator
from carrot.classifier.fittable import Fittable
from carrot.classifier.fitted import Fitted
from carrot.classifier.hub import HubMixin
from carrot.classifier.keeping import Keeping
from carrot.classifier.scoring import score
from carrot.classifier.selection import Selection
from carrot.classifier.weighting import ClassWeight, checked_class_weight
from carrot.data.given import pictures_of
from carrot.data.labels import Labels
from carrot.embedding.encoder import Encoder
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import Setting
from carrot.embedding.spec import DEFAULT_MODEL, Precision
from carrot.errors import NotFittedError
from carrot.evaluation.calibration import probabilities
from carrot.head import RidgeHead
from carrot.overview.report import ModelReport, report_of
from carrot.tiling import Tiling

MEANT = {  # what others call it
    "evaluate": "score(DATA), the accuracy; or carrot.protocol.evaluate(model, DATA, FOLDER), all that carrot evaluate "
    "measures",
    "train": "fit or select",
    "test": "score(DATA)",
    "delete": "forget",
    "unlearn": "forget",
}


@pinned_class
class Carrot(Estimator, Fittable, Answering, Editable, Keeping, HubMixin):
    """An image classifier that can be held to account, with scikit-learn's verbs.

    Threads may share one: each change is whole, and an answer is of one state.

    Args:
        backbone: timm's name of a vision transformer, or a ``TimmViTPatchBackbone``; "toy": the small one in this
            package. With tiles any model of timm: one without patch tokens is a ``TimmPooledBackbone``.
        sigma_spatial: Bandwidth of the graph in space, in units of P; without effect at t = 0.
        sigma_feature: Bandwidth among features, in units of the picture's own median distance; without effect at t = 0.
        t: Diffusion time; 0 is mean pooling, or pooling by attention.
        lift: phi, as ``carrot.lift.lift_from`` reads it: "identity" (the guide's), "quadratic", "relu:M", "fourier:M",
            "sketch:M".
        tau: Power of the class token's attention in the readout; None: 0.5 where the backbone gives it, else 0; not
            with tiles.
        regions: What a region is. "patches": tokens, each of which has seen the whole picture. Tiles see only
            themselves: "tiles:3,4" (3 x 3 and 4 x 4, overlapping by half), "tiles:2@0" (disjoint), boxes, or a
            ``Tiling``; what is exact for regions is then exact for the picture.
        power: Power of a region's own norm in the readout; None: 8 for tiles, 0 for patches.
        readout: "mean": weights are shares of what is there. "sum": none depends on another; at t = 0 the contribution
            of a region, the drop without it and its Shapley value are then one number.
        tile_size: Side in pixels at which a tile enters the backbone; 0: 224, or the backbone's own where that is
            smaller.
        global_share: Weight of the class token of the whole picture as one more, global region; what it brings is
            always shown apart.
        coarsen: Blocks of ``coarsen`` x ``coarsen`` patches become one region each.
        lam: Ridge penalty, or "loo": by exact leave-one-out.
        fit_intercept: True: centred exactly, and explanations are told relative to the mean training picture. False is
            the guide's.
        class_weight: What a class counts: None, all pictures alike; "balanced", all classes alike; or a number by
            label.
        checkpoint: Local weights for ``backbone``.
        img_size: Side of its input in pixels, or (height, width); None: its own.
        crop: As ``TimmViTPatchBackbone`` has it.
        device: Where the backbone runs, and a data set's tokens are pooled; "auto": a GPU if there is one. All after it
            runs on the processor, in float64.
        dtype: What tokens are rounded to, "float16" or "float32": those of every picture, so that what is exact stays
            so.
        precision: What the backbone computes in: "float32"; "bfloat16", several times faster where the processor or the
            GPU has it; "float16", "float64". The graph and the head are float64 whatever it is.
        compile: Whether the backbone's blocks are compiled (``torch.compile``), where that can be; it costs seconds at
            the start, and moves tokens by rounding. A model that is loaded runs without.

    Attributes (after ``fit``, ``select`` or ``load``):
        classes_: Labels of the classes, (C,), in the order of the logits; text, whole numbers or truth values, as they
            came in.
        head_: The ``RidgeHead``.
        records_: The training pictures, in the order of ``head_.G``.
        setting_: All that an embedding depends on, beside the backbone.
        temperature_: Of ``predict_proba``, fitted on exact leave-one-out logits.
        set_aside_: What was wrong with pictures that could not be read, by id.
        selected_again_: After ``select(again=True)``, what would have been chosen without each training picture, and
            leave-one-out accuracy with all of it chosen again; it isn't saved, and a change of the pictures drops it.
        selection_: A line for each setting that ``select`` tried; ``selection_.to_frame()`` is all of them as a table.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        backbone: str | TimmBackbone = DEFAULT_MODEL,
        *,
        sigma_spatial: float = 0.5,
        sigma_feature: float = 1.0,
        t: float = 0.0,
        lift: str = "quadratic",
        tau: float | None = None,
        regions: str | Tiling = "patches",
        power: float | None = None,
        readout: Literal["mean", "sum"] = "mean",
        tile_size: int = 0,
        global_share: float = 0.0,
        coarsen: int = 1,
        lam: float | Literal["loo"] = "loo",
        fit_intercept: bool = True,
        class_weight: ClassWeight = None,
        checkpoint: str | Path | None = None,
        img_size: int | tuple[int, int] | None = None,
        crop: Crop = "model",
        device: str = "auto",
        dtype: Literal["float16", "float32"] = "float16",
        precision: Precision = "float32",
        compile: bool = False,
    ) -> None:
        self._given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        RidgeHead(lam)  # both refuse what is out of range
        Pooling(Setting.asked(self._given, has_attention=False))
        self.lam, self.fit_intercept = lam, fit_intercept
        self.class_weight = checked_class_weight(class_weight)
        self.encoder = Encoder(backbone, checkpoint, img_size, crop, device, dtype, precision, compile)
        self._now: Classifier | None = None
        self._seen: tuple[Path, str] | None = None  # the folder that it was read from or saved to, as it was then
        self._lock = RLock()

    # ---- predicting

    def predict(self, pictures: Any) -> NDArray[Any]:
        """Return the name of the class with the highest logit, (m,), one for each picture.

        Args:
            pictures: One or many: paths, bytes, open files, PIL pictures, arrays (height, width, 3) of uint8, tensors
                (3, height, width). A folder is the pictures in it, in the order of ``carrot.data.pictures_in``; of a
                data set or data frame, as ``fit`` takes it, all are answered, in its order.

        Raises:
            UnreadableImageError: A picture can't be read; the message names it.
        """
        now = self.classifier
        best = now.logits(pictures_of(pictures)).argmax(dim=1)
        return now.fitted.labels_of(now.fitted.classes)[best.numpy()]

    def predict_proba(self, pictures: Any) -> NDArray[np.float64]:
        """Return softmax(logits / temperature), (m, C); the temperature is that of exact leave-one-out logits."""
        now = self.classifier
        return probabilities(now.logits(pictures_of(pictures)), now.fitted.temperature).numpy()

    def decision_function(self, pictures: Any) -> NDArray[np.float64]:
        """Return logits, (m, C): ridge scores in units of the targets, not log-odds."""
        return self.classifier.logits(pictures_of(pictures)).numpy()

    def score(self, pictures: Any, y: Labels | None = None, sample_weight: Any = None) -> float:
        """Return the share of pictures that it is right of.

        Of a data set, such as a folder of class folders, it is the accuracy that ``carrot evaluate`` measures: of its
        test pictures, or of those that were held out of the data set that it was fitted on; of any other, of all
        pictures that it was not fitted on.

        Args:
            pictures: As in ``predict``; or, without ``y``, a data set as ``fit`` takes it.
            y: One label for each, or, where labels are names, an index into ``classes_``; None: of a data set.
            sample_weight: What each counts in the share; default: all alike.

        Raises:
            ValueError: Labels are missing, or of another number.
            DataError: The data set has no picture that the model can be measured on.
        """
        return score(self.classifier, pictures, y, sample_weight)

    @property
    def classifier(self) -> Classifier:
        """The fitted classifier as it is now; a change makes another one. ``NotFittedError`` before ``fit``."""
        if self._now is None:
            raise NotFittedError("This Carrot is not fitted yet: call `fit` or `select`, or `Carrot.load`.")
        return self._now

    @property
    def fitted(self) -> Fitted:
        """All that fitting left behind; ``NotFittedError`` before."""
        return self.classifier.fitted

    @property
    def setting_(self) -> Setting:
        """All that an embedding depends on, beside the backbone."""
        if self._now is not None:
            return self._now.fitted.setting
        tiled = getattr(self._given["regions"], "spec", self._given["regions"]) != PATCHES
        asks = self._given["tau"] is None and not tiled  # only then the backbone is looked at, and built
        return Setting.asked(self._given, asks and bool(self.encoder.backbone.attention))

    if not TYPE_CHECKING:  # a type checker would take any name for known

        def __getattr__(self, name: str) -> Any:
            hint = f" Did you mean {MEANT[name]}?" if name in MEANT else ""
            raise AttributeError(f"A Carrot has no {name!r}.{hint}", name=name, obj=self)

    def __repr__(self) -> str:
        f = None if self._now is None else self._now.fitted
        what = f"{f.setting}; fitted on {f.counts}" if f else "not fitted"
        return f"<Carrot {self.encoder.spec.name}, {what}>"

    @property
    def sha256(self) -> str:
        """One SHA-256 of all that the fitted model computes with: settings, backbone, pictures, labels and weights.

        Models that were made in different ways, in pieces or on many machines say, are the same to the bit if it is.
        """
        return self.classifier.sha256

    head_ = property(lambda self: self.fitted.head)
    classes_ = property(lambda self: self.fitted.labels_of(self.fitted.classes))
    records_ = property(lambda self: self.fitted.records)
    temperature_ = property(lambda self: self.fitted.temperature)
    set_aside_ = property(lambda self: self.fitted.set_aside)
    selection_ = property(lambda self: Selection(self.fitted.selection))

    def facts(self) -> dict[str, object]:
        """Return what the model was made with, JSON-ready."""
        return self.classifier.facts()

    def report(self, data: Any = None, *, held_out: bool = False) -> ModelReport:
        """Look at the whole model: how good and how honest, what it confuses, doubtful labels, what carries a class.

        What ``carrot evaluate`` measured and what tokens are kept is looked for in the folder that it was loaded from
        or saved to; the backbone does not run. Where neither is there, training pictures are judged by exact
        leave-one-out, and what was not measured is said.

        Args:
            data: Where held-out pictures are; default: the data set that it was fitted on.
            held_out: Let the backbone run on held-out pictures whose tokens are not kept.
        """
        folder = None if self._seen is None else self._seen[0]
        return report_of(self.classifier, folder, str(data) if isinstance(data, Path) else data, held_out)
