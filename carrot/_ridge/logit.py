"""The question: one logit, or the difference of two, as a head of one column.

Everything that CARROT says of an answer is linear in the targets: W*, b, alpha, Y and R of the question are a column of
the head's, or the difference of two. So every sum, removal, curve, Shapley value and leave-one-out holds for it as it
stands, at the cost of one class:

::

    logit_c - logit_a  =  g^T (w_c - w_a) + b_c - b_a  =  sum_i <g, g_i> (alpha_ic - alpha_ia) + b_c - b_a         (1)
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsIndex

from jaxtyping import Float
from torch import Tensor

from carrot._display.brief import brief
from carrot._ridge.asked import alpha_of, are_held
from carrot.utils import whole_number

if TYPE_CHECKING:
    from carrot.head import RidgeHead


@dataclass(frozen=True, eq=False)
class Logit:
    """One column of a fitted head: ``head.logit(target, against)`` makes it.

    It predicts, and serves wherever a head's weights do. A view: after a change of the head it is of the new one.

    Attributes:
        head: The fitted head.
        target: Class index c.
        against: Class index a, for ``logit_c - logit_a``; None: for ``logit_c``.

    Exactness: exact; ``tests/unit/test_logit.py``.
    """

    head: "RidgeHead"
    target: int
    against: int | None = None

    __repr__ = brief

    @classmethod
    def of(cls, head: "RidgeHead", target: SupportsIndex, against: SupportsIndex | None = None) -> "Logit":
        """Return the question; see ``RidgeHead.logit``."""
        C, c = head.bias.shape[0], whole_number("target", target)
        a = None if against is None else whole_number("against", against)
        if not 0 <= c < C:
            raise ValueError(f"`target` must be a class 0 .. {C - 1}; got {c}.")
        if a is not None and (not 0 <= a < C or a == c):
            raise ValueError(f"`against` must be a class 0 .. {C - 1} other than `target` = {c}; got {a}.")
        return cls(head, c, a)

    @classmethod
    def predicted(cls, head: "RidgeHead", g: Float[Tensor, " M"]) -> "Logit":
        """Return the logit of the class that is predicted for an embedding."""
        return cls(head, int(head.predict(g).argmax()))

    def column(self, per_class: Float[Tensor, "*b C"]) -> Float[Tensor, "*b 1"]:
        """Return the question's column of what is there for every class."""
        one = per_class[..., self.target : self.target + 1]
        return one if self.against is None else one - per_class[..., self.against : self.against + 1]

    @property
    def _question(self) -> Float[Tensor, "C 1"]:
        """What a row of numbers of the classes is multiplied with: a one, and perhaps one less."""
        one = self.head.bias.new_zeros(len(self.head.bias), 1)
        one[self.target] = 1.0
        if self.against is not None:
            one[self.against] = -1.0
        return one

    @property
    def W_star(self) -> Float[Tensor, "M 1"]:
        """Primal weights."""
        return self.column(self.head.W_star)

    @property
    def bias(self) -> Float[Tensor, " 1"]:
        """Intercept."""
        return self.column(self.head.bias)

    @property
    def y_mean(self) -> Float[Tensor, " 1"]:
        """Mean target: the logit at ``head.g_mean``."""
        return self.column(self.head.y_mean)

    @property
    def alpha(self) -> Float[Tensor, "n 1"]:
        """Dual weights."""
        return self.column(self.head.alpha) if are_held(self.head) else alpha_of(self.head, self._question)

    @property
    def Y(self) -> Float[Tensor, "n 1"]:
        """Targets."""
        return self.head._need_rows().Y.times(self._question, slice(None))

    @property
    def residual(self) -> Float[Tensor, "n 1"]:
        """R, the targets less what is predicted of the training pictures: ``lam alpha_i / w_i``."""
        return self.alpha * (self.head.lam / self.head.sample_weight).unsqueeze(-1)

    def predict(self, g: Float[Tensor, "*m M"]) -> Float[Tensor, "*m 1"]:
        """Return the logit, or the difference, of embeddings."""
        return self.column(self.head.predict(g))
