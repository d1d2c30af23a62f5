"""Whether a picture is one of those that a model was fitted on, and what the model says of it without."""

from PIL import Image

from carrot.classifier.fitted import Fitted
from carrot.classifier.remembered import contents_of
from carrot.data.inputs import PictureLike, content_of
from carrot.evaluation.calibration import probabilities
from carrot.explanation.pieces import Own


def training_row(fitted: Fitted, picture: PictureLike, image: Image.Image) -> int | None:
    """Return which training picture has the content of this one; None: none has."""
    content = content_of(picture, image)
    return next((row for row, known in enumerate(contents_of(fitted.records)) if known == content), None)


def own_answer(fitted: Fitted, row: int) -> Own:
    """Return what the model says of a training picture when fitted without it, by exact leave-one-out."""
    if int((fitted.labels == fitted.labels[row]).sum()) == 1:
        return Own(row, None, None)
    p = probabilities(fitted.left_out.of([row]), fitted.temperature)[0]
    best = int(p.argmax())
    return Own(row, fitted.classes[best], float(p[best]))
