"""The head's exact scores as quanda has an explainer: ``quanda.explainers.base.Explainer`` (0.5).

::

    explainer = CarrotExplainer(model, train_dataset, head=head, of="log_odds")
    explainer.explain(test_data, targets)                 (n_test, n_train), float32

quanda's metrics ask it; its benchmarks train networks of their own, of which a head explains nothing.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from carrot.head import RidgeHead
from carrot.referee.rows import embedded, require_rows
from carrot.referee.scores import contradiction, training_scores

try:
    from quanda.explainers.base import Explainer
except ImportError as error:
    raise ImportError(f"carrot.referee.quanda needs quanda: pip install quanda ({error}).") from error


class CarrotExplainer(Explainer):  # type: ignore[misc]
    """Exact scores of a ridge head's training pictures, for quanda's metrics.

    Args:
        model: What quanda asks for logits: the head as a module (``carrot.referee.rows.linear``), or all of the model.
        train_dataset: (input, label) in the order of the head's rows.
        task, checkpoints, checkpoints_load_func: quanda's own; not looked at.
        head: Fitted on rows.
        embed: Inputs to embeddings; None: inputs are embeddings.
        kind: "removal": counterfactual, what f loses without the picture; "dual" or "label": additive.
        of: f: "logit", "margin", "log_odds" (what ``LinearDatamodelingMetric`` scores), or "contrast".
        against: The other class, for a contrast.

    Raises:
        ValueError: The data set is of another number of rows than the head.
    """

    accepted_tasks = ["image_classification"]  # noqa: RUF012  (quanda's name and form)

    def __init__(
        self,
        model: torch.nn.Module,
        train_dataset: Any,
        task: str = "image_classification",
        checkpoints: Any = None,
        checkpoints_load_func: Any = None,
        *,
        head: RidgeHead,
        embed: Callable[[Tensor], Tensor] | None = None,
        kind: str = "removal",
        of: str = "logit",
        against: int | None = None,
    ) -> None:
        super().__init__(model, train_dataset, task, checkpoints, checkpoints_load_func)
        require_rows(head, len(train_dataset))
        self.head, self.embed, self.kind, self.of, self.against = head, embed, kind, of, against

    def explain(self, test_data: Tensor, targets: Any) -> Tensor:
        """Return the scores, (n_test, n_train)."""
        g, y = embedded(test_data, self.embed), torch.as_tensor(targets)
        against = None if self.against is None else torch.full_like(y, self.against)
        return training_scores(self.head, g, y, kind=self.kind, of=self.of, against=against).float()

    def self_influence(self, batch_size: int = 32) -> Tensor:
        """Return how much leave-one-out contradicts each training label, (n_train,): high is suspicious."""
        return contradiction(self.head).float()
