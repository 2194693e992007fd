"""The state machine over every store, with many and long sequences of verbs: what a few short ones may not meet."""

from __future__ import annotations

import pytest
from store_subject import EVERY, Factory

from fastersession.testing.stores import check_store

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

EXAMPLES = {"memory": 1_000, "sqlite": 300}  # a server takes some milliseconds for each verb


@pytest.mark.parametrize("kind", EVERY)
def test_long_sequences_have_the_models_outcomes(factory: Factory, kind: str) -> None:
    """Any sequence of up to 150 verbs, by requests that overlap and at once, has the model's outcomes."""
    check_store(factory, shared=kind != "memory", examples=EXAMPLES.get(kind, 100), length=150)
