"""Train the embedded backbone: timm's ``test_vit`` on toy birds of species that the demo never shows.

This is the only use of gradient descent in the project: only the toy backbone was ever trained, on species the demo
never shows (each at least two parts away from every species of the demo). What is kept is the bare backbone. The heads
below are thrown away, and the demo's classifier is CARROT's closed-form ridge head.

The backbone serves two kinds of region: the patches of a whole picture, and tiles, boxes that are cut out, enlarged to
the whole input and seen alone. So most of what it is shown is a random box of a picture (``random_box``), the rest are
whole pictures. The heads ask of each token what can be seen where that token stands for: of a patch, what is in it; of
the class token and of the mean patch token, which variants of which parts are in the box. From the class token the
absence of a part is an answer too, and its mean square is drawn towards the number of parts: a tile of nothing but
background must say so, and the norm of a tile's feature is what the readout |h|^p weighs it by.

Pictures are rendered once into a temporary folder (about 5 GB); batches depend on the seed and the step alone and a
checkpoint is written every ``--save-every`` steps, so a killed run goes on where it was, on the same sequence::

    python scripts/train_toy_backbone.py --steps 3600

``--start`` goes on from a trained backbone, with fresh heads. So the embedded weights were made, of those before them,
which had seen whole pictures only (3,600 steps) and lie in tests/fixtures/model_v1 as backbone.safetensors::

    python scripts/train_toy_backbone.py --start BEFORE --steps 2000 --warm-up 100 --lr 1e-3
"""

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from carrot.data.toy.rendering import render
from carrot.data.toy.scene import SIZE, sample_scene
from carrot.data.toy.species import PARTS, VARIANTS, training_species

MODEL = "test_vit"
GRID, PATCH = 10, 16
N_VARIANTS = [len(VARIANTS[part]) for part in PARTS]
CONTENT = ("body", *PARTS, "watermark", "objects")  # what a patch may hold: the values of a stored part map, from 1
LABELS = 3 + sum(N_VARIANTS)  # the same, with every variant apart
ABSENT = 255
VISIBLE = 12  # pixels of what the backbone is shown that make a thing worth naming, in a patch and in the whole of it
WHOLE = 0.3  # the share of whole pictures
SMALLEST = 0.1  # area of the smallest box, as a share of the picture's; a tile of a 4 x 4 grid with overlap has 0.16
HELD_OUT = 1000


