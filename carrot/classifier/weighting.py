"""How much each training picture counts: a weight of its own times that of its class, w_i = s_i c_{y_i}.

::

    class_weight None       c = 1
    "balanced"              c_k = sum_i s_i / (C sum_{i: y_i = k} s_i): every class counts alike, as in scikit-learn
                            where s = 1
    {label: number}         c_k = the number given; 1 for a class that isn't named

They are a function of the pictures that there are: without some of them "balanced" is another balance, as fitting
without them would give.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot.data.labels import name_of_label
from carrot.data.records import ImageDataset
from carrot.errors import DataError
from carrot.utils import require_positive

ClassWeight: TypeAlias = Mapping[Any, float] | Literal["balanced"] | None  # by label as given, and then by name


def checked_class_weight(class_weight: object) -> ClassWeight:
    """Return what ``Carrot`` was given, by name of the class.

    Raises:
        ValueError: It is no mapping, "balanced" or None; or a weight is not a number > 0.
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, str) and class_weight == "balanced":
        return "balanced"
    if not isinstance(class_weight, Mapping):
        raise ValueError(f'`class_weight` must be None, "balanced" or {{class: number}}; got {class_weight!r}.')
    return {name_of_label(label): require_positive("class_weight", value) for label, value in class_weight.items()}


def refuse_unknown_classes(class_weight: ClassWeight, classes: Sequence[str]) -> None:
    """Refuse a weight for a class that there isn't.

    Raises:
        ValueError: There is one.
    """
    unknown = sorted(set(class_weight) - set(classes)) if isinstance(class_weight, Mapping) else []
    if unknown:
        raise ValueError(f"`class_weight` must name classes of the data; {unknown[0]!r} is none of {len(classes)}.")


def own_weights(dataset: ImageDataset, sample_weight: Any) -> Float[Tensor, " n"]:
    """Return the weight s of each picture of a training set.

    Args:
        dataset: The training pictures.
        sample_weight: One for each, in their order; or by id, 1 for the others; None: 1 for all.

    Raises:
        ValueError: They are of another number, not finite and > 0, or of an id that there isn't.
    """
    ids = [record.id for record in dataset.records]
    if sample_weight is None:
        return torch.ones(len(ids), dtype=torch.float64)
    if isinstance(sample_weight, Mapping):
        unknown = sorted(set(map(str, sample_weight)) - set(ids))
        if unknown:
            raise ValueError(
                f"`sample_weight` must be by id of a training picture; {unknown[0]!r} is none. Ids look like "
                f"{ids[0]!r}."
            )
        sample_weight = [sample_weight.get(name, 1.0) for name in ids]
    w = torch.as_tensor(np.asarray(sample_weight, dtype=np.float64)).flatten()
    if len(w) != len(ids):
        raise ValueError(f"`sample_weight` must be one for each of {len(ids)} training pictures; got {len(w)}.")
    if not bool(((w > 0) & torch.isfinite(w)).all()):
        raise ValueError(
            "`sample_weight` must be finite numbers > 0; leave a picture out instead of giving it weight 0."
        )
    return w


def row_weights(
    own: Float[Tensor, " n"], labels: Int[Tensor, " n"], class_weight: ClassWeight, classes: Sequence[str]
) -> Float[Tensor, " n"]:
    """Return w, one for each training picture.

    Raises:
        DataError: A class has no picture, so that nothing balances it.
    """
    C = len(classes)
    if class_weight is None:
        return own
    if isinstance(class_weight, Mapping):
        return own * torch.tensor([float(class_weight.get(name, 1.0)) for name in classes], dtype=own.dtype)[labels]
    of_class = torch.zeros(C, dtype=own.dtype).index_add_(0, labels, own)
    if not bool((of_class > 0).all()):
        raise DataError(
            f"Class {classes[int(of_class.argmin())]!r} has no training picture: there is nothing to balance."
        )
    return own * (own.sum() / (C * of_class))[labels]
