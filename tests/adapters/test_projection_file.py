from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamer.adapters.projection_file import load_projection, save_projection
from streamer.core.projection import Projection
from streamer.errors import ConfigurationError

PROJECTION = Projection(np.eye(3, 8, dtype=np.float32), "0123456789ab", 0.75)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "pca.npz"
    path.write_text("what was there")
    save_projection(path, PROJECTION)
    loaded = load_projection(path)
    np.testing.assert_array_equal(loaded.axes, PROJECTION.axes)
    assert (loaded.space, loaded.kept, loaded.fingerprint) == ("0123456789ab", 0.75, PROJECTION.fingerprint)
    assert [p.name for p in tmp_path.iterdir()] == ["pca.npz"]
    with np.load(path) as file:
        assert sorted(file) == ["axes", "kept", "space"]


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pca.npz"
    with pytest.raises(ConfigurationError, match=r"provider\.reduction = .*pca\.npz: No such file"):
        load_projection(path)
    with pytest.raises(ConfigurationError, match=r"provider\.reduction = .*: Is a directory"):
        load_projection(tmp_path)
    for content in (b"", b"text", b"PK\x03\x04 cut short"):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="is not a projection"):
            load_projection(path)
    for arrays in (
        {"axes": np.eye(2, dtype=np.float32)},
        {"axes": np.eye(2), "space": "a", "kept": 1.0},
        {"axes": np.full((2, 2), np.nan, np.float32), "space": "a", "kept": 1.0},
        {"axes": np.array([{}]), "space": "a", "kept": 1.0},
    ):
        np.savez(path, **arrays)
        with pytest.raises(ConfigurationError, match="is not a projection"):
            load_projection(path)
    with path.open("wb") as file:
        np.save(file, np.eye(2, dtype=np.float32))
    with pytest.raises(ConfigurationError, match="is not a projection"):
        load_projection(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent/pca\.npz cannot be written: No such file"):
        save_projection(tmp_path / "absent" / "pca.npz", PROJECTION)
