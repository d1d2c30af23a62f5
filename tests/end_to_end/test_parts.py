"""Part points go through the same resize and crop as the picture: where a point lands, the part is."""

import pytest
import torch
from PIL import Image

from carrot import TimmViTPatchBackbone
from carrot.data.toy import EMBEDDED_MODEL, ToyBirds
from tests.conftest import RealFiles
from tests.unit.test_geometry import patch_of

SIZES = [(160, 160), (240, 200), (333, 190)]


@pytest.mark.parametrize("crop", ["model", "squash", "border"])
@pytest.mark.parametrize("size", SIZES)
def test_a_part_is_where_its_point_lands(crop: str, size: tuple[int, int]) -> None:
    """The part's mask, stretched like the picture and sent through the same transform, is bright at the mapped point."""
    birds = ToyBirds(n_train_per_class=1, n_test_per_class=0, n_species=8)
    backbone = TimmViTPatchBackbone(EMBEDDED_MODEL, pretrained=False, crop=crop)
    geometry = backbone.geometry(size)
    checked = 0
    for index, record in enumerate(birds.records):
        rendered = birds.rendered(index)
        for name, (x, y) in record.parts.items():
            mask = torch.as_tensor(rendered.mask(name)).float()
            if mask[int(y), int(x)] == 0:  # a centre may lie beside a forked part
                continue
            point = torch.tensor([x * size[0] / 160, y * size[1] / 160])
            patch = int(patch_of(geometry, point, backbone.grid_hw))
            if patch < 0:
                continue  # cut off by the crop
            picture = Image.fromarray((255 * mask.numpy()).astype("uint8")).resize(size, Image.Resampling.BILINEAR)
            seen = backbone.transform(picture.convert("RGB"))[0]
            row, column = divmod(patch, backbone.grid_hw[1])
            block = seen.unfold(0, 16, 16).unfold(1, 16, 16)[row, column]
            assert float(block.max() - seen.min()) > 0.5 * float(seen.max() - seen.min()), (record.id, name)
            x0, y0, x1, y1 = geometry.patch_boxes(backbone.grid_hw)[patch].tolist()
            assert x0 <= float(point[0]) <= x1
            assert y0 <= float(point[1]) <= y1
            checked += 1
    assert checked > 20


@pytest.mark.usefixtures("as_user")  # half a million lines, each of whose shapes would be checked
def test_parts_of_real_birds_land_in_the_picture(real: RealFiles) -> None:
    """CUB's squashed crops under ViT's centre crop at 0.9: most points stay, all are inside their patch's box."""
    from carrot.data import Cub

    cub = Cub(real.data / "cub100")
    backbone = TimmViTPatchBackbone("vit_tiny_patch16_224.augreg_in21k_ft_in1k", pretrained=False)
    inside = outside = 0
    for index in range(0, len(cub.records), 500):
        size = cub.image(index).size
        boxes, points = backbone.pixel_boxes(size), torch.tensor(list(cub.records[index].parts.values()))
        patches = patch_of(backbone.geometry(size), points, backbone.grid_hw)
        for (x, y), patch in zip(points.tolist(), patches.tolist(), strict=True):
            if patch < 0:
                outside += 1
                continue
            x0, y0, x1, y1 = boxes[patch].tolist()
            assert x0 - 1e-3 <= x <= x1 + 1e-3
            assert y0 - 1e-3 <= y <= y1 + 1e-3
            inside += 1
    assert inside > 5 * outside > 0
