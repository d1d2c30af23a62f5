"""Choose what the embedding is made with, by exact leave-one-out on the training pictures: grid, order, table.

First lift, tau, global share and coarsening at t = 0; then, for the best of them, the graph. t = 0 therefore always
competes, and so does the mean of the tokens as they are, which no coarsening changes. One backbone pass serves all;
each graph is built once, and all its t come from one recurrence.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from carrot._progress import progress
from carrot.backbone import TimmViTPatchBackbone
from carrot.embedding.cache import TokenCache
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import AXES, Setting
from carrot.evaluation.selection import Candidate, candidate, select
from carrot.lift import lift_from

GRID: dict[str, tuple[Any, ...]] = {name: axis.grid for name, axis in AXES.items()}
PLAIN = tuple(name for name, axis in AXES.items() if not axis.is_graph)  # chosen at t = 0
INSTEAD = "sketch:8192"  # of a quadratic lift that is too wide


class Plan(NamedTuple):
    """What is tried: settings at t = 0, and for the best of them every graph with every t > 0."""

    plain: tuple[Setting, ...]
    graphs: tuple[tuple[float, float], ...]
    times: tuple[float, ...]

    @classmethod
    def of(
        cls, grid: Mapping[str, Sequence[Any]], backbone: TimmViTPatchBackbone, n: int, max_bytes: int = 2**34
    ) -> "Plan":
        """Return the plan for n pictures; nothing is embedded yet.

        Args:
            grid: What to choose from, by the names of ``Setting``; what is absent is as in ``GRID``.
            backbone: Says whether there is a class token and its attention.
            n: Number of training pictures.
            max_bytes: Lifts whose embeddings would be larger are left out; "quadratic" then makes room for
                "sketch:8192".

        Raises:
            ValueError: A name is unknown, a value missing, out of range, or doesn't go with the backbone.
        """
        axes = _axes(grid, backbone, n, max_bytes)
        values = itertools.product(*(axes[name] for name in PLAIN))
        settings = (Setting(**dict(zip(PLAIN, value, strict=True))) for value in values)
        graphs = tuple(itertools.product(axes["sigma_spatial"], axes["sigma_feature"]))
        mean = Setting(coarsen=axes["coarsen"][0])
        plan = cls(tuple(dict.fromkeys([mean, *settings])), graphs, tuple(t for t in axes["t"] if t))
        for s in [*plan.plain, *(s for graph in plan.graphs for s in plan.diffused(Setting(), graph))]:
            Pooling(s).require(backbone)
        return plan

    def diffused(self, start: Setting, graph: tuple[float, float]) -> list[Setting]:
        """Return one setting for each t > 0, on one graph."""
        return [replace(start, sigma_spatial=graph[0], sigma_feature=graph[1], t=t) for t in self.times]


def choose(
    cache: TokenCache,
    rows: Sequence[int],
    labels: Int[Tensor, " n"],
    plan: Plan,
    fit_intercept: bool = True,
    sample_weight: Float[Tensor, " n"] | None = None,
) -> tuple[Candidate[Setting], list[dict[str, object]]]:
    """Return the candidate of the smallest exact leave-one-out error, and a line for each that was tried.

    Args:
        cache: Tokens of the data set.
        rows: Its training pictures.
        labels: Theirs.
        plan: What to try.
        fit_intercept: As in ``RidgeHead``.
        sample_weight: As in ``RidgeHead``.
    """
    tried: list[dict[str, object]] = []

    def attempt(s: Setting, pi: Tensor | None = None) -> Candidate[Setting]:
        c = candidate(cache.embed(rows, s, pi), labels, s, fit_intercept, sample_weight)
        tried.append({**s.to_dict(), "lam": c.head.lam, "loo_mse": c.loo_mse, "loo_accuracy": c.loo_accuracy})
        return c

    start = select(attempt(s) for s in progress(plan.plain, "leave-one-out, lift and readout", len(plan.plain)))

    def diffused() -> Iterator[Candidate[Setting]]:
        graphs = plan.graphs if plan.times else ()
        for graph in progress(graphs, "leave-one-out, graph", len(graphs)):
            settings = plan.diffused(start.setting, graph)
            yield from map(attempt, settings, cache.pool(rows, settings))

    return select(itertools.chain([start], diffused())), tried


def table_lines(tried: Sequence[Mapping[str, Any]], chosen: Setting) -> Iterator[str]:
    """Yield the table of what was tried, best first, and what was chosen."""
    yield f"{'setting':<64} {'lam':>9} {'LOO error':>10} {'LOO accuracy':>13}"
    for line in sorted(tried, key=lambda line: float(line["loo_mse"])):
        s = Setting(**{name: line[name] for name in AXES})
        mark = "  <- chosen" if s == chosen else ""
        yield f"{s!s:<64} {line['lam']:9.2g} {line['loo_mse']:10.5f} {line['loo_accuracy']:13.4f}{mark}"
    yield "LOO: exact leave-one-out on the training pictures; error is squared, mean over pictures and classes."


def _axes(
    grid: Mapping[str, Sequence[Any]], backbone: TimmViTPatchBackbone, n: int, max_bytes: int
) -> dict[str, tuple[Any, ...]]:
    unknown = sorted(set(grid) - set(GRID))
    if unknown:
        raise ValueError(f"`grid` must be by the names {', '.join(GRID)}; got {unknown[0]!r}.")
    axes = {name: tuple(dict.fromkeys(grid.get(name, values))) for name, values in GRID.items()}
    empty = [name for name, values in axes.items() if not values]
    if empty:
        raise ValueError(f"`grid` must hold at least one value for {empty[0]!r}; leave it out for the default.")
    if "tau" not in grid and not backbone.attention:
        axes["tau"] = (0.0,)
    axes["t"] = tuple(dict.fromkeys([0.0, *axes["t"]]))

    def fits(lift: str) -> bool:
        return 8 * n * lift_from(lift).dim(backbone.embed_dim) <= max_bytes

    lifts = [lift for lift in axes["lift"] if fits(lift)]
    if "quadratic" in axes["lift"] and "quadratic" not in lifts and fits(INSTEAD):
        lifts.append(INSTEAD)
    if not lifts:
        raise ValueError(
            f"`grid` must hold a lift whose embeddings of {n:,} pictures fit into {max_bytes / 2**30:.0f} GiB."
        )
    axes["lift"] = tuple(lifts)
    return axes
