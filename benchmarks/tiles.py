"""What do R tiles cost beside R single passes of the backbone? Decoding, cutting and resizing included.

Usage: python -m benchmarks.tiles [--regions tiles:3 tiles:3,4] [--backbone NAME] [--checkpoint FILE] [--data DATA]

Ours: a picture's file or rendering -> tiles -> batched passes -> features, as ``Carrot`` makes them for a data set, the
next pictures cut while these are in the backbone. Peer: timm's own loop over tiles that lie ready as model inputs, one
pass each, nothing decoded. Checked first: the features are timm's own to rounding. Without --checkpoint the weights are
random: they cost the same.
"""

import argparse

import torch
from torch import Tensor

from benchmarks.harness import alternate, write
from carrot import TimmViTPatchBackbone
from carrot.data import open_dataset
from carrot.data.loading import batches
from carrot.data.records import Subset
from carrot.embedding.view import SHARD, TileView
from carrot.tiling import Tiling

ROUNDS, TOLERANCE = 5, 1e-4  # of features, relative to their size: batches round otherwise than single passes


def ours(view: TileView, data: Subset) -> Tensor:
    """Return the features of all pictures, (n, R, D)."""
    n = len(data.records)
    lists = [list(range(i, min(i + SHARD, n))) for i in range(0, n, SHARD)]
    return torch.cat([view.encode(batch.x).H for batch in batches(data, view.transform, lists)])


@torch.inference_mode()
def single_passes(backbone: TimmViTPatchBackbone, x: Tensor) -> Tensor:
    """Return timm's class token, or its pooled feature, of each input, one pass each."""
    model = backbone.bare_model
    led = backbone.has_class_token
    found = [model.forward_features(one[None]) for one in x.to(backbone.device)]
    K = backbone.num_prefix_tokens
    return torch.cat([f[:, 0] if led else f[:, K:].mean(dim=1) for f in found]).cpu()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--regions", nargs="+", default=["tiles:3", "tiles:3,4"])
    p.add_argument("--backbone", default="vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    p.add_argument("--checkpoint")
    p.add_argument("--data", default="toy")
    p.add_argument("--pictures", type=int, default=SHARD)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = p.parse_args()
    backbone = TimmViTPatchBackbone(a.backbone, pretrained=False, checkpoint=a.checkpoint, device=a.device)
    whole = open_dataset(a.data)
    data = Subset(whole, range(min(a.pictures, len(whole.records))))
    rows: list[dict[str, object]] = []
    for spec in a.regions:
        view = TileView(backbone, torch.float32, Tiling.from_spec(spec))
        n, R = len(data.records), len(view.tiling)
        x = torch.cat([view.transform(data.image(i)) for i in range(n)])
        expected, found = single_passes(backbone, x), ours(view, data).flatten(0, 1)
        apart = float((found - expected).abs().max() / expected.abs().max())
        if apart > TOLERANCE:
            raise SystemExit(f"{spec}: features differ from timm's own by {apart:.1e} of their size")
        runs = {"ours": lambda v=view: ours(v, data), "passes": lambda x=x: single_passes(backbone, x)}
        times = alternate(runs, ROUNDS)
        ratio = times["ours"]["min"] / times["passes"]["min"]
        row = {"regions": spec, "tiles": R, "apart": apart, "ratio": ratio}
        rows.append(row | {f"{name}_ms_a_picture": 1e3 * t["median"] / n for name, t in times.items()})
        passes = 1e3 * times["passes"]["median"] / n
        print(f"{spec}: {R} tiles, {ratio:.3f} of {R} single passes ({passes:.0f} ms a picture)")
    print(
        write("tiles" + "-cuda" * (a.device != "cpu"), rows, backbone=a.backbone, data=whole.name, pictures=a.pictures)
    )


if __name__ == "__main__":
    main()
