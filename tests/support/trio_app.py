"""An application for a server on trio, with a store that needs asyncio.

Rules of residence: what `test_trio` starts hypercorn with; no test. Nothing is ever written to the file.
"""

from __future__ import annotations

from routes import serve

from fastersession.stores.sqlite import SQLiteStore

app = serve(store=SQLiteStore("no-such-folder/sessions.db"))
