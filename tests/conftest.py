"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("here", deadline=None)  # machines are noisy: no test is about how long an example takes
settings.load_profile("here")
