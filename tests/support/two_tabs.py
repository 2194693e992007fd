"""Two tabs of one browser whose answers stream at the same time: `python two_tabs.py module:attribute`.

Rules of residence: a process of its own, for an application that configures its framework once; prints, as JSON, the
answers that were seen, in the order of their beginning, and what the session holds then.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import Any

from fastersession.testing import Browser, lifespan, session_of

TARGET = "/chat?q=hello"


async def story(app: Any) -> dict[str, Any]:
    async with lifespan(app):
        browser = Browser(app)
        seen = [(await browser.post(TARGET)).text]
        one, other = (browser.open(TARGET, method="POST", paced=True) for _ in range(2))
        async with one, other:
            for tab in (one, other):  # both have begun before either ends, the second with what the first has saved
                assert await tab.chunk()
            for tab in (other, one):
                answer = await tab.ended()
                assert answer.error is None, answer.error
            seen += [one.answer.text, other.answer.text]
        async with session_of(browser) as session:
            return {"seen": seen, "kept": session.copy()}


if __name__ == "__main__":
    module, _, attribute = sys.argv[1].partition(":")
    print(json.dumps(asyncio.run(story(getattr(importlib.import_module(module), attribute)))))
