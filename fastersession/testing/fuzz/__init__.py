"""What services are fuzzed with: strategies of messages, scenarios of browsers, and a check of a whole application.

Rules of residence: public names only. Needs hypothesis, the extra ``testing``.
"""

try:
    from .driver import ScenarioError
    from .legality import illegal
    from .runner import check_app
    from .scenario import Step, Target, clients
    from .strategies import asgi_messages, cookie_headers, scopes, session_data
except ModuleNotFoundError as missing:
    if missing.name != "hypothesis":
        raise
    raise ImportError('fuzzing needs hypothesis: pip install "fastersession[testing]"') from missing

__all__ = [
    "ScenarioError", "Step", "Target", "asgi_messages", "check_app", "clients", "cookie_headers", "illegal", "scopes",
    "session_data",
]  # fmt: skip
