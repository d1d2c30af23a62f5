"""What if it had not been there: one picture's logits as fitting again gives them, and with regions of it dropped."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from carrot._display.brief import one_line
from carrot._display.frame import by_column, data_frame
from carrot._display.html import card, said, table
from carrot.classifier.asked import Asked, Edits, ids_of, resolve
from carrot.classifier.classifier import Classifier
from carrot.data.inputs import PictureLike, as_picture, name_of
from carrot.data.labels import Label
from carrot.evaluation.calibration import probabilities
from carrot.explanation.presenting import Presented
from carrot.head import RidgeHead
from carrot.influence import edit_effect, replacement_effect
from carrot.regions import kept

if TYPE_CHECKING:
    import pandas

SHOWN = 5  # classes of the table


@dataclass(frozen=True, eq=False, repr=False)
class WhatIf(Presented):
    """The logits of one picture as they are, and as they would be. lam, settings and the temperature are held.

    Attributes:
        picture: Its name.
        classes: Names, in the order of the logits.
        before: Logits as they are.
        logits: Logits as they would be.
        temperature: Of the probabilities, as it is now; ``forget`` and ``relabel`` fit it anew.
        without: Training pictures that had not been there.
        relabelled: Of each picture that had another label, both labels, by id.
        replaced: Training pictures that had been others.
        dropped: Regions of the picture that had not been there.
        dropped_names: What they are called.
        difference: Largest difference from the logits of a real fit; None: not measured.
    """

    picture: str
    classes: tuple[str, ...]
    before: Float[Tensor, " C"]
    logits: Float[Tensor, " C"]
    temperature: float
    without: tuple[str, ...] = ()
    relabelled: Mapping[str, tuple[str, str]] | None = None
    replaced: tuple[str, ...] = ()
    dropped: tuple[int, ...] = ()
    dropped_names: tuple[str, ...] = ()
    difference: float | None = None

    _format = "what-if"

    @property
    def prediction(self) -> str:
        """The class that the model would say."""
        return self.classes[int(self.logits.argmax())]

    @property
    def probabilities(self) -> Float[Tensor, " C"]:
        """Calibrated probabilities as they would be."""
        return probabilities(self.logits.unsqueeze(0), self.temperature)[0]

    @property
    def question(self) -> str:
        """What was asked, in words."""
        asked = []
        if self.without:
            asked.append(f"without {_some(self.without)}")
        for name, (old, new) in list((self.relabelled or {}).items())[:3]:
            asked.append(f"with {name} labelled {new}, not {old}")
        if len(self.relabelled or {}) > 3:
            asked.append(f"and {len(self.relabelled or {}) - 3} more relabelled")
        if self.replaced:
            asked.append(f"with another picture for {_some(self.replaced)}")
        if self.dropped:
            n = len(self.dropped)
            asked.append(f"with {n} of its regions dropped" if n > 1 else f"with its {self.dropped_names[0]} dropped")
        return ", ".join(asked) or "with nothing changed"

    def __repr__(self) -> str:
        return f"<WhatIf {one_line(self.picture)}: {one_line(self.question)}: {one_line(self.prediction)}>"

    def __str__(self) -> str:
        """Return the answer in a sentence, the classes that matter, and the proof, if it was asked for."""
        lines = [self._sentence]
        lines.append(f"  {'class':<30} {'logit':>10} {'would be':>10} {'change':>10} {'probability':>12}")
        for name, a, b, change, p in self._rows()[:SHOWN]:
            lines.append(f"  {name:<30} {a:10.4f} {b:10.4f} {change:+10.4f} {p:12.3f}")
        if len(self.classes) > SHOWN:
            lines.append(f"  and {len(self.classes) - SHOWN} more")
        if self.without or self.relabelled or self.replaced:
            lines.append(f"  probabilities at the temperature of now, {self.temperature:.3g}; a change fits it anew")
        if self.difference is not None:
            lines.append(f"  fitted again, really: largest difference of a logit {self.difference:.1e}")
        return "\n".join(lines)

    @property
    def _sentence(self) -> str:
        p0 = probabilities(self.before.unsqueeze(0), self.temperature)[0]
        p1, was, now = self.probabilities, int(self.before.argmax()), int(self.logits.argmax())
        then = f"say {self.classes[now]}, not {self.classes[was]}" if was != now else f"still say {self.classes[was]}"
        chance = f"with a probability of {float(p1[now]):.3f} ({float(p0[was]):.3f} for {self.classes[was]} as it is)"
        return f"{self.picture}: {self.question}, the model would {then}, {chance}."

    def _rows(self) -> list[tuple[str, float, float, float, float]]:
        """Return class, logit, what it would be, change and probability: that of now, that of then, then the others."""
        first = [int(self.before.argmax()), int(self.logits.argmax())]
        order = list(dict.fromkeys([*first, *self.logits.argsort(descending=True, stable=True).tolist()]))
        a, b, p = (x[order].tolist() for x in (self.before, self.logits, self.probabilities))
        return [(self.classes[c], a[k], b[k], b[k] - a[k], p[k]) for k, c in enumerate(order)]

    def _card(self) -> str:
        columns = ["class", "logit", "would be", "change", "probability"]
        more = len(self.classes) - SHOWN
        rest = [f"and {more} more; `to_frame` has all"] if more > 0 else []
        return card("What if", said(self._sentence), table(columns, self._rows()[:SHOWN]), said(*rest))

    def to_frame(self) -> "pandas.DataFrame":
        """Return a row for each class, in the order of the logits, as a data frame of pandas (extra ``frames``).

        Raises:
            ImportError: pandas is absent.
        """
        rows = self.to_dict()["classes"]
        return data_frame(by_column(["class", "before", "after", "change", "probability"], rows))

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "picture": self.picture,
            "without": list(self.without),
            "relabelled": {name: {"from": a, "to": b} for name, (a, b) in (self.relabelled or {}).items()},
            "replaced": list(self.replaced),
            "dropped": list(self.dropped),
            "predicted": {"before": self.classes[int(self.before.argmax())], "after": self.prediction},
            "classes": [
                {"class": name, "before": a, "after": b, "change": b - a, "probability": p}
                for name, a, b, p in zip(
                    self.classes, self.before.tolist(), self.logits.tolist(), self.probabilities.tolist(), strict=True
                )
            ],
            "temperature": self.temperature,
            "largest_difference_from_a_fit": self.difference,
        }


def what_if(
    classifier: Classifier,
    picture: PictureLike,
    without: str | Iterable[str] = (),
    relabel: Mapping[str, Label] | None = None,
    replace_by: Mapping[str, PictureLike] | None = None,
    regions: Tensor | NDArray[Any] | Iterable[SupportsIndex] | SupportsIndex | None = None,
    verify: bool = False,
) -> WhatIf:
    """Answer it; see ``Carrot.what_if``."""
    fitted, head = classifier.fitted, classifier.fitted.head
    gone, others, labels = ids_of("without", without), _by_id("replace", replace_by), _by_id("relabel", relabel)
    names = dict(zip(labels, fitted.class_names(list(labels.values())), strict=True))
    if not (gone or names or others or regions is not None):
        raise ValueError("`without`, `relabel`, `replace` or `regions` must say what had not been so; got nothing.")
    if others and (gone or names or len(others) > 1):
        raise ValueError("`replace` takes one training picture, and no `without` or `relabel` beside it.")
    if verify and not (gone or names or others):
        raise ValueError("`verify` fits again with other training pictures; regions alone change no fit. Leave it out.")
    asked = resolve(fitted, Edits(forget=gone, relabel=names, imagined=True)) if gone or names else None
    row = None if not others else fitted.row_of(next(iter(others)))
    image = as_picture(picture)
    trace = classifier.trace(image)
    keep = None if regions is None else kept(regions, trace.regions.num_regions)
    g, before, again = trace.g, head.predict(trace.g), None
    if keep is not None:
        g = trace.shown(keep)
    logits = head.predict(g)
    if asked is not None:
        logits = logits + _edited(classifier, g, asked)
        again = _refit(classifier, asked) if verify else None
    if row is not None:
        new = classifier.pooling.g(classifier.encoder.tokens(list(others.values())))[0]
        logits = logits + replacement_effect(head, g, row, new)
        if verify:
            G = head.G.to(torch.float64).index_copy(0, torch.tensor([row]), new.unsqueeze(0))
            again = RidgeHead(head.lam, head.fit_intercept).fit(G, head.Y, head.sample_weight)
    dropped = () if keep is None else tuple((~keep).nonzero().flatten().tolist())
    names_of = classifier.region_names if dropped else ()
    return WhatIf(
        picture=name_of(picture, 0),
        classes=fitted.classes,
        before=before,
        logits=logits,
        temperature=fitted.temperature,
        without=tuple(gone),
        relabelled={
            name: (fitted.classes[fitted.records[fitted.row_of(name)].label], new) for name, new in names.items()
        },
        replaced=tuple(others),
        dropped=dropped,
        dropped_names=tuple(names_of[region] for region in dropped),
        difference=None if again is None else float((again.predict(g) - logits).abs().max()),
    )


def _edited(classifier: Classifier, g: Float[Tensor, " M"], asked: Asked) -> Float[Tensor, " C"]:
    """Return what the change of the training pictures adds to each logit."""
    fitted = classifier.fitted
    if not torch.equal(_weights(classifier, asked), fitted.head.sample_weight[asked.stay].cpu()):
        again = _refit(classifier, asked)  # classes are balanced anew: all of K changes
        return again.predict(g) - fitted.head.predict(g)
    moved = {row: fitted.classes.index(name) for row, name in asked.moved.items()}
    return edit_effect(fitted.head, g, sorted(asked.gone), moved)


def _weights(classifier: Classifier, asked: Asked) -> Float[Tensor, " n"]:
    records = [
        replace(classifier.fitted.records[row], label=c) for row, c in zip(asked.stay, asked.labels, strict=True)
    ]
    return classifier.fitted.weights(records, asked.classes)


def _refit(classifier: Classifier, asked: Asked) -> RidgeHead:
    """Return the head of a real fit on the changed pictures."""
    head = classifier.fitted.head
    Y = torch.nn.functional.one_hot(torch.tensor(asked.labels), len(asked.classes)).to(torch.float64)
    return RidgeHead(head.lam, head.fit_intercept).fit(head.G[asked.stay], Y, _weights(classifier, asked))


def _by_id(name: str, given: object) -> dict[str, Any]:
    """Return what is given by id of a training picture; None: nothing.

    Raises:
        TypeError: It is no mapping, or an id is no text.
    """
    if given is not None and not isinstance(given, Mapping):
        kind = f"{type(given).__name__} {given!r}"
        raise TypeError(f"`{name}` must be by id of a training picture, {{id: ...}}; got {kind}.")
    ids_of(name, given or {})
    return dict(given or {})


def _some(names: tuple[str, ...]) -> str:
    return (
        names[0]
        if len(names) == 1
        else f"{len(names)} training pictures ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
    )
