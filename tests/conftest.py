"""Settings of all tests, and what several files set up alike."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A busy machine is not a slow function: times are judged by benchmarks, not by chance.
settings.register_profile("faceunits", deadline=None, print_blob=True)
settings.load_profile("faceunits")


@pytest.fixture
def disfa(tmp_path):
    """The four people of `counted.SUBJECTS` in DISFA's layout."""
    import counted
    import layouts

    from faceunits.evaluation import datasets

    return datasets.read("disfa", layouts.disfa(tmp_path / "disfa", tuple(counted.SUBJECTS)))
