"""Figures and lines of text: they hold what they were given, and nothing is lost off the edge."""

import subprocess
import sys

import numpy as np
import torch
from PIL import Image

from carrot._ridge.logit import Logit
from carrot.evaluation import Accuracy
from carrot.explanation.parts import take_apart
from carrot.report import Pair, Panel, accuracy_line, check_line, explanation_figure, explanation_lines
from tests.claims.world import World
from tests.unit.test_parts import trace


def panel(title: str) -> Panel:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    boxes = torch.tensor([[x * 20.0, y * 20.0, x * 20.0 + 20, y * 20.0 + 20] for y in range(3) for x in range(4)])
    return Panel(image, boxes, (3, 4), title)


def test_the_figure_shows_maps_pictures_and_pairs() -> None:
    values = torch.linspace(-1, 2, 12)
    maps = {"by token": values, "by node": values.flip(0)}
    pairs = [Pair(1, 5, 0.25), Pair(2, 6, 0.125)]
    figure = explanation_figure(panel("test"), maps, [panel("first"), panel("second")], pairs, "a heading " * 20)
    shown = {a.get_title(): a for a in figure.axes}
    assert {"test", "by token", "by node", "first", "second", "region to region"} <= set(shown)
    overlay = shown["by token"].collections[0]
    np.testing.assert_allclose(overlay.get_array(), values.reshape(3, 4).numpy())
    assert overlay.get_clim() == (-2.0, 2.0)  # symmetric: no contribution is white
    corners = overlay.get_coordinates()  # the boxes' own pixels
    np.testing.assert_array_equal(corners[0, :, 0], [0, 20, 40, 60, 80])
    np.testing.assert_array_equal(corners[:, 0, 1], [0, 20, 40, 60])
    rectangles = [p.get_xy() for p in shown["first"].patches]
    assert rectangles == [(20.0, 20.0), (40.0, 20.0)]  # regions 5 and 6
    assert len(figure.artists) == 2
    figure.canvas.draw()
    box = figure.get_suptitle() and figure._suptitle.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_regions_of_padding_take_no_room_in_a_map() -> None:
    test = panel("test")
    test.boxes[:, 1::2] = (test.boxes[:, 1::2] - 10).clamp(0, 30)  # rows of 10 and 20 pixels, and one of none
    figure = explanation_figure(test, {"by token": torch.ones(12)}, [], [], "")
    corners = figure.axes[1].collections[0].get_coordinates()
    np.testing.assert_array_equal(corners[:, 0, 1], [0, 10, 30, 30])
    figure.canvas.draw()


def test_without_pairs_there_is_no_panel_for_them() -> None:
    figure = explanation_figure(panel("test"), {"map": torch.ones(12)}, [panel("first")], [], "")
    assert {a.get_title() for a in figure.axes if a.get_title()} == {"test", "map", "first"}


def test_maps_of_zeros_and_no_training_pictures_are_drawn() -> None:
    explanation_figure(panel("test"), {"nothing": torch.zeros(12)}, [], [], "").canvas.draw()


def test_lines_carry_the_numbers() -> None:
    world = World()
    test = trace(world, -1)
    e = take_apart(test, Logit.predicted(world.head, test.g))
    lines = explanation_lines(e, [f"class {c}" for c in range(5)], [f"picture {i}" for i in range(60)], k=2)
    assert lines[0].startswith(f"says class {e.target}, logit {e.logit:.6f}")
    assert sum("residual" in line for line in lines) == len(e.sums)
    first = int(e.top_training(1))
    assert lines[-2].split()[:2] == ["picture", str(first)]
    assert f"{float(e.removal[first]):+.4f}" in lines[-2]
    assert check_line("x", 1.5, 1.0).endswith("residual +5.0e-01")
    assert "top-1 0.500  top-5 1.000  mean per class 0.250" in accuracy_line("x", Accuracy(0.5, 1.0, 0.25, 4), "note")


def test_drawing_is_loaded_only_where_something_is_drawn() -> None:
    script = "import sys, carrot.report; print([m for m in ('matplotlib', 'timm', 'scipy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