def draw(index: int, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return a picture, its parts' variants (7,), and what is at each of its pixels, as 1 + its index in CONTENT."""
    rng = random.Random(f"carrot toy training picture {seed}/{index}")
    species = rng.choice(SPECIES)
    scene = sample_scene(species, f"training {seed}/{index}", watermark=rng.random() < 0.1)
    without = rng.sample(PARTS, rng.choice((0, 0, 0, 0, 1, 2)))  # pictures without a part are part of the demo's life
    rendered = render(scene, without)
    variants = [ABSENT if part in without else v for part, v in zip(PARTS, species.variants, strict=True)]
    parts = np.minimum(rendered.parts, len(CONTENT))  # the scene's own numbers, with one for all objects
    return np.asarray(rendered.image), np.array(variants, np.uint8), parts


SPECIES = training_species()


def render_chunk(job: tuple[Path, int, int, int]) -> int:
    folder, start, stop, seed = job
    pictures, variants, parts = open_arrays(folder, "r+")
    for index in range(start, stop):
        pictures[index], variants[index], parts[index] = draw(index, seed)
    return stop - start


def open_arrays(folder: Path, mode: str) -> list[np.memmap]:
    return [np.lib.format.open_memmap(folder / f"{name}.npy", mode=mode) for name in ("pictures", "variants", "parts")]


def render_all(folder: Path, n: int, seed: int, workers: int) -> None:
    done = folder / "rendered.json"
    facts = {"n": n, "seed": seed}
    if done.exists() and json.loads(done.read_text()) == facts:
        return
    shapes = {"pictures": (n, SIZE, SIZE, 3), "variants": (n, len(PARTS)), "parts": (n, SIZE, SIZE)}
    for name, shape in shapes.items():
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape).flush()
    began = time.perf_counter()
    jobs = [(folder, start, min(start + 500, n), seed) for start in range(0, n, 500)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for count, _ in enumerate(pool.imap_unordered(render_chunk, jobs), 1):
            if count % 10 == 0:
                print(f"rendered {count}/{len(jobs)} chunks in {time.perf_counter() - began:.0f} s", flush=True)
    done.write_text(json.dumps(facts))


class WithHeads(nn.Module):
    """The backbone and the heads that are thrown away."""

    def __init__(self) -> None:
        super().__init__()
        backbone: Any = timm.create_model(MODEL, num_classes=0)
        self.backbone = backbone
        width: int = backbone.num_features
        self.pooled, self.dense = nn.Linear(width, sum(N_VARIANTS)), nn.Linear(width, LABELS)
        self.summary = nn.Linear(width, sum(N_VARIANTS) + len(PARTS))
        nn.init.constant_(self.dense.bias, -3.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the variants' logits from the mean patch token and from the class token, each patch, and mean h^2."""
        tokens = self.backbone.forward_features(x)
        patches = tokens[:, self.backbone.num_prefix_tokens :]
        h = tokens[:, 0]
        return self.pooled(patches.mean(1)), self.summary(h), self.dense(patches), h.square().mean(1)


def part_loss(logits: Tensor, variants: Tensor, n_classes: list[int]) -> Tensor:
    """Return the mean cross entropy over the parts that have an answer."""
    losses = [
        F.cross_entropy(part, variants[:, k], ignore_index=ABSENT)
        for k, part in enumerate(logits.split(n_classes, dim=1))
    ]
    return torch.stack(losses).mean()


def or_absent(variants: Tensor) -> Tensor:
    """Return the variants with the absence of a part as one more class, the last."""
    return torch.where(variants == ABSENT, torch.tensor(N_VARIANTS), variants)


def dense_targets(counts: Tensor, variants: Tensor) -> Tensor:
    """Return which of the LABELS are visible in each patch, (B, 100, LABELS) of 0 and 1."""
    seen = (counts >= VISIBLE).float()
    columns = [seen[..., :1], seen[..., -2:]]
    for k, n in enumerate(N_VARIANTS):
        one_hot = F.one_hot(variants[:, k].clamp(max=n), n + 1)[:, None, :n]
        columns.append(seen[..., k + 1, None] * one_hot)
    return torch.cat(columns, -1)


def random_box(rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return (x0, y0, x1, y1) in whole pixels: every order of magnitude of the area alike, sides within 3 : 4."""
    side, aspect = SIZE * SMALLEST ** (rng.random() / 2), (4 / 3) ** (rng.uniform(-1, 1) / 2)
    width, height = (min(SIZE, round(side * factor)) for factor in (aspect, 1 / aspect))
    x0, y0 = (int(rng.integers(SIZE - length + 1)) for length in (width, height))
    return x0, y0, x0 + width, y0 + height


def batch_at(arrays: list[np.memmap], chosen: npt.NDArray[np.int64], rng: np.random.Generator | None) -> list[Tensor]:
    """Return normalised pictures, the variants of their visible parts, and how many pixels of what are in each patch.

    With ``rng``, most are cut to a box, half are mirrored, and all are tinted a little.
    """
    pictures, variants, parts = (array[chosen] for array in arrays)
    if rng is not None:
        for i in range(len(chosen)):
            if rng.random() >= WHOLE:
                box = random_box(rng)  # cut, then enlarged: no pixel outside of the box has a say
                pictures[i] = Image.fromarray(pictures[i]).crop(box).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
                parts[i] = Image.fromarray(parts[i]).crop(box).resize((SIZE, SIZE), Image.Resampling.NEAREST)
            if rng.random() < 0.5:
                pictures[i], parts[i] = pictures[i, :, ::-1].copy(), parts[i, :, ::-1].copy()
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1  # mean and std of test_vit: 0.5
    if rng is not None:
        gain = torch.from_numpy(rng.uniform(0.9, 1.1, (len(chosen), 3, 1, 1)).astype(np.float32))
        shift = torch.from_numpy(rng.uniform(-0.1, 0.1, (len(chosen), 3, 1, 1)).astype(np.float32))
        x = (x * gain + shift).clamp(-1, 1)
    patches = torch.from_numpy(parts).view(-1, GRID, PATCH, GRID, PATCH).transpose(2, 3).reshape(len(x), GRID**2, -1)
    counts = torch.stack([(patches == value).sum(-1) for value in range(1, len(CONTENT) + 1)], -1)
    seen = counts[..., 1 : 1 + len(PARTS)].sum(1) >= VISIBLE
    return [x, torch.where(seen, torch.from_numpy(variants).long(), ABSENT), counts]


def flat_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        state.update({f"optimizer.{index}.{slot}": value for slot, value in slots.items()})
    return state


def restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    state = load_file(path)
    model.load_state_dict({name[6:]: value for name, value in state.items() if name.startswith("model.")})
    whole = optimizer.state_dict()
    for name, value in state.items():
        if name.startswith("optimizer."):
            _, index, slot = name.split(".")
            whole["state"].setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict(whole)
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


def save_atomically(state: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    save_file({name: value.contiguous() for name, value in state.items()}, path.with_suffix(".tmp"), metadata)
    path.with_suffix(".tmp").chmod(0o644)  # safetensors writes for the owner alone
    os.replace(path.with_suffix(".tmp"), path)


def started_from(path: Path | None) -> str:
    """Return what tells which weights these were, and how long they had been trained."""
    if path is None:
        return "random weights"
    with safe_open(path, "pt") as file:
        before = file.metadata()
    return f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}: {before['step']} steps of {before['batch']}"


def export(model: WithHeads, path: Path, arguments: argparse.Namespace, step: int) -> None:
    """Write the bare backbone with timm's parameter names; the facts of its training go into the metadata."""
    species = json.dumps([one.variants for one in SPECIES]).encode()
    facts = {
        "model": MODEL,
        "trained_on": f"{len(SPECIES)} toy species, each >= 2 parts from every demo species",
        "species_sha256": hashlib.sha256(species).hexdigest(),
        "pictures": arguments.pictures,
        "seed": arguments.seed,
        "step": step,
        "steps": arguments.steps,
        "batch": arguments.batch,
        "start": started_from(arguments.start),
        "timm": timm.__version__,
        "torch": torch.__version__,
        "script": "scripts/train_toy_backbone.py",
    }
    save_atomically(model.backbone.state_dict(), path, {name: str(value) for name, value in facts.items()})


@torch.inference_mode()
def held_out_accuracy(model: WithHeads, arrays: list[np.memmap]) -> list[float]:
    """Return for each part how often its variant is named rightly, on pictures kept out of training."""
    model.eval()
    rights, n = torch.zeros(len(PARTS)), torch.zeros(len(PARTS))
    for chosen in np.arange(HELD_OUT).reshape(-1, 100):
        x, variants, _ = batch_at(arrays, chosen, None)
        for k, logits in enumerate(model(x)[0].split(N_VARIANTS, 1)):
            rights[k] += (logits.argmax(1) == variants[:, k]).sum()
            n[k] += (variants[:, k] != ABSENT).sum()
    model.train()
    return (rights / n).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("carrot/data/toy/backbone.safetensors"))
    parser.add_argument("--start", type=Path, help="Weights of the backbone to begin with.")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "carrot-toy-backbone")
    parser.add_argument("--pictures", type=int, default=48_000)
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--warm-up", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--save-every", type=int, default=250)
    arguments = parser.parse_args()

    arguments.work.mkdir(parents=True, exist_ok=True)
    render_all(arguments.work, arguments.pictures, arguments.seed, arguments.workers)
    arrays = open_arrays(arguments.work, "r")
    torch.set_num_threads(arguments.workers)
    torch.manual_seed(arguments.seed)
    model = WithHeads()
    if arguments.start is not None:
        model.backbone.load_state_dict(load_file(arguments.start))
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}],
        lr=arguments.lr, betas=(0.9, 0.98), fused=True,
    )  # fmt: skip
    last = arguments.work / "last.safetensors"
    first = restore(last, model, optimizer) if last.exists() else 0
    began, total = time.perf_counter(), 0.0
    for step in range(first, arguments.steps):
        done = max(0.0, (step - arguments.warm_up) / (arguments.steps - arguments.warm_up))
        lr = (
            arguments.lr * min(1.0, (step + 1) / arguments.warm_up) * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
        )
        for group in optimizer.param_groups:
            group["lr"] = lr
        rng = np.random.default_rng([arguments.seed, step])
        x, variants, counts = batch_at(arrays, rng.integers(HELD_OUT, arguments.pictures, arguments.batch), rng)
        pooled, summary, dense, size = model(x)
        loss = part_loss(pooled, variants, N_VARIANTS)
        loss = loss + part_loss(summary, or_absent(variants), [n + 1 for n in N_VARIANTS])
        loss = loss + 0.3 * F.smooth_l1_loss(size, (variants != ABSENT).sum(1).float())
        loss = loss + 10 * F.binary_cross_entropy_with_logits(dense, dense_targets(counts, variants))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} loss {total / 50:.3f} {time.perf_counter() - began:.0f} s", flush=True)
            total = 0.0
        if (step + 1) % arguments.save_every == 0 or step + 1 == arguments.steps:
            save_atomically(flat_state(model, optimizer), last, {"step": str(step + 1)})
            export(model, arguments.out, arguments, step + 1)
            right = held_out_accuracy(model, arrays)
            print("held out:", *(f"{part} {a:.3f}" for part, a in zip(PARTS, right, strict=True)), flush=True)


if __name__ == "__main__":
    main()
