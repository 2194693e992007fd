"""What authors of stores test with: the contract as a class of tests, and a state machine against a model.

Rules of residence: public names only. Needs pytest and hypothesis, the extra ``testing``.
"""

import sys

try:
    import hypothesis  # noqa: F401 - what is below needs it, and would name no remedy
    import pytest
except ModuleNotFoundError as missing:
    if missing.name not in ("hypothesis", "pytest"):
        raise
    text = f'the contract of a store needs {missing.name}: pip install "fastersession[testing]"'
    raise ImportError(text) from missing

_PARTS = (
    "before",
    "cancelled",
    "ends",
    "keeping",
    "leases",
    "limits",
    "listing",
    "live",
    "logs",
    "logs_machine",
    "machine",
    "races",
    "roundtrip",
    "run_ends",
    "runs",
    "session_logs",
    "subject",
    "suite",
    "times",
    "users",
    "users_machine",
)
for _name in (f"fastersession.testing.contract.{part}" for part in _PARTS):
    if _name not in sys.modules:  # so that a failing assertion tells what it compared
        pytest.register_assert_rewrite(_name)

from .contract.live import LiveStoreContract, LiveUserStoreContract  # noqa: E402 - only now
from .contract.machine import StoreMachine, check_store  # noqa: E402
from .contract.subject import Factory, Subject, over_a_store  # noqa: E402
from .contract.suite import LogStoreContract, SharedStoreContract, StoreContract, UserStoreContract  # noqa: E402

__all__ = [
    "Factory", "LiveStoreContract", "LiveUserStoreContract", "LogStoreContract", "SharedStoreContract",
    "StoreContract", "StoreMachine", "Subject", "UserStoreContract", "check_store", "over_a_store",
]  # fmt: skip
