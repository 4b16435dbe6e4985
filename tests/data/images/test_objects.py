"""Images of one object are found by names where the images bear them out, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from windvane.data.images.objects import find_object_groups, object_key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("00007_00012_00003.ppm", "00007_00012"),
        ("a/b/patient7-left.png", "patient7"),
        ("12 (2).jpg", "12"),
        ("rose_12.jpg", ""),
        ("17.png", ""),
        ("image 3", ""),
        ("", ""),
    ],
)
def test_what_names_of_one_object_share(name: str, key: str) -> None:
    assert object_key(name) == key


def tracks(*, alike: bool, n_tracks: int = 20, frames: int = 5) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, classes and features of frames of tracks; those of a track are near each other if they are `alike`."""
    rng = np.random.default_rng(0)
    track = np.arange(n_tracks).repeat(frames)
    middle = rng.normal(size=(n_tracks, 6))[track if alike else rng.integers(0, n_tracks, len(track))]
    names = [f"t{one}/{one:03d}_{i % frames}.png" for i, one in enumerate(track)]
    return names, track % 2, middle + rng.normal(0, 0.1, middle.shape)


def test_frames_of_tracks_belong_together() -> None:
    names, target, features = tracks(alike=True)
    found = find_object_groups(names, target, features)
    assert found is not None
    assert found.n_groups == 20 and found.share > 0.9 and found.chance == pytest.approx(4 / 49)
    assert found.groups.tolist() == (np.arange(100) // 5).tolist()
    assert found.describe().startswith("Names such as t0/000_0.png and t0/000_1.png say")


def test_names_alone_prove_nothing() -> None:
    assert find_object_groups(*tracks(alike=False)) is None


def test_the_neighbours_are_those_of_a_slow_loop() -> None:
    names, target, features = tracks(alike=True, n_tracks=12, frames=3)
    features = features + np.random.default_rng(1).normal(0, 0.6, features.shape)
    found = find_object_groups(names, target, features)
    assert found is not None
    unit = features - features.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    hits = []
    for i in range(len(names)):
        others = [j for j in range(len(names)) if j != i and target[j] == target[i]]
        nearest = max(others, key=lambda j: float(unit[i] @ unit[j]))
        hits.append(nearest // 3 == i // 3)
    assert found.share == pytest.approx(np.mean(hits))


def test_classes_days_and_numbers_are_no_objects() -> None:
    _, target, features = tracks(alike=True)
    for names in (
        [f"class{code}_{i}.png" for i, code in enumerate(target)],  # as many groups as classes
        [f"{i}.png" for i in range(100)],
        [f"{i}_x.png" for i in range(100)],  # each alone
        [f"2023_{i}.png" for i in range(100)],  # one group
    ):
        assert find_object_groups(names, target, features) is None


def test_classes_that_count_from_the_start_have_separate_objects() -> None:
    names, _, features = tracks(alike=True)
    half = len(names) // 2
    again = [f"a/{name.split('/')[1]}" for name in names[:half]] + [f"b/{name.split('/')[1]}" for name in names[:half]]
    target = np.arange(100) // half
    found = find_object_groups(again, target, features)
    assert found is not None and found.n_groups == 20
    assert not set(found.groups[:half]) & set(found.groups[half:])
