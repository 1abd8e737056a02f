"""Depth maps from files and procedural depth maps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.random import default_rng
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat
from skimage import data

from opera_env.degradations import degrade, find_depth, procedural_depth, read_depth
from opera_env.errors import SampleError
from tests.degradations import slow_reference as slow

SIZE = (40, 48)


def some_depth(height: int = 10, width: int = 12, seed: int = 0) -> NDArray[np.float64]:
    return default_rng(seed).uniform(0.5, 40, (height, width))


def assert_depth(depth: NDArray[np.float32], size: tuple[int, int] = SIZE) -> None:
    assert depth.shape == size
    assert depth.dtype == np.float32
    assert depth.min() >= 0 and depth.max() == 1


# ---- files -------------------------------------------------------------------------------------


def test_mat_of_a_quarter_is_enlarged_by_cubic_and_divided_by_its_maximum(tmp_path: Path) -> None:
    quarter = some_depth()
    savemat(tmp_path / "predict_depth.mat", {"data_obj": quarter})
    depth = read_depth(tmp_path / "predict_depth.mat", SIZE)
    assert_depth(depth)
    enlarged = np.maximum(slow.enlarge_cubic(quarter, SIZE), 0)
    np.testing.assert_allclose(depth, enlarged / enlarged.max(), atol=2e-3)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, np.int32, np.uint16])
def test_npy(tmp_path: Path, dtype: type) -> None:
    full = some_depth(*SIZE).astype(dtype)
    np.save(tmp_path / "d.npy", full)
    depth = read_depth(tmp_path / "d.npy", SIZE)
    assert_depth(depth)
    np.testing.assert_allclose(depth, full / full.max(), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png(tmp_path: Path, dtype: type) -> None:
    full = (some_depth(*SIZE) * (np.iinfo(dtype).max / 50)).astype(dtype)
    Image.fromarray(full).save(tmp_path / "d.png")
    depth = read_depth(tmp_path / "d.png", SIZE)
    assert_depth(depth)
    np.testing.assert_allclose(depth, full / full.max(), atol=1e-6)


def test_larger_is_farther_in_every_format(tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(10, 200, 10)[:, None], 12, axis=1).astype(np.uint8)
    savemat(tmp_path / "d.mat", {"data_obj": ramp.astype(float)})
    np.save(tmp_path / "d.npy", ramp)
    Image.fromarray(ramp).save(tmp_path / "d.png")
    maps = [read_depth(tmp_path / f"d{suffix}", SIZE) for suffix in (".mat", ".npy", ".png")]
    for depth in maps:
        assert_depth(depth)
        assert depth[-4:].mean() > 3 * depth[:4].mean()
        np.testing.assert_allclose(depth, maps[0], atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (37, 51), (5, 200)])
def test_any_size_is_reached(tmp_path: Path, size: tuple[int, int]) -> None:
    np.save(tmp_path / "d.npy", some_depth())
    assert_depth(read_depth(tmp_path / "d.npy", size), size)


def test_depth_from_a_file_reaches_the_haze(tmp_path: Path) -> None:
    image = np.ascontiguousarray(data.astronaut()[:40, 200:248])
    near = np.full(SIZE, 1e-3)
    near[:, 24:] = 1
    np.save(tmp_path / "d.npy", near)
    hazy, (op,) = degrade(image, ("haze",), default_rng(0), read_depth(tmp_path / "d.npy", SIZE))
    assert np.abs(hazy[:, :24].astype(int) - image[:, :24]).max() <= 1
    beta, airlight = vars(op)["beta"], vars(op)["airlight"]
    expected = slow.haze(image, airlight, beta, near)
    assert np.abs(hazy.astype(int) - expected).max() <= 1


BAD: dict[str, Callable[[Path], object]] = {
    "nan.npy": lambda path: np.save(path, np.full(SIZE, np.nan)),
    "infinite.npy": lambda path: np.save(path, np.full(SIZE, np.inf)),
    "zero.npy": lambda path: np.save(path, np.zeros(SIZE)),
    "negative.npy": lambda path: np.save(path, -np.ones(SIZE)),
    "flat.npy": lambda path: np.save(path, np.ones(40)),
    "colour.npy": lambda path: np.save(path, np.ones((*SIZE, 3))),
    "empty_map.npy": lambda path: np.save(path, np.zeros((0, 5))),
    "words.npy": lambda path: np.save(path, np.array([["near", "far"]])),
    "objects.npy": lambda path: np.save(path, np.array([[{}]], object), allow_pickle=True),
    "junk.npy": lambda path: path.write_bytes(b"not an array"),
    "no_bytes.npy": lambda path: path.write_bytes(b""),
    "missing.npy": lambda path: None,
    "other_key.mat": lambda path: savemat(path, {"depth": np.ones(SIZE)}),
    "words.mat": lambda path: savemat(path, {"data_obj": "far away"}),
    "struct.mat": lambda path: savemat(path, {"data_obj": {"depth": np.ones(SIZE)}}),
    "junk.mat": lambda path: path.write_bytes(b"not a matrix" * 40),
    "no_bytes.mat": lambda path: path.write_bytes(b""),
    "missing.mat": lambda path: None,
    "black.png": lambda path: Image.fromarray(np.zeros(SIZE, np.uint8)).save(path),
    "junk.png": lambda path: path.write_bytes(b"not an image"),
    "missing.png": lambda path: None,
}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_sample_errors_that_name_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    BAD[name](path)
    with pytest.raises(SampleError) as caught:
        read_depth(path, SIZE)
    assert str(path) in str(caught.value)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_map_that_vanishes_when_reduced_gives_no_nan(tmp_path: Path) -> None:
    """Its one positive pixel lies between the points where a reduction samples it."""
    spike = np.zeros((512, 512))
    spike[3, 3] = 1
    np.save(tmp_path / "spike.npy", spike)
    try:
        assert_depth(read_depth(tmp_path / "spike.npy", SIZE))
    except SampleError as error:
        assert "spike.npy" in str(error)


def test_a_missing_key_names_the_expected_and_the_found(tmp_path: Path) -> None:
    savemat(tmp_path / "d.mat", {"depth": np.ones(SIZE)})
    with pytest.raises(SampleError, match=r"data_obj.*depth"):
        read_depth(tmp_path / "d.mat", SIZE)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    marker = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple:
            return marker.touch, ()

    np.save(tmp_path / "trap.npy", np.array([[Trap()]], object), allow_pickle=True)
    with pytest.raises((SampleError, ValueError)):
        read_depth(tmp_path / "trap.npy", SIZE)
    assert not marker.exists()


@pytest.mark.parametrize("layout", ["001.mat", "001.npy", "001.png", "001/predict_depth.mat"])
def test_find_depth(tmp_path: Path, layout: str) -> None:
    path = tmp_path / layout
    path.parent.mkdir(exist_ok=True)
    path.touch()
    (tmp_path / "002.mat").touch()
    assert find_depth(tmp_path, "001") == path


def test_find_depth_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "001").mkdir()
    (tmp_path / "001.txt").touch()
    (tmp_path / "0011.npy").touch()
    (tmp_path / "001.png").mkdir()
    assert find_depth(tmp_path, "001") is None
    assert find_depth(tmp_path / "absent", "001") is None


# ---- made up -----------------------------------------------------------------------------------


def bundled(height: int, width: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(data.astronaut()[:height, 100 : 100 + width])


@pytest.mark.parametrize("size", [(40, 48), (128, 128), (200, 90)])
def test_procedural_depth_range(size: tuple[int, int]) -> None:
    for seed in range(8):
        depth = procedural_depth(bundled(*size), default_rng(seed))
        assert_depth(depth, size)
        assert depth.max() - depth.min() > 0.3, f"flat with seed {seed}"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fill", [0, 128, 255, None])
def test_procedural_depth_of_degenerate_images(fill: int | None) -> None:
    for size in ((1, 1), (1, 9), (9, 1), (4, 4), (3, 64)):
        image = default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        if fill is not None:
            image[:] = fill
        for seed in range(10):
            assert_depth(procedural_depth(image, default_rng(seed)), size)


def test_procedural_depth_is_deterministic_and_varied() -> None:
    image = bundled(64, 64)
    first = procedural_depth(image, default_rng(1))
    assert (first == procedural_depth(image, default_rng(1))).all()
    assert np.abs(first - procedural_depth(image, default_rng(2))).mean() > 0.01
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        assert (first == procedural_depth(image, default_rng(1))).all()
    finally:
        cv2.setNumThreads(before)


def test_the_top_is_far_on_average() -> None:
    image = bundled(96, 96)
    depth = np.mean([procedural_depth(image, default_rng(seed)) for seed in range(20)], axis=0)
    assert depth[:16].mean() > depth[40:56].mean() > depth[-16:].mean()


def test_procedural_depth_is_smooth_where_the_image_is() -> None:
    depth = procedural_depth(np.full((96, 96, 3), 90, np.uint8), default_rng(0))
    assert np.abs(np.diff(depth, axis=0)).max() < 0.05
    assert np.abs(np.diff(depth, axis=1)).max() < 0.05


def test_procedural_depth_follows_edges() -> None:
    """Across a hard edge at the horizon the depth falls much faster than on a plain image."""
    plain = np.full((96, 96, 3), 128, np.uint8)
    edge = plain.copy()
    edge[:48], edge[48:] = 230, 20
    falls = [
        np.mean([np.diff(procedural_depth(image, default_rng(seed)), axis=0)[47] for seed in range(20)])
        for image in (edge, plain)
    ]
    assert falls[0] < 3 * falls[1] < 0
