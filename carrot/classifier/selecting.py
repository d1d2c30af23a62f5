"""Choose what the embedding is made with, by exact leave-one-out on the training pictures: grid, order, rule.

First regions, lift, readout, global share and coarsening at t = 0; then, for the best of them, the graph. t = 0
therefore always competes, and so does the mean of the tokens as they are, which no coarsening changes. One backbone
pass serves all that look at a picture alike; each graph is built once, and all its t come from one recurrence.

Tiles see only themselves: what their map shows is what the model saw. So accuracy alone does not choose between them
and patches::

    tiles, unless they lose more than a standard error of the best leave-one-out accuracy;
    else tiles with the smallest told share of the whole picture that does not;                                    (1)
    else what is best.

Among tiles, and among patches, the squared leave-one-out error chooses, as it chooses lam.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from carrot._choices import PATCHES
from carrot._progress import progress
from carrot.classifier.fitting import Caches
from carrot.embedding.encoder import Encoder
from carrot.embedding.pooling import Pooling
from carrot.embedding.setting import AXES, Setting, short_regions
from carrot.errors import BackboneError
from carrot.evaluation.selection import Candidate, candidate, select
from carrot.lift import lift_from
from carrot.utils import real_number

GRID: dict[str, tuple[Any, ...]] = {name: axis.grid for name, axis in AXES.items()}
PLAIN = tuple(name for name, axis in AXES.items() if not axis.is_graph)  # chosen at t = 0
INSTEAD = "sketch:8192"  # of a quadratic lift that is too wide
SHARES = (0.1, 0.3)  # of the whole picture, offered where tiles alone lose
OF_PATCHES = ("tau", "coarsen")  # what means nothing to tiles
OF_TILES = ("power", "tile_size")  # and to patches, unless it is asked for


class Score(NamedTuple):
    """What is remembered of a candidate: all but its head.

    Attributes:
        setting: What it was made with.
        loo_mse: As ``Candidate`` has it.
        loo_accuracy: As ``Candidate`` has it.
    """

    setting: Setting
    loo_mse: float
    loo_accuracy: float

    @classmethod
    def of(cls, c: Candidate[Setting]) -> "Score":
        """Return a candidate's."""
        return cls(c.setting, c.loo_mse, c.loo_accuracy)


class Plan(NamedTuple):
    """What is tried: settings at t = 0, and for the best of them every graph with every t > 0.

    Attributes:
        plain: Settings at t = 0.
        graphs: Bandwidths.
        times: t > 0.
        costs: What a picture costs in passes of the backbone, by regions, size of a tile and whether the whole is seen.
        limit: What it may cost.
        shares: Told shares of the whole picture that are offered where tiles alone lose.
        beyond: Kinds of regions of which every setting costs more than the limit, with what they cost; cheapest first.
    """

    plain: tuple[Setting, ...]
    graphs: tuple[tuple[float, float], ...]
    times: tuple[float, ...]
    costs: Callable[[Setting], float]
    limit: float = math.inf
    shares: tuple[float, ...] = ()
    beyond: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(
        cls,
        grid: Mapping[str, Sequence[Any]],
        encoder: Encoder,
        n: int,
        max_bytes: int = 2**34,
        passes: float | None = None,
    ) -> "Plan":
        """Return the plan for n pictures; nothing is embedded yet.

        Args:
            grid: What to choose from, by the names of ``Setting``; what is absent is as in ``GRID``.
            encoder: Says whether there is a class token and its attention, and what a pass costs.
            n: Number of training pictures.
            max_bytes: Lifts whose embeddings would be larger are left out; "quadratic" then makes room for
                "sketch:8192".
            passes: What regions may cost; default: any.

        Raises:
            TypeError: A name's values are one text, or ``passes`` is no number.
            ValueError: A name is unknown, a value missing, out of range, or doesn't go with the backbone; nothing costs
                so little.
        """
        axes = _axes(grid, encoder, n, max_bytes)
        settings = list(dict.fromkeys(s for regions in axes["regions"] for s in _plain(axes, regions, set(grid))))
        graphs = tuple(itertools.product(axes["sigma_spatial"], axes["sigma_feature"]))
        for s in settings:
            Pooling(s).require(encoder.of(s).view)
        for graph, t in itertools.product(graphs, axes["t"]):
            Pooling(replace(settings[0], sigma_spatial=graph[0], sigma_feature=graph[1], t=t))
        if passes is not None and not 0 < real_number("passes", passes) < math.inf:
            raise ValueError(f"`passes` must be a finite number > 0; got {passes!r}.")
        limit = math.inf if passes is None else passes
        costs = {s: encoder.passes(s) for s in settings}
        kept = tuple(s for s in settings if costs[s] <= limit)
        if not kept:
            least = min(settings, key=costs.__getitem__)
            raise ValueError(
                f"`passes` = {passes} leaves nothing: the least, {least.regions}, costs {costs[least]:.3g}."
            )
        shares = () if "global_share" in grid else SHARES  # of a class token, or of the mean where there is none
        dear = {_kind(s): cost for s, cost in costs.items() if cost > limit}
        beyond = sorted((dear.keys() - set(map(_kind, kept))), key=lambda kind: (dear[kind], kind))
        left_out = tuple((kind, dear[kind]) for kind in beyond)
        return cls(kept, graphs, tuple(t for t in axes["t"] if t), encoder.passes, limit, shares, left_out)

    def diffused(self, start: Setting, graph: tuple[float, float]) -> list[Setting]:
        """Return one setting for each t > 0, on one graph."""
        return [replace(start, sigma_spatial=graph[0], sigma_feature=graph[1], t=t) for t in self.times]


