"""The minimal verifiable CARROT: a few toy birds, and three exact statements held against brute force in plain view.

Usage: python examples/minimal.py        (about half a minute; needs no network)
"""

import numpy as np
import torch
from scipy.linalg import expm

from carrot import DiffusionOperator, GraphReadout, RegionGraphBuilder, RegionSet, RidgeHead, TimmViTPatchBackbone
from carrot.attribution import region_contribution, remove_each_region, training_contribution
from carrot.data import split_indices
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds, embedded_checkpoint
from carrot.readout import embed

# 1. Pictures -> tokens H -> graph W, L -> weights pi = exp(-tL) r -> embedding g = H^T pi
birds = ToyBirds(n_train_per_class=6, n_test_per_class=1, n_species=8)
backbone = TimmViTPatchBackbone(EMBEDDED_MODEL, checkpoint=embedded_checkpoint(), crop="squash")
patches = backbone(torch.stack([backbone.transform(birds.image(i)) for i in range(len(birds))]))
regions = RegionSet(patches.H.double(), patches.P.double(), patches.grid_hw)
graph = RegionGraphBuilder(sigma_spatial=0.5, sigma_feature=1.0).build(regions)
operator, readout = DiffusionOperator(t=2.0), GraphReadout()
pi = operator.pull_back(readout.weights(regions.num_regions), graph)
G = embed(regions.features, pi)

# 2. Closed-form head on the training pictures; one test picture
train, test = split_indices(birds, "train"), split_indices(birds, "test")[0]
y = torch.tensor([birds.records[i].label for i in train])
head = RidgeHead(lam=0.1, fit_intercept=True).fit(G[train], y)
logits = head.predict(G[test]).numpy()
c = logits.argmax()
print(f"{birds.records[test].id} says {birds.classes[c]!r}, logit {logits[c]:.6f}")

# 3. Brute force, in numpy: the literal exp(-tL) H, and ridge regression as least squares on stacked rows
H, W, Y = regions.features[test].numpy(), graph.W[test].numpy(), np.eye(8)[y]


def literal_g(H, W):
    d = W.sum(axis=1)
    L = np.eye(len(W)) - W / np.sqrt(np.outer(d, d))
    return (expm(-2.0 * L) @ H).mean(axis=0)


def refit(G, Y):
    g_mean, y_mean, D = G.mean(axis=0), Y.mean(axis=0), G.shape[1]
    A, B = np.vstack([G - g_mean, np.sqrt(0.1) * np.eye(D)]), np.vstack([Y - y_mean, np.zeros((D, 8))])
    W_star = np.linalg.lstsq(A, B, rcond=None)[0]
    return lambda g: (g - g_mean) @ W_star + y_mean


def check(name, ours, brute_force):
    error = abs(float(ours) - float(brute_force))
    print(f"  {name:<52} {float(ours):+.9f}  brute force {float(brute_force):+.9f}  off by {error:.0e}")
    if error > 1e-9:
        raise SystemExit("not exact")


truth = refit(G[train].numpy(), Y)(literal_g(H, W))[c]
b = head.bias[c]
check("regions, summed", region_contribution(regions.features[test], pi[test], head.W_star)[:, c].sum() + b, truth)
check("training pictures, summed", training_contribution(G[test], head.G, head.alpha)[:, c].sum() + b, truth)

stay = np.arange(1, len(train))  # without training picture 0
left_out = refit(G[train].numpy()[stay], Y[stay])(G[train[0]].numpy())[y[0]]
check("leave-one-out logit of training picture 0", head.loo_predict()[0, y[0]], left_out)

one = type(graph)(graph.W[test], graph.degree[test])
drop = remove_each_region(regions.features[test], one, operator, readout, head)[37, c]
rest = np.arange(len(H)) != 37  # without region 37
check(
    "drop of the logit without region 37",
    drop,
    truth - refit(G[train].numpy(), Y)(literal_g(H[rest], W[np.ix_(rest, rest)]))[c],
)
