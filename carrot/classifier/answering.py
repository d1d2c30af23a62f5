"""The verbs that take a prediction apart, or ask what would have been: of a model that has the attributes below."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from carrot._ambient import pinned_class
from carrot.classifier.audit import Audit, audit
from carrot.classifier.classifier import Classifier
from carrot.classifier.explaining import explain
from carrot.classifier.flip import SmallestFlip, smallest_flip
from carrot.classifier.hidden import HiddenRegions, hidden_regions
from carrot.classifier.label_sets import LabelSets, label_sets
from carrot.classifier.shown import shown
from carrot.classifier.top_training import TopTraining, top_training
from carrot.classifier.what_if import WhatIf, what_if
from carrot.data.inputs import PictureLike
from carrot.data.labels import Label
from carrot.edits.flips import EXACT, NODES
from carrot.embedding.encoder import Encoder
from carrot.embedding.pooling import Pooling
from carrot.embedding.trace import Trace
from carrot.evaluation.calibration import probabilities
from carrot.explanation.record import Explanation


@pinned_class
class Answering:
    """From ``predict_set``, ``trace`` and ``explain`` to ``shown``, ``audit`` and ``pred_probs``."""

    encoder: Encoder
    classifier: Any
    setting_: Any
    _now: Classifier | None

    def predict_set(self, pictures: Any, alpha: float = 0.1, per_class: bool = False) -> LabelSets:
        """Return for each picture a set of labels: at least 1 - alpha of new pictures have their true one in theirs.

        Full conformal prediction, exactly as refits with the picture and each label would have it: no calibration
        split, and no assumption but that new pictures come as the training pictures came, and that lam and settings
        were chosen without them. It is a promise on average, not for this picture. An empty set: with any label the
        picture would be among the oddest share alpha. All labels: none can be excluded. Balanced class weights are
        held.

        Args:
            pictures: As in ``predict``; not those that it was fitted on, of which it was told the label.
            alpha: The share of pictures whose set may miss their label.
            per_class: Keep the promise class by class, not on the average of classes: sets are larger where a class
                has few training pictures.

        Raises:
            ValueError: ``alpha`` is not between 0 and 1, every class has one training picture, or with ``per_class``
                one has.
        """
        return label_sets(self.classifier, pictures, alpha, per_class)

    def top_training(
        self, pictures: Any, k: SupportsIndex = 4, target: Label | None = None, against: Label | None = None
    ) -> TopTraining:
        """Return for each picture the k training pictures without which its logit would fall most, and rise most.

        Each effect is exactly that of fitting again without that training picture, with lam held; nothing is changed.
        Many pictures share one pass over the training set, and an engine's workers go over it where the model was
        loaded and has over 32,768 (``carrot.engine.use``).

        Args:
            pictures: As in ``predict``.
            k: How many each way; of fewer training pictures all.
            target: Class, by name or index; default: the predicted one of each.
            against: Another class: ask of the difference of the two logits.

        Raises:
            ValueError: A class is unknown, ``target`` and ``against`` are the same, or k is less than 1.
        """
        return top_training(self.classifier, pictures, k, target, against)

    def trace(self, picture: PictureLike) -> Trace:
        """Return every object of the theory for one picture: H, P, W, L, r, pi, H_prime, g, and logits if fitted."""
        if self._now is None:
            s = self.setting_
            return Pooling(s).trace(self.encoder.of(s).tokens([picture]))
        return self._now.trace(picture)

    def explain(
        self,
        picture: PictureLike,
        target: Label | None = None,
        against: Label | None = None,
        k: int = 4,
        label: str | None = None,
    ) -> Explanation:
        """Take one logit apart, exactly: over regions, over training pictures, and over pairs of regions.

        The pairs are with the k training pictures that matter most.

        Args:
            picture: The picture.
            target: Class, by name or index; default: the predicted one.
            against: Another class: explain the difference of the two logits, "why this and not that".
            k: How many training pictures to show.
            label: What the picture is labelled with, to be shown.

        Raises:
            ValueError: A class is unknown, or ``target`` and ``against`` are the same.
        """
        return explain(self.classifier, picture, target, against, k, label)

    def what_if(
        self,
        picture: PictureLike,
        without: str | Iterable[str] = (),
        relabel: Mapping[str, Label] | None = None,
        replace: Mapping[str, PictureLike] | None = None,
        regions: Any = None,
        verify: bool = False,
    ) -> WhatIf:
        """Return the logits that the picture would have had otherwise, exactly as fitting again would give them.

        Nothing is changed. Probabilities are made with the temperature of now, which a real change fits anew.

        Args:
            picture: The picture.
            without: Ids of training pictures that had not been there.
            relabel: The label that training pictures had had, by id.
            replace: Another picture that had stood in the place of one training picture, by its id; nothing else of the
                training pictures may differ then.
            regions: Regions of the picture that had not been there: indices, row by row, or a mask, True for those to
                drop. The backbone does not run again.
            verify: Fit again, really, and tell the largest difference.

        Raises:
            ValueError: An id or a class is unknown, a class would be left without a picture, a region is out of range,
                nothing is asked, or ``verify`` where no training picture is.
        """
        return what_if(self.classifier, picture, without, relabel, replace, regions, verify)

    def smallest_flip(
        self,
        picture: PictureLike,
        by: Literal["removal", "relabelling"] = "removal",
        to: Label | None = None,
        exact: SupportsIndex = EXACT,
        nodes: SupportsIndex = NODES,
        verify: bool = False,
    ) -> SmallestFlip:
        """Return the fewest training pictures without which, or with other labels, another class would be predicted.

        Sets of up to ``exact`` pictures are searched, all of them, by branch and bound; where it takes more, or the
        search is too long, a set is found step by step, and it is told how many are needed at least: proven, never
        guessed. Labels are sorted, which is exact at any size. Every step is the answer of a fit without these
        pictures; nothing is changed. The first call takes n^2 M multiplications for n training pictures.

        Args:
            picture: The picture.
            by: "removal" or "relabelling".
            to: The label that pictures get, of a relabelling; default: whichever does most, each its own.
            exact: Sizes up to which all sets are searched.
            nodes: How long: systems that may be looked at.
            verify: Fit again, really, without the pictures that are returned, and tell the largest difference.

        Raises:
            ValueError: ``by`` or a class is unknown, ``to`` goes with a removal, or a number is out of range.
        """
        return smallest_flip(self.classifier, picture, by, to, exact, nodes, verify)

    def hidden_regions(
        self,
        picture: PictureLike,
        target: Label | None = None,
        against: Label | None = None,
        ids: str | Iterable[str] | None = None,
        k: int = 10,
        verify: bool = False,
    ) -> HiddenRegions:
        """Return what one logit would be, had a region of a training picture never been shown: of all regions of all.

        Exactly as fitting again with what is left of that picture would answer; nothing is changed. The first call
        solves for all training pictures, and later ones are quick: about 4 n^2 N M multiplications for n pictures of N
        regions and embeddings of width M, where n <= M.

        Args:
            picture: The picture.
            target: Class, by name or index; default: the predicted one.
            against: Another class: ask of the difference of the two logits.
            ids: The training pictures whose regions are hidden; default: all.
            k: How many of the regions that hold the logit up most are listed.
            verify: Show the backbone those training pictures again without the region, for the first few listed, fit
                again, really, and tell the largest difference.

        Raises:
            ValueError: A class or an id is unknown, or k is less than 1.
        """
        return hidden_regions(self.classifier, picture, target, against, ids, k, verify)

    def shown(self, picture: PictureLike, regions: Any) -> NDArray[np.float64]:
        """Return the logits, (C,), of a picture of which only some tiles are shown: the backbone runs on these alone.

        It is what ``what_if`` and ``explain(...).without`` predict for tiles, measured.

        Args:
            picture: The picture.
            regions: The tiles that are shown: indices, or a mask, True for them; the last is the whole picture, where
                the model has a share of it.

        Raises:
            ValueError: The model is one of patches, or a region is out of range.
        """
        return shown(self.classifier, picture, regions).numpy()

    def pred_probs(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the labels and out-of-sample probabilities of the training pictures, as cleanlab takes them.

        ``cleanlab.filter.find_label_issues(*model.pred_probs())`` needs no cross-validation: each picture's row is said
        by the head fitted without it, exactly. Rows are in the order of ``records_``, columns in that of ``classes_``.

        Returns:
            Labels, (n,) class indices, and probabilities, (n, C), of which each row sums to 1.
        """
        fitted = self.classifier.fitted
        p = np.empty((len(fitted.records), len(fitted.classes)))
        for rows, logits in fitted.left_out.blocks():
            p[rows] = probabilities(logits, fitted.temperature)
        return fitted.labels.numpy(), p

    def audit(self, data: Any = None) -> Audit:
        """Return labels that the training pictures contradict, groups that hide each other, near duplicates, leverage.

        ``audit.argue(id)`` has one suspect argue its case.

        With ``data``, as ``fit`` takes it, also of its pictures that were not fitted on.
        """
        return audit(self.classifier, data)
