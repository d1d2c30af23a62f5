"""The toy birds: the same bytes every time, removals that touch nothing else, species that the backbone never saw."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from carrot.data.records import ImageDataset, split_indices
from carrot.data.toy import (
    PARTS,
    SIZE,
    VARIANTS,
    Rendered,
    Scene,
    Species,
    ToyBirds,
    demo_species,
    part_map,
    render,
    sample_scene,
    training_species,
)

DIGEST = """
import hashlib
from carrot.data.toy import ToyBirds
birds = ToyBirds(2, 1, n_species=5, seed=3, wrong_labels=0.3, shortcut=1)
digest = hashlib.sha256(repr(birds.records).encode())
for index in range(len(birds.records)):
    rendered = birds.rendered(index)
    digest.update(rendered.image.tobytes() + rendered.parts.tobytes())
print(digest.hexdigest())
"""


def pixels(image: Image.Image) -> npt.NDArray[np.int16]:
    return np.asarray(image).astype(np.int16)


def changed(before: Rendered, after: Rendered) -> npt.NDArray[np.bool_]:
    return (pixels(before.image) != pixels(after.image)).any(-1)


def footprint(rendered: Rendered, name: str) -> npt.NDArray[np.bool_]:
    """The pixels with any sample of ``name``: the mask and a part of its antialiased border."""
    touched = np.equal(rendered.samples, rendered.names.index(name)).reshape(SIZE, 2, SIZE, 2)
    return np.any(touched, axis=(1, 3))


def differing_parts(one: Species, other: Species) -> list[str]:
    return [part for part, a, b in zip(PARTS, one.variants, other.variants, strict=True) if a != b]


def scenes(n: int = 6) -> list[Scene]:
    species = demo_species()
    return [sample_scene(species[(5 * k) % len(species)], f"test {k}", watermark=True) for k in range(n)]


class TestDeterminism:
    def test_same_bytes_in_two_fresh_processes(self) -> None:
        # Different hash seeds: nothing may depend on the order of a set.
        digests = [
            subprocess.run(
                [sys.executable, "-c", DIGEST], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
            ).stdout
            for seed in ("1", "2")
        ]
        assert digests[0] == digests[1]
        assert len(digests[0].strip()) == 64

    def test_two_instances_agree_and_another_seed_does_not(self) -> None:
        one, same, other = (ToyBirds(1, 1, n_species=3, seed=seed) for seed in (7, 7, 8))
        assert one.records == same.records
        for index in range(len(one)):
            assert one.image(index).tobytes() == same.image(index).tobytes()
            assert one.image(index).tobytes() != other.image(index).tobytes()

    def test_the_data_set_has_not_moved(self) -> None:
        # Pinned: the embedded backbone and every number in the docs belong to these scenes.
        birds = ToyBirds(1, 1)
        scenes_of_it = json.dumps([dataclasses.asdict(birds.scene(index)) for index in range(len(birds))])
        assert hashlib.sha256(scenes_of_it.encode()).hexdigest() == PINNED

    def test_train_and_test_pictures_all_differ(self) -> None:
        birds = ToyBirds(3, 3, n_species=4)
        assert len({birds.image(index).tobytes() for index in range(len(birds))}) == 24


class TestRemoval:
    @pytest.mark.parametrize("name", ["body", *PARTS, "watermark", "object 0", "object 1"])
    def test_changes_the_part_and_nothing_else(self, name: str) -> None:
        visible = 0
        for scene in scenes():
            before, after = render(scene), render(scene, (name,))
            mask, difference = before.mask(name), changed(before, after)
            assert not (difference & ~footprint(before, name)).any()
            assert not after.mask(name).any()
            np.testing.assert_array_equal(after.parts[~mask], before.parts[~mask])
            # The footprint is the mask and its antialiased border: no pixel without a sample of the part.
            assert footprint(before, name)[mask].all()
            # What the map calls the part is what was drawn: nearly all of it changes (colours may meet by chance).
            assert difference[mask].sum() >= 0.9 * mask.sum()
            visible += int(mask.sum() > 0)
        assert visible >= 4

    def test_nothing_left_out_changes_nothing(self) -> None:
        scene = scenes()[0]
        assert not changed(render(scene), render(scene, ())).any()

    def test_everything_left_out_is_background(self) -> None:
        scene = scenes()[0]
        empty = render(scene, ("body", *PARTS, "objects", "watermark"))
        assert not empty.parts.any()
        assert not changed(empty, render(dataclasses.replace(scene, objects=()), ("body", *PARTS, "watermark"))).any()

    def test_objects_by_index_by_name_and_all(self) -> None:
        scene = scenes()[1]
        n = len(scene.objects)
        every = render(scene, ("objects",)).image.tobytes()
        assert render(scene, tuple(range(n))).image.tobytes() == every
        assert render(scene, [f"object {k}" for k in range(n)]).image.tobytes() == every
        assert every != render(scene).image.tobytes()

    def test_part_map_alone_is_the_rendered_one(self) -> None:
        for scene in scenes():
            np.testing.assert_array_equal(part_map(scene, ("wing", 0)), render(scene, ("wing", 0)).parts)

    @pytest.mark.parametrize("without", [("nose",), ("background",), ("object 99",), (99,), (-1,)])
    def test_unknown_names_are_refused(self, without: tuple[str | int, ...]) -> None:
        with pytest.raises(ValueError, match="`without` must name things of the scene"):
            render(scenes()[0], without)

    def test_a_bare_string_is_refused(self) -> None:
        with pytest.raises(ValueError, match="must be a collection of names"):
            render(scenes()[0], "beak")

    def test_mask_of_an_unknown_name_is_refused(self) -> None:
        with pytest.raises(ValueError, match="`name` must be one of"):
            render(scenes()[0]).mask("nose")


class TestSpecies:
    def test_demo_and_training_species_are_disjoint(self) -> None:
        training = training_species()
        assert len({species.variants for species in training}) == len(training) == 2000
        nearest = min(len(differing_parts(mine, theirs)) for mine in demo_species() for theirs in training)
        assert nearest >= 2

    def test_every_variant_is_seen_in_training(self) -> None:
        seen = zip(*(species.variants for species in training_species()), strict=True)
        for part, variants in zip(PARTS, seen, strict=True):
            assert set(variants) == set(range(len(VARIANTS[part])))

    def test_demo_is_fine_grained(self) -> None:
        demo = demo_species()
        assert len(demo) == len({one.variants for one in demo}) == len({one.name for one in demo}) == 24
        for start in range(0, 24, 4):
            common, *members = demo[start : start + 4]
            assert [len(differing_parts(common, member)) for member in members] == [1, 1, 1]

    def test_species_of_one_scene_differ_only_where_their_parts_do(self) -> None:
        common, fork_tailed, *_ = demo_species()
        for seed in range(5):
            one, other = (render(sample_scene(species, seed)) for species in (common, fork_tailed))
            difference = changed(one, other)
            assert difference.any()
            assert not (difference & ~footprint(one, "tail") & ~footprint(other, "tail")).any()

    def test_negative_clutter_is_refused(self) -> None:
        with pytest.raises(ValueError, match="`clutter` must be >= 0"):
            sample_scene(demo_species()[0], 0, clutter=-1)

    def test_bad_species_are_refused(self) -> None:
        with pytest.raises(ValueError, match="one index for each of the 7 parts"):
            Species("short", (0, 1))
        with pytest.raises(ValueError, match="`variants` for beak"):
            Species("odd", (0, 0, 0, 0, 0, 9, 0))
        with pytest.raises(ValueError, match="`n` must be in 1"):
            training_species(0)


class TestDataSet:
    def test_record_contract(self) -> None:
        birds: ImageDataset = ToyBirds(3, 2, n_species=4)
        assert birds.name == "toy"
        assert len(birds.classes) == 4
        assert len({record.id for record in birds.records}) == len(birds.records) == 20
        assert birds.records[0].id == "toy/train/0000/0000"
        train, test = split_indices(birds, "train"), split_indices(birds, "test")
        assert [birds.records[i].label for i in train] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
        assert [birds.records[i].label for i in test] == [0, 0, 1, 1, 2, 2, 3, 3]
        assert birds.image(0).mode == "RGB"
        assert birds.image(0).size == (SIZE, SIZE)

    def test_part_points_lie_within_their_parts(self) -> None:
        birds = ToyBirds(2, 1, n_species=6)
        for index, record in enumerate(birds.records):
            rendered = birds.rendered(index)
            assert set(record.parts) == {part for part in PARTS if rendered.mask(part).sum() >= 8}
            for part, (x, y) in record.parts.items():
                rows, columns = np.nonzero(rendered.mask(part))
                assert columns.min() <= x <= columns.max() + 1
                assert rows.min() <= y <= rows.max() + 1

    def test_wrong_labels(self) -> None:
        clean, planted = ToyBirds(10, 4, n_species=8), ToyBirds(10, 4, n_species=8, wrong_labels=0.25)
        assert len(planted.wrong) == 20
        assert planted.true_labels == clean.true_labels == tuple(record.label for record in clean.records)
        differ = [i for i, (a, b) in enumerate(zip(clean.records, planted.records, strict=True)) if a.label != b.label]
        assert tuple(differ) == planted.wrong
        assert {planted.records[i].split for i in differ} == {"train"}
        assert all(0 <= planted.records[i].label < 8 for i in differ)
        assert all(clean.scene(i) == planted.scene(i) for i in range(len(clean)))

    def test_all_labels_wrong(self) -> None:
        assert len(ToyBirds(5, 1, n_species=2, wrong_labels=1.0).wrong) == 10

    def test_shortcut_stamps_training_pictures_of_one_species(self) -> None:
        clean, planted = ToyBirds(4, 3, n_species=3), ToyBirds(4, 3, n_species=3, shortcut=1, shortcut_fraction=0.5)
        assert [planted.records[i].id for i in planted.watermarked] == ["toy/train/0001/0000", "toy/train/0001/0001"]
        for index in range(len(clean)):
            rendered = planted.rendered(index)
            assert rendered.mask("watermark").any() == (index in planted.watermarked)
            assert not (changed(clean.rendered(index), rendered) & ~footprint(rendered, "watermark")).any()
        stamped = planted.watermarked[0]
        assert planted.rendered(stamped, ("watermark",)).image.tobytes() == clean.image(stamped).tobytes()

    def test_clutter_lies_over_the_same_picture(self) -> None:
        clean, cluttered = ToyBirds(2, 1, n_species=3, clutter=0), ToyBirds(2, 1, n_species=3, clutter=4)
        hidden = []
        for index in range(len(clean)):
            n = len(clean.scene(index).objects)
            assert cluttered.scene(index).objects[:n] == clean.scene(index).objects
            assert cluttered.rendered(index, range(n, n + 4)).image.tobytes() == clean.image(index).tobytes()
            bird = np.isin(clean.rendered(index).parts, range(1, 9))
            hidden.append(np.mean(cluttered.rendered(index).parts[bird] > cluttered.scene(index).names.index("eye")))
        assert 0.05 < np.mean(hidden) < 0.5  # birds are hidden in part: neither not at all nor for the most part

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("n_train_per_class", 0),
            ("n_test_per_class", -1),
            ("n_species", 0),
            ("n_species", 25),
            ("wrong_labels", 1.5),
            ("wrong_labels", -0.1),
            ("wrong_labels", float("nan")),
            ("shortcut", 20),
            ("shortcut", -1),
            ("shortcut_fraction", 2.0),
            ("clutter", -1),
        ],
    )
    def test_values_out_of_range_are_refused(self, argument: str, value: float) -> None:
        with pytest.raises(ValueError, match=f"`{argument}` must be"):
            ToyBirds(**{argument: value})  # type: ignore[arg-type]

    def test_index_out_of_range(self) -> None:
        birds = ToyBirds(1, 1, n_species=2)
        assert birds.image(-1).tobytes() == birds.image(3).tobytes()
        with pytest.raises(IndexError):
            birds.image(4)


PINNED = "bb2faa98a2a72af2a71ee60e16fe41754bef9dc4ff3f698a0d4be50b650d00d0"
