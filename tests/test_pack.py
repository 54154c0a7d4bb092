"""Files of faces: whole or not at all, the same from one process or two, those that exist kept."""

import numpy as np
import pytest

from faceunits.rig import pack


def squares(index):
    return {"x": np.full(3, index**2)}


def broken(index):
    raise ValueError(f"file {index} cannot be made")


@pytest.mark.parametrize("workers", [1, 2])
def test_missing_files_are_made_and_others_kept(tmp_path, workers):
    paths = {i: tmp_path / f"{i}.npz" for i in (3, 5, 8)}
    paths[5].write_bytes(b"kept")
    told = []
    pack.fill(paths, squares, workers=workers, progress=lambda *step: told.append(step))
    assert told == [(2, 3), (3, 3)]
    assert paths[5].read_bytes() == b"kept"
    for i in (3, 8):
        with np.load(paths[i]) as made:
            np.testing.assert_array_equal(made["x"], [i**2] * 3)
    assert {p.name for p in tmp_path.iterdir()} == {"3.npz", "5.npz", "8.npz"}


def test_a_failure_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="file 2"):
        pack.fill({2: tmp_path / "2.npz"}, broken)
    assert not list(tmp_path.iterdir())
