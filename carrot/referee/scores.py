"""Scores of training pictures for many answers at once, and what each number is.

A question f is one number made of a picture's logits z, for its class y:

::

    logit      z_y
    margin     z_y - max_c z_c, c != y                     what an audit calls margin
    log_odds   z_y - log sum_c exp(z_c), c != y            what quanda's LDS scores, and TRAK's output
    contrast   z_y - z_a                                   "why y and not a"

and the score of training picture i for it is of one of three kinds:

::

    dual       <g, g_i> alpha_i     additive: sums over i to the logit less the bias; a representer value
    label      s_i(g) y_i           additive: sums over i to the logit, bias included
    removal    f(z) - f(z_{-i})     counterfactual: what f loses when the head is fitted again without i, exactly
                                    (z_{-i} = z - s_i(g) R_i / (1 - leverage_i)); sums to nothing

Additive kinds split a sum, so they answer logit and contrast alone. A sum of removals over a group is not the group's
removal: ``carrot.attribution.group_removal_effect`` is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carrot._ambient import pinned
from carrot._display.brief import brief
from carrot.head import RidgeHead
from carrot.utils import require_tensor

Kind = Literal["dual", "label", "removal"]
Of = Literal["logit", "margin", "log_odds", "contrast"]
BLOCK = 2**24  # numbers of logits without a picture that are there at once: 128 MiB


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of each of m pictures: a function of its logits, for a class of its own.

    Attributes:
        targets: The class y of each.
        of: Which function.
        against: The class a of each, for a contrast.

    Raises:
        ValueError: There is no such function, or ``against`` is missing, not asked for, or the class itself.
    """

    targets: Int[Tensor, " m"]
    of: str = "logit"
    against: Int[Tensor, " m"] | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.of not in get_args(Of):
            raise ValueError(f"`of` must be one of {get_args(Of)}; got {self.of!r}.")
        if (self.of == "contrast") != (self.against is not None):
            raise ValueError(
                "`against` must be the other class of each picture with of='contrast', and goes with it alone."
            )
        if self.against is not None and (
            self.against.shape != self.targets.shape or bool((self.against == self.targets).any())
        ):
            raise ValueError("`against` must be one class for each picture, other than its target.")

    def require(self, m: int, C: int) -> "Question":
        """Return itself, if it fits m pictures and C classes.

        Raises:
            ValueError: It doesn't.
        """
        for name, classes in (("targets", self.targets), ("against", self.against)):
            if classes is not None and classes.shape != (m,):
                raise ValueError(f"`{name}` must be ({m},), a class for each picture; got {tuple(classes.shape)}.")
            if classes is not None and m and not 0 <= int(classes.min()) <= int(classes.max()) < C:
                raise ValueError(f"`{name}` must hold classes 0 .. {C - 1}; got {classes.tolist()[:10]}.")
        return self

    def __call__(self, logits: Float[Tensor, "*b m C"]) -> Float[Tensor, "*b m"]:
        """Return f of logits."""
        own = self._own(logits, self.targets)
        if self.against is not None:
            return own - self._own(logits, self.against)
        if self.of == "logit":
            return own
        others = logits.masked_fill(torch.nn.functional.one_hot(self.targets, logits.shape[-1]).bool(), -torch.inf)
        return own - (others.amax(dim=-1) if self.of == "margin" else others.logsumexp(dim=-1))

    @staticmethod
    def _own(values: Tensor, classes: Tensor) -> Tensor:
        return values.gather(-1, classes.expand(values.shape[:-1]).unsqueeze(-1)).squeeze(-1)


@pinned()
def training_scores(
    head: RidgeHead,
    g_test: Float[Tensor, "m D"],
    targets: Int[Tensor, " m"] | Sequence[int] | None = None,
    *,
    kind: str = "removal",
    of: str = "logit",
    against: Int[Tensor, " m"] | Sequence[int] | None = None,
) -> Float[Tensor, "m n"]:
    """Return the score of every training picture for every answer: the matrix, or its transpose, that metrics take.

    Args:
        head: Fitted on rows.
        g_test: Embeddings of the pictures that are asked about.
        targets: Their classes; default: those predicted.
        kind: "removal", "dual" or "label" (see above).
        of: "logit", "margin", "log_odds" or "contrast".
        against: The other class of each, for a contrast.

    Exactness: exact, to rounding; ``tests/unit/test_referee.py``.

    Raises:
        TypeError: ``g_test`` is no tensor.
        ValueError: ``kind`` or ``of`` is unknown, an additive kind is asked of what is no sum, a class is out of range.
    """
    require_tensor("g_test", g_test)
    if kind not in get_args(Kind):
        raise ValueError(f"`kind` must be one of {get_args(Kind)}; got {kind!r}.")
    logits = head.predict(g_test)
    f = Question(
        logits.argmax(dim=-1) if targets is None else torch.as_tensor(targets).long(),
        of,
        None if against is None else torch.as_tensor(against).long(),
    ).require(*logits.shape)
    if kind != "removal" and of not in ("logit", "contrast"):
        raise ValueError(
            f"`kind` = {kind!r} splits a sum, and {of} is none: ask for 'logit' or 'contrast', or for removal."
        )
    if kind == "dual":
        return (g_test.to(head.W_star) @ head.G.to(head.W_star).mT) * _each(f, head.alpha)
    smoother = head.smoother(g_test)  # (m, n)
    if kind == "label":
        return smoother * _each(f, head.Y)
    step = head.residual / head.slack.unsqueeze(-1)  # (n, C): R / (1 - leverage)
    if of in ("logit", "contrast"):
        return smoother * _each(f, step)
    scores, now = torch.empty_like(smoother), f(logits)
    for rows in torch.arange(len(step)).split(max(1, BLOCK // max(1, logits.numel()))):
        without = logits - smoother[:, rows].mT.unsqueeze(-1) * step[rows].unsqueeze(1)  # (b, m, C)
        scores[:, rows] = (now - f(without)).mT
    return scores


def _each(f: Question, values: Float[Tensor, "n C"]) -> Float[Tensor, "m n"]:
    """Return a linear f of each training picture's values, for each test picture."""
    return f(values.unsqueeze(1).expand(-1, len(f.targets), -1)).mT


def contradiction(head: RidgeHead) -> Float[Tensor, " n"]:
    """Return how much leave-one-out contradicts the label of each training picture: minus the margin of its own label.

    What peers call self-influence where they look for wrong labels: high is suspicious.
    """
    logits = head.loo_predict()
    return -Question(head.Y.argmax(dim=1), "margin")(logits)
