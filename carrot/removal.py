r"""What the logit would be if regions were not there: one primitive, every coalition of regions a column.

``remove_regions`` deletes nodes, recomputes degrees, Laplacian and diffusion, and takes the mean over what is left: the
value v(S) of keeping the regions S. Single drops, deletion and insertion curves, Shapley values and interactions are
choices of columns.

::

    v(S)        = b + sum_{i in S} pi_i(S) <phi(h_i), W*>                 v(empty) = b                             (1)
    drop_i      = v(all) - v(all \ i)                                                                             (2)
    phi_i       = mean over orders of v(before i, and i) - v(before i)    Shapley: sums to v(all) - v(empty)       (3)
    I_ij        = v(all) - v(all \ i) - v(all \ j) + v(all \ ij)                                                  (4)

Dropping is at the level of regions: the backbone does not run again. Patch tokens that are left still have seen the
dropped ones; tiles (``carrot.tiling``) never did, and for them v(S) is what the picture with S alone shown would get.
(Training pictures are removed: ``carrot.influence``.) The weights W_ij of those left stay as they are: the bandwidth,
where it is a multiple of the picture's median distance, is that of the whole picture. The readout's r is restricted to
them and renormalised, unless it is additive. phi is the lift (``carrot.lift``); the identity unless given.

Reference: Shapley (1953); Castro et al., Computers and Operations Research 36 (2009), for (3) by sampled orders; Samek
et al., IEEE TNNLS 28 (2017), for deletion curves; Petsiuk et al., BMVC 2018, for insertion.
"""

from typing import NamedTuple, Protocol, SupportsIndex, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from carrot._ambient import pinned, pinned_class
from carrot.graph import RegionGraph
from carrot.lift import IDENTITY, Lift
from carrot.operator import DiffusionOperator
from carrot.readout import BoundReadout, Readout
from carrot.utils import require_shape, require_tensor, whole_number, widen

EXACT_SHAPLEY_MAX_REGIONS = 16  # 65,536 coalitions
SUBSET_BLOCK = 4096  # coalitions of one block


@runtime_checkable
class LinearHead(Protocol):
    """What dropping regions needs of a head: its weights."""

    @property
    def W_star(self) -> Tensor: ...  # noqa: D102
    @property
    def bias(self) -> Tensor: ...  # noqa: D102


