"""One picture on its way from tokens to g: every object of the theory, to look at and to ask further."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Bool, Float
from torch import Tensor

from carrot._ambient import pinned_class
from carrot.attribution import dirichlet_energy, node_energy
from carrot.graph import RegionGraph
from carrot.lift import IDENTITY, Lift
from carrot.operator import DiffusionOperator
from carrot.readout import BoundReadout, Readout
from carrot.regions import RegionSet
from carrot.removal import Coalitions, LinearHead

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@pinned_class
@dataclass(frozen=True, repr=False)
class Trace:
    """Every object of the theory for one picture.

    Attributes:
        regions: H and P; global regions last.
        graph: W, L.
        operator: Diffusion, with its t.
        lift: phi.
        r: Readout weights.
        pi: Pooling weights ``exp(-tL) r``.
        H_prime: ``exp(-tL) H``, the diffused tokens, to look at.
        g: ``sum_i pi_i phi(h_i)``; without a lift it is ``H'^T r``.
        logits: (C,), where a head was there to give them.
        is_additive: Whether r stays as it is when regions are dropped, as ``BoundReadout`` has it.
    """

    regions: RegionSet
    graph: RegionGraph
    operator: DiffusionOperator
    lift: Lift
    r: Float[Tensor, " N"]
    pi: Float[Tensor, " N"]
    H_prime: Float[Tensor, "N D"]
    g: Float[Tensor, " M"]
    logits: Float[Tensor, " C"] | None = None
    is_additive: bool = False

    def __repr__(self) -> str:
        return f"<Trace of {', '.join(f'{name} {tuple(x.shape)}' for name, x in self.tensors().items())}>"

    @property
    def readout(self) -> BoundReadout:
        """The readout, with its r."""
        return BoundReadout(self.r, self.is_additive, self.regions.num_global)

    @property
    def H(self) -> Float[Tensor, "N D"]:
        """Tokens."""
        return self.regions.features

    @property
    def P(self) -> Float[Tensor, "N 2"]:
        """Centres (x, y) in [-1, 1]."""
        return self.regions.positions

    @property
    def W(self) -> Float[Tensor, "N N"]:
        """Adjacency."""
        return self.graph.W

    @property
    def L(self) -> Float[Tensor, "N N"]:
        """Normalised Laplacian."""
        return self.graph.L

    @classmethod
    def of(
        cls,
        regions: RegionSet,
        graph: RegionGraph,
        operator: DiffusionOperator,
        readout: Readout,
        lift: Lift = IDENTITY,
    ) -> "Trace":
        """Return the trace of one picture."""
        H = regions.features
        r = readout.weights(regions.num_regions, H.dtype)
        pi = operator.pull_back(r, graph)
        g, H_prime = lift.embed(H, pi), operator.forward(H, graph)
        is_additive = isinstance(readout, BoundReadout) and readout.is_additive
        return cls(regions, graph, operator, lift, r, pi, H_prime, g, is_additive=is_additive)

    def tensors(self) -> dict[str, Tensor]:
        """Return H, P, W, L, r, pi, H_prime and g by name, as they are stored."""
        W, L = self.graph
        H, P = self.regions.features, self.regions.positions
        return {"H": H, "P": P, "W": W, "L": L, "r": self.r, "pi": self.pi, "H_prime": self.H_prime, "g": self.g}

    def plot(self) -> "Figure":
        """Return W, degrees, pi, the spectrum of L and what diffusion smoothed as a matplotlib figure."""
        from carrot.embedding.drawing import trace_figure

        return trace_figure(self)

    def _repr_html_(self) -> str:
        from carrot.embedding.drawing import trace_card

        return trace_card(self)

    def coalitions(self, head: LinearHead) -> Coalitions:
        """Return what this picture's logits would be with any of its regions dropped; ``head`` may be one ``Logit``."""
        return Coalitions(self.H, self.graph, self.operator, self.readout, head, self.lift)

    def shown(self, keep: Bool[Tensor, " N"]) -> Float[Tensor, " M"]:
        """Return what g would be with only the regions ``keep`` there; the backbone does not run again."""
        pi = self.operator.pull_back_subsets(self.graph, keep.unsqueeze(-1), self.r, self.readout.rule)[:, 0]
        return self.lift.embed(self.H, pi)

    @property
    def node_energy(self) -> Float[Tensor, " N"]:
        """Each region's share of ``|g|^2``, whatever the class."""
        return node_energy(self.H, self.pi, self.lift)

    @property
    def dirichlet_energy(self) -> Float[Tensor, " N"]:
        """How unlike its neighbours each region is: of the tokens as they are, before diffusion."""
        return dirichlet_energy(self.H, self.graph)