def choose(
    caches: Caches,
    rows: Sequence[int],
    labels: Int[Tensor, " n"],
    plan: Plan,
    fit_intercept: bool = True,
    sample_weight: Float[Tensor, " n"] | None = None,
) -> tuple[Candidate[Setting], list[dict[str, object]]]:
    """Return the candidate that rule (1) takes, and a line for each that was tried.

    Args:
        caches: Tokens of the data set.
        rows: Its training pictures.
        labels: Theirs.
        plan: What to try.
        fit_intercept: As in ``RidgeHead``.
        sample_weight: As in ``RidgeHead``.
    """
    tried: list[dict[str, object]] = []

    def attempt(s: Setting, pi: Tensor | None = None) -> Score:  # a head is large, and none is held
        c = candidate(caches.of(s).embed(rows, s, pi), labels, s, fit_intercept, sample_weight)
        cost = {"passes": plan.costs(s)}
        tried.append({**s.to_dict(), **cost, "lam": c.head.lam, "loo_mse": c.loo_mse, "loo_accuracy": c.loo_accuracy})
        return Score.of(c)

    def diffused(start: Setting) -> Iterator[Score]:
        graphs = plan.graphs if plan.times else ()
        for graph in progress(graphs, "leave-one-out, graph", len(graphs)):
            settings = plan.diffused(start, graph)
            yield from map(attempt, settings, caches.of(start).pool(rows, settings))

    plain = map(attempt, progress(plan.plain, "leave-one-out, regions, lift and readout", len(plan.plain)))
    best = decide(plan, len(rows), plain, attempt, diffused).setting
    return candidate(caches.of(best).embed(rows, best), labels, best, fit_intercept, sample_weight), tried


def decide(
    plan: Plan,
    n: int,
    plain: Iterable[Score],
    attempt: Callable[[Setting], Score],
    diffused: Callable[[Setting], Iterable[Score]],
) -> Score:
    """Return what the order and rule (1) take of n pictures.

    Args:
        plan: What is tried.
        n: How many pictures the scores are of.
        plain: Scores of its settings at t = 0, in their order.
        attempt: Scores a setting that the plan does not list: tiles with a told share.
        diffused: Scores a setting on every graph at every t > 0.
    """
    found: dict[tuple[bool, float], Score] = {}  # the best of each kind
    for score in plain:
        kind = (score.setting.is_tiled, score.setting.global_share)
        found[kind] = select([found.get(kind, score), score])
    alone = found.get((True, 0.0))
    if alone is not None and len(found) > 1 and not _holds(alone, found.values(), n):
        for share in plan.shares:
            s = replace(alone.setting, global_share=share)
            if plan.costs(s) <= plan.limit:
                found[True, share] = attempt(s)
    start = taken(found.values(), n)

    def keeps(c: Score) -> bool:  # tiles that were taken by rule (1) stay within it
        return not start.setting.is_tiled or len(found) == 1 or _holds(c, found.values(), n)

    return select([start, *filter(keeps, diffused(start.setting))])