@pinned_class
class Coalitions:
    """Every coalition of the regions of one picture: v(S), and what is made of it.

    The regions are scored once, for all questions.

    Args:
        H: Tokens; the first two methods take a batch of pictures.
        graph: Their graph.
        operator: Diffusion; its t.
        readout: Readout, restricted to what is left.
        head: Anything with ``W_star`` (M, C) and ``bias`` (C,); ``RidgeHead.logit`` has C = 1, and costs one class.
        lift: The map of tokens that the head was fitted with.

    Exactness: exact within the operator's ``tol``; ``tests/claims/test_13_region_removal.py``.

    Raises:
        ValueError: Tokens, graph, lift and head don't belong together.
    """

    def __init__(
        self,
        H: Float[Tensor, "*b N D"],
        graph: RegionGraph,
        operator: DiffusionOperator,
        readout: Readout,
        head: LinearHead,
        lift: Lift = IDENTITY,
    ) -> None:
        require_tensor("H", H)
        require_shape("H", H, (graph.W.shape[-1], H.shape[-1]), "the graph's regions")
        M = lift.dim(H.shape[-1])
        require_shape("head.W_star", head.W_star, (M, head.bias.shape[-1]), f"the {lift.name} lift of H")
        self.scores = lift.scores(H, head.W_star)  # (..., N, C): <phi(h_i), W*>
        self.bias = widen(head.bias)[0]
        self.graph, self.operator, self.readout = graph, operator, readout
        self.N, self.device = H.shape[-2], H.device

    @property
    def is_additive(self) -> bool:
        """Whether no region matters to another: an additive readout, no diffusion. Drops are then Shapley values."""
        return isinstance(self.readout, BoundReadout) and self.readout.is_additive and self.operator.t == 0.0

    def logits(self, keep: Bool[Tensor, "*#b N R"]) -> Float[Tensor, "*b R C"]:
        """Return the logits of R versions of the picture, version r with only the regions ``keep[:, r]``: equation (1).

        Args:
            keep: True for the regions that stay; each column is one version. An empty column gives the bias.

        Raises:
            ValueError: ``keep`` doesn't match the graph.
            TypeError: ``keep`` is not boolean.
        """
        require_tensor("keep", keep)
        if keep.ndim < 2:
            raise ValueError(
                f"`keep` must be (N, R), a column for each version; got {tuple(keep.shape)}. Use `keep.unsqueeze(-1)`."
            )
        return self._values(keep) + self.bias

    def each(self) -> Float[Tensor, "*b N C"]:
        """Return the drop when region i alone is dropped: equation (2). Positive: the region supports the class."""
        keep = ~torch.eye(self.N + 1, dtype=torch.bool, device=self.device)[
            : self.N
        ]  # column i lacks i; the last is whole
        v = self._values(keep)
        return v[..., self.N :, :] - v[..., : self.N, :]

    def deletion(self, order: Int[Tensor, " N"]) -> Float[Tensor, "N+1 C"]:
        """Return the logits after dropping the first 0, 1, .., N regions of ``order``; the last row is the bias.

        Raises:
            TypeError, ValueError: ``order`` is not a permutation of the regions.
        """
        return self.logits(self._rank(order).unsqueeze(-1) >= torch.arange(self.N + 1, device=self.device))

    def insertion(self, order: Int[Tensor, " N"]) -> Float[Tensor, "N+1 C"]:
        """Return the logits with only the first 0, 1, .., N regions of ``order`` present; the first row is the bias.

        Raises:
            TypeError, ValueError: ``order`` is not a permutation of the regions.
        """
        return self.logits(self._rank(order).unsqueeze(-1) < torch.arange(self.N + 1, device=self.device))

    def shapley(
        self, n_samples: SupportsIndex | None = None, seed: SupportsIndex = 0
    ) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
        """Return each region's Shapley value for each logit, and its standard error: equation (3).

        Args:
            n_samples: Number of sampled orders, at least 4, better 40: with few the standard error is itself a guess.
                Each is also walked backwards (an odd number is rounded up); the error is that of the mean over such
                pairs. None: all 2^N coalitions, for N <= 16; then the error is 0. Of an additive game nothing is
                sampled or enumerated: the drops are the answer.
            seed: Of the sampled orders.

        Returns:
            Values, which sum to ``v(all) - v(empty)`` exactly whatever ``n_samples``, and standard errors.

        Exactness: exact for ``n_samples=None``; else unbiased, with the standard error returned;
        ``tests/unit/test_shapley.py``.

        Raises:
            ValueError: ``n_samples`` is below 4, or None with more than 16 regions.
        """
        self._require_one_picture()
        N = self.N
        if self.is_additive:
            return (values := self.each()), torch.zeros_like(values)
        if n_samples is None:
            if N > EXACT_SHAPLEY_MAX_REGIONS:
                raise ValueError(
                    f"`n_samples=None` enumerates 2^N coalitions and needs N <= {EXACT_SHAPLEY_MAX_REGIONS}; got "
                    f"N = {N}. Give a number of samples, or `coarsen` the regions first."
                )
            values = self._exact_shapley()
            return values, torch.zeros_like(values)
        generator = torch.Generator().manual_seed(whole_number("seed", seed))
        pairs = (whole_number("n_samples", n_samples, 4, what=", for a standard error") + 1) // 2
        mean, squares = torch.zeros_like(self.scores), torch.zeros_like(self.scores)
        for count in range(1, pairs + 1):
            order = torch.randperm(N, generator=generator).to(self.device)
            gain = torch.zeros_like(self.scores)
            for walk in (order, order.flip(0)):
                gain[walk] += 0.5 * self.insertion(walk).diff(dim=0)
            step = gain - mean  # Welford
            mean += step / count
            squares += step * (gain - mean)
        return mean, (squares / (pairs * (pairs - 1))).sqrt()

    def interactions(self) -> Float[Tensor, "N N C"]:
        """Return the interaction of every pair of regions: equation (4), ``drop_i + drop_j - drop_ij``.

        Symmetric. 0: the two act independently. Negative: either stands in for the other. Positive: each needs the
        other. The diagonal is 0. Costs N (N - 1) / 2 pairs dropped.

        Raises:
            ValueError: There are fewer than two regions.
        """
        self._require_one_picture()
        N = self.N
        if N < 2:
            raise ValueError(f"Interactions need at least two regions; got {N}.")
        if self.is_additive:
            return self.scores.new_zeros(N, N, self.scores.shape[-1])
        drop, whole = self.each(), self._values(torch.ones(N, 1, dtype=torch.bool, device=self.device))
        result = torch.zeros(N, N, drop.shape[-1], dtype=drop.dtype, device=self.device)
        for block in torch.triu_indices(N, N, offset=1, device=self.device).split(SUBSET_BLOCK, dim=1):
            keep = torch.ones(N, block.shape[1], dtype=torch.bool, device=self.device).scatter_(0, block, False)
            i, j = block
            result[i, j] = drop[i] + drop[j] - (whole - self._values(keep))
        return result + result.transpose(0, 1)

    def _values(self, keep: Tensor) -> Tensor:
        """Return v(S) - b of each column: (..., R, C)."""
        r, values = self.readout.weights(keep.shape[-2]), []
        rule = self.readout.rule if isinstance(self.readout, BoundReadout) else None
        for block in keep.split(SUBSET_BLOCK, dim=-1):
            pi = self.operator.pull_back_subsets(self.graph, block, r, rule)  # (..., N, R)
            values.append(pi.mT.to(self.scores.dtype) @ self.scores)
        return torch.cat(values, dim=-2)

    def _exact_shapley(self) -> Tensor:
        """Return phi_i = sum_{S without i} |S|! (N - |S| - 1)! / N! (v(S + i) - v(S)), over all 2^N coalitions."""
        N, device = self.N, self.device
        code = torch.arange(2**N, device=device)
        # (N, 2^N): column S holds the members of S
        bits = (code >> torch.arange(N, device=device).unsqueeze(-1)) & 1
        v = self._values(bits.bool())
        log_factorial = torch.lgamma(torch.arange(N + 1, dtype=torch.float64, device=device) + 1.0)
        size = torch.arange(N, device=device)
        weight = torch.exp(log_factorial[size] + log_factorial[N - 1 - size] - log_factorial[N])  # by |S|
        values = []
        for i in range(N):
            without = code[bits[i] == 0]
            gain = v[without + 2**i] - v[without]
            values.append(weight[bits[:, without].sum(dim=0)] @ gain)
        return torch.stack(values)

    def _rank(self, order: Tensor) -> Tensor:
        """Return each region's place in ``order``; refuse what is not a permutation."""
        if not isinstance(order, Tensor) or order.dtype == torch.bool or order.is_floating_point():
            kind = order.dtype if isinstance(order, Tensor) else type(order).__name__
            raise TypeError(
                f"`order` must be a tensor of whole numbers, a permutation; got {kind}. Use `torch.as_tensor`."
            )
        order = order.long()
        if not torch.equal(order.sort().values, torch.arange(self.N, device=order.device)):
            raise ValueError(
                f"`order` must be a permutation of the regions 0 .. {self.N - 1}; got {tuple(order.shape)} entries "
                f"{order.tolist()[:10]}."
            )
        return torch.argsort(order)

    def _require_one_picture(self) -> None:
        if self.scores.ndim != 2:
            raise ValueError(
                f"`H` must be (N, D), one picture; got a batch of {tuple(self.scores.shape[:-2])}. Call it for each "
                "picture."
            )


