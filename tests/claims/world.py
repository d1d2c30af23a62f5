"""The small world in which claims are measured.

Pictures of random clustered tokens, embedded by the package, and a head on them.
"""

from functools import cached_property

import numpy as np
import torch

from carrot.graph import RegionGraph, RegionGraphBuilder
from carrot.head import RidgeHead
from carrot.operator import DiffusionOperator
from carrot.readout import GraphReadout, embed
from carrot.regions import RegionSet, grid_positions
from tests import reference as ref


class World:
    """n training pictures and one test picture: gh x gw regions of D features, C classes."""

    def __init__(
        self, n: int = 60, gh: int = 6, gw: int = 8, D: int = 20, C: int = 5, t: float = 2.0, intercept: bool = True
    ) -> None:
        rng = np.random.default_rng(0)
        self.n, self.N, self.D, self.C, self.t = n, gh * gw, D, C, t
        self.labels = np.arange(n) % C
        prototypes, motifs = rng.normal(size=(C, D)), 2.0 * rng.normal(size=(4, D))
        kinds = rng.integers(0, 4, size=(n + 1, self.N))
        tokens = motifs[kinds] + rng.normal(size=(n + 1, self.N, D)) + 0.5
        tokens[:, : self.N // 3] += prototypes[np.append(self.labels, 0)][
            :, None
        ]  # a third of each picture tells its class
        self.tokens = torch.tensor(tokens)
        self.positions, self.grid = grid_positions(gh, gw, torch.float64), (gh, gw)
        self.operator, self.readout, self.lam, self.intercept = DiffusionOperator(t), GraphReadout(), 0.5, intercept

    @cached_property
    def graphs(self) -> RegionGraph:
        return RegionGraphBuilder().build(RegionSet(self.tokens, self.positions, self.grid))

    @cached_property
    def pi(self) -> torch.Tensor:  # (n + 1, N)
        return self.operator.pull_back(self.readout.weights(self.N), self.graphs)

    @cached_property
    def embeddings(self) -> torch.Tensor:  # (n + 1, D)
        return embed(self.tokens, self.pi)

    @cached_property
    def head(self) -> RidgeHead:
        return RidgeHead(self.lam, self.intercept).fit(self.embeddings[:-1], torch.tensor(self.labels))

    # the last picture is the test picture

    @property
    def H(self) -> torch.Tensor:
        return self.tokens[-1]

    @property
    def graph(self) -> RegionGraph:
        return RegionGraph(self.graphs.W[-1], self.graphs.degree[-1])

    @property
    def g(self) -> torch.Tensor:
        return self.embeddings[-1]

    @cached_property
    def literal_g(self) -> np.ndarray:
        """The test picture's embedding by the reference: power series, every token diffused, mean."""
        return ref.embed(self.H.numpy(), self.graph.W.numpy(), self.t)

    def refit(
        self, G: np.ndarray | None = None, Y: np.ndarray | None = None, gone: list[int] | None = None
    ) -> np.ndarray:
        """Logits of the test picture after a real refit by least squares."""
        G = self.embeddings[:-1].numpy() if G is None else G
        Y = np.eye(self.C)[self.labels] if Y is None else Y
        if gone:
            G, Y = ref.without(G, gone), ref.without(Y, gone)
        return ref.predict(G, Y, self.lam, self.intercept, self.literal_g)

    @cached_property
    def tolerance(self) -> float:
        """10 x eps x condition number of the ridge system, for logits of order one."""
        return 10 * np.finfo(np.float64).eps * ref.condition(self.embeddings[:-1].numpy(), self.lam, self.intercept)


def relative(actual: torch.Tensor | np.ndarray, expected: torch.Tensor | np.ndarray) -> float:
    """Return the largest error over the largest expected value."""
    a, b = np.asarray(actual), np.asarray(expected)
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(b).max())
