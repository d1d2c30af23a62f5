"""The head's exact scores as dattri has an attributor: ``dattri.algorithm.base.BaseAttributor`` (0.3).

::

    attributor = CarrotAttributor(head, of="log_odds")
    attributor.cache(train_loader)
    attributor.attribute(train_loader, test_loader)       (n_train, n_test), float32: for ``dattri.metric.lds``
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from carrot.head import RidgeHead
from carrot.referee.rows import embedded, require_rows, require_same
from carrot.referee.scores import contradiction, training_scores

try:
    from dattri.algorithm.base import BaseAttributor
except ImportError as error:
    raise ImportError(f"carrot.referee.dattri needs dattri: pip install dattri ({error}).") from error


class CarrotAttributor(BaseAttributor):  # type: ignore[misc]
    """Exact scores of a ridge head's training pictures, for dattri's metrics. The batch size changes nothing.

    Args:
        head: Fitted on rows.
        embed: Inputs to embeddings; None: inputs are embeddings.
        kind: "removal": counterfactual, what f loses without the picture; "dual" or "label": additive.
        of: f: "logit", "margin", "log_odds" or "contrast".
        against: The other class, for a contrast.
    """

    def __init__(
        self,
        head: RidgeHead,
        *,
        embed: Callable[[Tensor], Tensor] | None = None,
        kind: str = "removal",
        of: str = "logit",
        against: int | None = None,
    ) -> None:
        self.head, self.embed, self.kind, self.of, self.against = head, embed, kind, of, against

    def cache(self, full_train_dataloader: Iterable[Any]) -> None:
        """Hold the training rows against the head's: the same, in the same order.

        Raises:
            ValueError: They are others, or shuffled.
        """
        rows = [embedded(batch[0], self.embed) for batch in full_train_dataloader]
        require_rows(self.head, sum(map(len, rows)))
        require_same(self.head, torch.cat(rows))

    def attribute(self, train_dataloader: Iterable[Any], test_dataloader: Iterable[Any]) -> Tensor:
        """Return the scores, (n_train, n_test); labels of the test pictures are the classes that are asked about.

        Raises:
            ValueError: The training rows are not the head's.
        """
        self.cache(train_dataloader)
        found = []
        for batch in test_dataloader:
            g, y = embedded(batch[0], self.embed), batch[1].long()
            against = None if self.against is None else torch.full_like(y, self.against)
            found.append(training_scores(self.head, g, y, kind=self.kind, of=self.of, against=against))
        return torch.cat(found).mT.float()

    def self_attribute(self, train_dataloader: Iterable[Any]) -> Tensor:
        """Return how much leave-one-out contradicts each training label, (n_train,): high is suspicious."""
        self.cache(train_dataloader)
        return contradiction(self.head).float()