class _Column(NamedTuple):
    """One class of any linear head."""

    W_star: Tensor
    bias: Tensor


# ---- the same as functions, for all classes of a head


@pinned()
def remove_regions(
    H: Float[Tensor, "*b N D"],
    graph: RegionGraph,
    operator: DiffusionOperator,
    readout: Readout,
    head: LinearHead,
    keep: Bool[Tensor, "*#b N R"],
    lift: Lift = IDENTITY,
) -> Float[Tensor, "*b R C"]:
    """Return ``Coalitions(...).logits(keep)``: the logits of R versions of the picture, equation (1)."""
    return Coalitions(H, graph, operator, readout, head, lift).logits(keep)


@pinned()
def remove_each_region(
    H: Float[Tensor, "*b N D"],
    graph: RegionGraph,
    operator: DiffusionOperator,
    readout: Readout,
    head: LinearHead,
    lift: Lift = IDENTITY,
) -> Float[Tensor, "*b N C"]:
    """Return ``Coalitions(...).each()``: the drop of every logit when region i alone is dropped, equation (2)."""
    return Coalitions(H, graph, operator, readout, head, lift).each()


@pinned()
def deletion_curve(
    H: Float[Tensor, "N D"],
    graph: RegionGraph,
    operator: DiffusionOperator,
    readout: Readout,
    head: LinearHead,
    order: Int[Tensor, " N"],
    lift: Lift = IDENTITY,
) -> Float[Tensor, "N+1 C"]:
    """Return ``Coalitions(...).deletion(order)``: the logits after dropping the first 0 .. N regions of ``order``."""
    return Coalitions(H, graph, operator, readout, head, lift).deletion(order)


@pinned()
def insertion_curve(
    H: Float[Tensor, "N D"],
    graph: RegionGraph,
    operator: DiffusionOperator,
    readout: Readout,
    head: LinearHead,
    order: Int[Tensor, " N"],
    lift: Lift = IDENTITY,
) -> Float[Tensor, "N+1 C"]:
    """Return ``Coalitions(...).insertion(order)``: the logits with only the first 0, 1, .., N regions of ``order``."""
    return Coalitions(H, graph, operator, readout, head, lift).insertion(order)


@pinned()
def region_shapley(
    H: Float[Tensor, "N D"],
    graph: RegionGraph,
    operator: DiffusionOperator,
    readout: Readout,
    head: LinearHead,
    n_samples: SupportsIndex | None = None,
    seed: SupportsIndex = 0,
    lift: Lift = IDENTITY,
) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
    """Return ``Coalitions(...).shapley(n_samples, seed)``: Shapley values by region and logit, and standard errors."""
    return Coalitions(H, graph, operator, readout, head, lift).shapley(n_samples, seed)


@pinned()
def region_interactions(
    H: Float[Tensor, "N D"],
    graph: RegionGraph,
    operator: DiffusionOperator,
    readout: Readout,
    head: LinearHead,
    target: SupportsIndex,
    lift: Lift = IDENTITY,
) -> Float[Tensor, "N N"]:
    """Return ``Coalitions(...).interactions()`` for logit ``target``: equation (4), at the cost of one class.

    Raises:
        ValueError: There are fewer than two regions, or ``target`` is out of range.
    """
    c = whole_number("target", target, 0, head.bias.shape[-1] - 1, ", a class")
    one = _Column(head.W_star[:, c : c + 1], head.bias[c : c + 1])
    return Coalitions(H, graph, operator, readout, one, lift).interactions()[..., 0]
