"""Claim 27: edits of any mixture and size, all at once and of any test pictures, are refits."""

import numpy as np
import torch

from carrot.attribution import Edit, edit_effects_by_class
from tests import reference as ref
from tests.claims.world import World, relative

STATEMENT = (
    "Deleting, adding, relabelling, reweighting and replacing training pictures, in any mixture, many such edits at "
    "once and for any test pictures, is refitting after each"
)
FORMULA = "phi_V(g) dY_V + phi_U(g) (rho^{-1} + phi_U(U))^{-1} (R_U + (I - phi_V(U)) dY_V), phi_i(g) = k(g, g_i) w_i"
ASSUMPTION = "lam held"


def measure() -> float:
    """Return the largest error relative to the largest value of the brute-force answer."""
    world, rng = World(), np.random.default_rng(6)
    G, Y, w = world.embeddings[:-1].numpy(), np.eye(world.C)[world.labels], np.ones(world.n)
    edits, expected = [], []
    before = world.refit()
    for _ in range(40):
        gone, moved, heavier, other = np.split(rng.permutation(world.n)[:8], [2, 4, 6])
        new, label = G[rng.integers(world.n, size=3)] + rng.normal(size=(3, world.D)), rng.integers(world.C, size=3)
        edits.append(
            Edit(
                delete=gone.tolist(),
                relabel={i: int(label[0]) for i in moved.tolist()},
                reweight={i: 2.5 for i in heavier.tolist()},
                add=(torch.tensor(new[:1]), torch.tensor(label[1:2])),
                replace={i: (torch.tensor(new[k]), int(label[2])) for k, i in enumerate(other.tolist())},
            )
        )
        G_e, Y_e, w_e = G.copy(), Y.copy(), w.copy()
        Y_e[moved], w_e[heavier] = np.eye(world.C)[label[0]], 2.5
        G_e[other], Y_e[other] = new[: len(other)], np.eye(world.C)[label[2]]
        G_e, Y_e = (ref.without(x, gone) for x in (G_e, Y_e))
        G_e, Y_e = np.vstack([G_e, new[:1]]), np.vstack([Y_e, np.eye(world.C)[label[1:2]]])
        w_e = np.append(ref.without(w_e, gone), 1.0)
        expected.append(ref.predict(G_e, Y_e, world.lam, world.intercept, world.literal_g, w_e) - before)
    return relative(edit_effects_by_class(world.head, world.g.unsqueeze(0), edits)[0], np.stack(expected))


def test_claim() -> None:
    assert measure() <= World().tolerance
