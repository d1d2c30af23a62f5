"""The geometry against timm's real transforms: pictures whose pixels are their own coordinates."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform

from carrot._vit.geometry import CropMode, Geometry

PADDING = -1e3
MODES: tuple[CropMode, ...] = ("center", "squash", "border")


def to_model(geometry, points):
    """Return where (x, y) points of the original lie in the model's input: equation (1)."""
    original, resized, offset = (
        torch.tensor(s[::-1], dtype=torch.float64)
        for s in (geometry.original_hw, geometry.resized_hw, geometry.offset_hw)
    )
    return points.double() * resized / original - offset


def patch_of(geometry, points, grid_hw):
    """Return the row-major index of the patch that each point of the original lands in, -1 where it lands in none."""
    (gh, gw), (input_h, input_w), (img_h, img_w) = grid_hw, geometry.input_hw, geometry.original_hw
    (x, y), (px, py) = to_model(geometry, points).unbind(-1), points.unbind(-1)
    column, row = torch.floor(x * gw / input_w).long(), torch.floor(y * gh / input_h).long()
    seen = (row >= 0) & (row < gh) & (column >= 0) & (column < gw)
    seen &= (px >= 0) & (px < img_w) & (py >= 0) & (py < img_h)
    return torch.where(seen, row * gw + column, -1)


def is_seen(geometry, grid_hw):
    """Return which patches show any of the picture: those whose box is not empty."""
    x0, y0, x1, y1 = geometry.patch_boxes(grid_hw).unbind(-1)
    return (x1 > x0) & (y1 > y0)


def through_the_real_transform(original_hw, input_hw, crop_pct, crop_mode):
    """Return the (2, img_h, img_w) original (x, y) coordinate of each model pixel, NaN where it is padding."""
    transform = create_transform(
        (3, *input_hw), crop_pct=crop_pct, crop_mode=crop_mode, interpolation="bilinear", normalize=False
    )
    geometric = [
        step for step in transform.transforms if "Resize" in type(step).__name__ or "Crop" in type(step).__name__
    ]
    assert len(geometric) == 2
    y, x = np.meshgrid(np.arange(original_hw[0]) + 0.5, np.arange(original_hw[1]) + 0.5, indexing="ij")
    planes = []
    for coordinate in (x, y):
        picture = Image.fromarray((coordinate - PADDING).astype(np.float32))  # far from 0, which is what padding gives
        for step in geometric:
            if hasattr(step, "fill"):
                step.fill = 0
            picture = step(picture)
        plane = np.asarray(picture, dtype=np.float64) + PADDING
        planes.append(np.where(plane < PADDING / 2, np.nan, plane))
    return torch.from_numpy(np.stack(planes))


def worst_distance(geometry, planes, grid_hw):
    """Largest |mean coordinate in a patch - the predicted centre| in model pixels: (inner patches, all patches)."""
    gh, gw = grid_hw
    img_h, img_w = geometry.input_hw
    patch_h, patch_w = img_h // gh, img_w // gw
    means = planes.reshape(2, gh, patch_h, gw, patch_w).mean(dim=(2, 4))  # NaN for patches with padding
    y, x = torch.meshgrid(torch.arange(gh) + 0.5, torch.arange(gw) + 0.5, indexing="ij")
    centres = geometry.to_original(torch.stack([x * patch_w, y * patch_h], dim=-1))
    scale = torch.tensor(geometry.resized_hw[::-1]) / torch.tensor(geometry.original_hw[::-1])
    error = ((means.permute(1, 2, 0) - centres) * scale).abs().amax(-1)
    whole = error[~error.isnan()]
    inner = error[1:-1, 1:-1]
    inner = inner[~inner.isnan()]
    return (inner.max().item() if len(inner) else 0.0), (whole.max().item() if len(whole) else 0.0)


def random_cases(n):
    rnd = random.Random(0)
    for _ in range(n):
        patch, grid_hw = rnd.choice([14, 16]), rnd.choice([(14, 14), (16, 16), (12, 20), (24, 10)])
        input_hw = (grid_hw[0] * patch, grid_hw[1] * patch)
        original_hw = (rnd.randint(60, 700), rnd.randint(60, 700))
        yield original_hw, input_hw, rnd.choice([0.875, 0.9, 0.95, 0.96, 1.0, 1.15]), rnd.choice(MODES), grid_hw


def test_matches_the_real_transform():
    seen = set()
    for original_hw, input_hw, crop_pct, crop_mode, grid_hw in random_cases(60):
        geometry = Geometry.of(original_hw, input_hw, crop_pct, crop_mode)
        planes = through_the_real_transform(original_hw, input_hw, crop_pct, crop_mode)
        inner, everywhere = worst_distance(geometry, planes, grid_hw)
        # the filter's ripple, 0.1 px at a pixel, averages to 0.011 over a patch; at the border its window is clamped
        assert inner < 0.02, (original_hw, input_hw, crop_pct, crop_mode)
        assert everywhere < 0.2, (original_hw, input_hw, crop_pct, crop_mode)
        seen.add(crop_mode)
    assert seen == set(MODES)


