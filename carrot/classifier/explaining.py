"""A model's explanation of one picture: traced, taken apart, and its training pictures found again."""

from collections.abc import Callable, Mapping

from PIL import Image

from carrot.classifier.fitted import Fitted
from carrot.classifier.records import TrainingRecord
from carrot.data.inputs import PictureLike, as_picture, name_of
from carrot.data.labels import Label
from carrot.embedding.encoder import Encoder
from carrot.embedding.pooling import trace_tokens
from carrot.embedding.tokens import Tokens
from carrot.evaluation.calibration import probabilities
from carrot.explanation.parts import region_to_region, take_apart
from carrot.explanation.record import Explanation, Picture


def explain(
    encoder: Encoder,
    fitted: Fitted,
    find: Callable[[TrainingRecord], Image.Image | str],
    facts: Mapping[str, object],
    picture: PictureLike,
    target: Label | None = None,
    against: Label | None = None,
    k: int = 4,
    label: str | None = None,
) -> Explanation:
    """Take one logit apart; see ``Carrot.explain``.

    Args:
        encoder: Pictures to tokens.
        fitted: The model.
        find: Returns a training picture, or why it can't be shown.
        facts: What the model was made with.
        picture: The picture.
        target: Class; default: the predicted one.
        against: Another class, if the difference is explained.
        k: How many training pictures to show.
        label: What the picture is labelled with.

    Raises:
        ValueError: A class is unknown, ``target`` and ``against`` are the same, or k is less than 1.
    """
    if k < 1:
        raise ValueError(f"`k` must be at least 1; got {k}.")
    c, a = (None if name is None else fitted.class_index(name) for name in (target, against))
    if c is not None and c == a:
        raise ValueError(
            f"`target` and `against` are both {fitted.classes[c]!r}: give two classes, or leave `against` out."
        )
    image, s, head = as_picture(picture), fitted.setting, fitted.head
    trace = trace_tokens(encoder.tokens([image]), s)
    logit = head.logit(int(head.predict(trace.g).argmax()) if c is None else c, a)
    parts = take_apart(trace, logit)
    shown = parts.top_training(k).tolist()
    pictures, missing, pairs = {}, {}, {}
    for row in shown:
        record = fitted.records[row]
        found = find(record)
        if isinstance(found, str):
            missing[row] = found
        else:
            pictures[row] = _placed(encoder, s.coarsen, record.id, found, fitted.classes[record.label])
        tokens = _tokens(encoder, fitted, record, found)
        if tokens is not None:
            pairs[row] = region_to_region(trace, trace_tokens(tokens, s), logit, row)
    return Explanation(
        parts=parts,
        classes=fitted.classes,
        picture=_placed(encoder, s.coarsen, name_of(picture, 0), image, label),
        probabilities=probabilities(parts.logits.unsqueeze(0), fitted.temperature)[0],
        training_ids=tuple(record.id for record in fitted.records),
        training_labels=tuple(fitted.classes[record.label] for record in fitted.records),
        shown=tuple(shown),
        shown_pictures=pictures,
        missing=missing,
        pair_maps=pairs,
        facts=facts,
    )


def _placed(encoder: Encoder, factor: int, name: str, image: Image.Image, label: str | None) -> Picture:
    """Return a picture with the boxes of the regions in its own pixels."""
    gh, gw = encoder.backbone.grid_hw
    grid_hw = (gh // factor, gw // factor)
    return Picture(name, image, encoder.backbone.geometry(image.size).patch_boxes(grid_hw), grid_hw, label)


def _tokens(encoder: Encoder, fitted: Fitted, record: TrainingRecord, found: Image.Image | str) -> Tokens | None:
    """Return a training picture's tokens: those that it was fitted with, or computed again from its picture; None: both are gone."""
    kept = None if fitted.kept is None or record.row is None else fitted.kept.tokens(record.row)
    return kept if kept is not None or isinstance(found, str) else encoder.tokens([found])