def standard_error(accuracy: float, n: int) -> float:
    """Return that of an accuracy on n pictures."""
    return math.sqrt(accuracy * (1.0 - accuracy) / n)


def _holds(c: Score, others: Iterable[Score], n: int) -> bool:
    """Return whether a candidate loses no more than a standard error of the best leave-one-out accuracy."""
    best = max(other.loo_accuracy for other in others)
    return c.loo_accuracy >= best - standard_error(best, n)


def taken(found: Iterable[Score], n: int) -> Score:
    """Return the candidate that rule (1) takes."""
    candidates = list(found)
    tiles = sorted((c for c in candidates if c.setting.is_tiled), key=lambda c: c.setting.global_share)
    return next((c for c in tiles if _holds(c, candidates, n)), None) or select(candidates)


def _kind(s: Setting) -> str:
    """Return what costs alike, in words."""
    return short_regions(s.regions) + (" with the whole picture" if s.is_tiled and s.global_share else "")


def _plain(axes: Mapping[str, tuple[Any, ...]], regions: str, asked: set[str]) -> Iterator[Setting]:
    """Yield the settings at t = 0 of one kind of regions; the mean of its tokens as they are comes first."""
    skipped = OF_PATCHES if regions != PATCHES else tuple(name for name in OF_TILES if name not in asked)
    own = {name: (AXES[name].default,) if name in skipped else axes[name] for name in PLAIN}
    own["regions"] = (regions,)
    if regions == PATCHES:
        yield Setting(coarsen=own["coarsen"][0])
    for value in itertools.product(*own.values()):
        yield Setting(**dict(zip(own, value, strict=True)))


def _axes(grid: Mapping[str, Sequence[Any]], encoder: Encoder, n: int, max_bytes: int) -> dict[str, tuple[Any, ...]]:
    unknown = sorted(set(grid) - set(GRID))
    if unknown:
        raise ValueError(f"`grid` must be by the names {', '.join(GRID)}; got {unknown[0]!r}.")
    single = [name for name, values in grid.items() if isinstance(values, str)]
    if single:
        name = single[0]
        raise TypeError(f"`grid` must hold a list for {name!r}; got {grid[name]!r}. Write [{grid[name]!r}].")
    axes = {name: tuple(dict.fromkeys(grid.get(name, values))) for name, values in GRID.items()}
    axes["regions"] = tuple(getattr(regions, "spec", regions) for regions in axes["regions"])
    if "regions" in grid and PATCHES not in axes["regions"]:
        for name in OF_PATCHES:
            if set(grid.get(name, ())) - {AXES[name].default}:
                raise ValueError(
                    f"`{name}` means something to patches alone, and regions are {', '.join(axes['regions'])}. "
                    f'Leave it out, or let "{PATCHES}" compete too.'
                )
    if "regions" not in grid:  # who names what means nothing to the others means these
        of_patches, of_tiles = (any(name in grid for name in names) for names in (OF_PATCHES, OF_TILES))
        if of_patches != of_tiles:
            axes["regions"] = tuple(r for r in axes["regions"] if (r != PATCHES) == of_tiles)
        if PATCHES in axes["regions"]:
            try:
                _ = encoder.of(Setting()).view
            except BackboneError:  # no patch tokens; what else may be wrong is wrong of tiles too, and told there
                axes["regions"] = tuple(r for r in axes["regions"] if r != PATCHES)
    empty = [name for name, values in axes.items() if not values]
    if empty:
        raise ValueError(f"`grid` must hold at least one value for {empty[0]!r}; leave it out for the default.")
    looks = PATCHES if PATCHES in axes["regions"] else axes["regions"][0]
    backbone = encoder.of(Setting(regions=looks)).backbone
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