def test_the_real_transform_rejects_mutants():
    original_hw, input_hw = (301, 517), (224, 224)
    geometry = Geometry.of(original_hw, input_hw, 0.9)
    planes = through_the_real_transform(original_hw, input_hw, 0.9, "center")
    resized_h, resized_w = geometry.resized_hw
    mutants = [
        replace(geometry, offset_hw=(geometry.offset_hw[0], geometry.offset_hw[1] + 1)),
        replace(geometry, offset_hw=geometry.offset_hw[::-1]),
        replace(geometry, offset_hw=(0, 0)),
        replace(geometry, resized_hw=(resized_h, resized_w + 4)),
        replace(geometry, original_hw=original_hw[::-1]),
        Geometry.of(original_hw, input_hw, 0.875),
        Geometry.of(original_hw, input_hw, 0.9, "squash"),
    ]
    for mutant in mutants:
        assert worst_distance(mutant, planes, (14, 14))[0] > 0.2, mutant


def test_padding_is_where_the_real_transform_pads():
    for original_hw, input_hw, crop_pct, crop_mode, grid_hw in random_cases(60):
        geometry = Geometry.of(original_hw, input_hw, crop_pct, crop_mode)
        planes = through_the_real_transform(original_hw, input_hw, crop_pct, crop_mode)
        gh, gw = grid_hw
        patches = planes[0].reshape(gh, input_hw[0] // gh, gw, input_hw[1] // gw).permute(0, 2, 1, 3).flatten(2)
        assert torch.equal(is_seen(geometry, grid_hw), ~patches.isnan().all(-1).flatten())
    bordered = Geometry.of((100, 400), (224, 224), 1.0, "border")
    assert is_seen(bordered, (14, 14)).reshape(14, 14).any(1).tolist() == [False] * 5 + [True] * 4 + [False] * 5


sizes = st.tuples(st.integers(20, 900), st.integers(20, 900))
geometries = st.builds(
    Geometry.of, sizes, st.sampled_from([(224, 224), (96, 160), (518, 518)]), st.sampled_from([0.875, 0.9, 1.0, 1.15]),
    st.sampled_from(MODES),
)  # fmt: skip


@settings(max_examples=60)
@given(geometries)
def test_the_two_ways_are_inverse(geometry):
    points = torch.rand(50, 2, dtype=torch.float64) * 1000
    assert torch.allclose(geometry.to_original(to_model(geometry, points)), points, rtol=0, atol=1e-9)
    assert torch.allclose(to_model(geometry, geometry.to_original(points)), points, rtol=0, atol=1e-9)


@settings(max_examples=60)
@given(geometries, st.integers(0, 2**20))
def test_points_and_boxes_agree(geometry, seed):
    divisors = {(224, 224): (14, 7), (96, 160): (6, 10), (518, 518): (37, 37)}
    grid_hw = divisors[geometry.input_hw]
    boxes = geometry.patch_boxes(grid_hw)
    img_h, img_w = geometry.original_hw
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(200, 2, dtype=torch.float64, generator=generator) * torch.tensor([img_w, img_h]) * 1.2 - 5.0
    index = patch_of(geometry, points, grid_hw)
    held = (points[:, None] >= boxes[None, :, :2]).all(-1) & (points[:, None] < boxes[None, :, 2:]).all(-1)
    expected = torch.where(held.any(1), held.int().argmax(1), -1)
    assert torch.equal(index, expected)
    # the boxes tile what is seen: their areas sum to the coverage
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    assert areas.sum().item() / (img_h * img_w) == pytest.approx(geometry.coverage, rel=1e-12)


def test_a_worked_example():
    geometry = Geometry.of((300, 400), (224, 224), 0.9)  # short side 300 -> 248, long side 400 -> int(330.67)
    assert geometry == Geometry((300, 400), (248, 330), (224, 224), (12, 53))
    assert geometry.coverage == pytest.approx((224 / 248) * (224 / 330))  # .61: what a 3:4 photo loses
    box = geometry.patch_boxes((14, 14))[1 * 14 + 2]  # row 1, column 2: row-major, x first
    expected = [(32 + 53) * 400 / 330, (16 + 12) * 300 / 248, (48 + 53) * 400 / 330, (32 + 12) * 300 / 248]
    assert box.tolist() == pytest.approx(expected, rel=1e-15)
    assert box[0] < 110.0 < box[2]
    assert box[1] < 40.0 < box[3]


def test_whole_picture_modes_cover_everything():
    for mode in ("squash", "border"):
        geometry = Geometry.of((300, 400), (224, 224), 1.0, mode)
        assert geometry.coverage == pytest.approx(1.0)
        boxes = geometry.patch_boxes((14, 14))
        assert boxes.amin(dim=0)[:2].tolist() == pytest.approx([0.0, 0.0])
        assert boxes.amax(dim=0)[2:].tolist() == pytest.approx([400.0, 300.0])


def test_what_is_refused():
    with pytest.raises(ValueError, match="must be positive"):
        Geometry.of((0, 10), (224, 224), 0.9)
    with pytest.raises(ValueError, match="must be positive"):
        Geometry.of((10, 10), (224, 224), 0.0)
    with pytest.raises(ValueError, match="too long and narrow"):
        Geometry.of((30_000, 10), (224, 224), 1.0, "border")
    geometry = Geometry.of((300, 400), (224, 224), 0.9)
    for grid_hw in ((15, 14), (14, 0)):
        with pytest.raises(ValueError, match="must tile"):
            geometry.patch_boxes(grid_hw)
