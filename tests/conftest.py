"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is not a slow function: times are judged by benchmarks, not by chance.
settings.register_profile("faceunits", deadline=None, print_blob=True)
settings.load_profile("faceunits")
