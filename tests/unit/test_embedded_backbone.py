"""The embedded weights: they are test_vit's, they come from other species, and they see what untrained ones don't."""

import hashlib
import json
from typing import Any

import numpy as np
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from carrot.data.records import split_indices
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds, embedded_checkpoint, training_species


def backbone(trained: bool) -> Any:
    torch.manual_seed(0)
    model = timm.create_model(EMBEDDED_MODEL, num_classes=0)
    if trained:
        model.load_state_dict(load_file(embedded_checkpoint()), strict=True)
    return model.eval()


@torch.inference_mode()
def mean_tokens(model: Any, birds: ToyBirds) -> Tensor:
    """Return the mean patch token of every picture, (n, 64)."""
    pictures = torch.from_numpy(np.stack([np.asarray(birds.image(i)) for i in range(len(birds))]))
    x = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.cat([model.forward_features(part)[:, model.num_prefix_tokens :].mean(1) for part in x.split(100)])


def ridge_accuracy(G: Tensor, birds: ToyBirds) -> float:
    """Return the test accuracy of ridge on standardised embeddings with a fixed small penalty."""
    train, test = split_indices(birds, "train"), split_indices(birds, "test")
    G = G.double()
    G = (G - G[train].mean(0)) / G[train].std(0)
    labels = torch.tensor([record.label for record in birds.records])
    Y = torch.nn.functional.one_hot(labels).double()[train]
    W_star = torch.linalg.solve(G[train].T @ G[train] + torch.eye(G.shape[1]).double(), G[train].T @ (Y - Y.mean(0)))
    return float(((G[test] @ W_star).argmax(1) == labels[test]).double().mean())


def test_is_exactly_the_bare_model() -> None:
    state = load_file(embedded_checkpoint())
    model = timm.create_model(EMBEDDED_MODEL, num_classes=0)
    keys = model.load_state_dict(state, strict=True)
    assert not keys.missing_keys
    assert not keys.unexpected_keys
    assert all(torch.isfinite(value).all() for value in state.values())
    assert embedded_checkpoint().stat().st_size <= 2_000_000


def test_was_trained_to_the_end_on_the_training_species() -> None:
    with safe_open(embedded_checkpoint(), "pt") as file:
        facts = file.metadata()
    species = json.dumps([one.variants for one in training_species()]).encode()
    assert facts["species_sha256"] == hashlib.sha256(species).hexdigest()
    assert facts["model"] == EMBEDDED_MODEL
    assert facts["step"] == facts["steps"]


def test_sees_what_the_untrained_model_does_not() -> None:
    birds = ToyBirds(n_train_per_class=12, n_test_per_class=6, n_species=12)
    trained, untrained = (ridge_accuracy(mean_tokens(backbone(which), birds), birds) for which in (True, False))
    assert trained >= untrained + 0.3


def test_stays_sensitive_to_every_part() -> None:
    # Removing a part moves the mean token more than removing a distractor does.
    birds = ToyBirds(n_train_per_class=2, n_test_per_class=0, n_species=8)
    model = backbone(True)
    moved: dict[str, list[float]] = {}
    for index, record in enumerate(birds.records):
        names = [*record.parts, "object 0"]
        pictures = [birds.image(index), *(birds.rendered(index, (name,)).image for name in names)]
        x = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.inference_mode():
            g = model.forward_features(x)[:, model.num_prefix_tokens :].mean(1)
        for name, distance in zip(names, (g[1:] - g[0]).norm(dim=1).tolist(), strict=True):
            moved.setdefault(name, []).append(distance)
    median = {name: float(np.median(values)) for name, values in moved.items()}
    distractor = median.pop("object 0")
    assert min(median.values()) > distractor, (median, distractor)
