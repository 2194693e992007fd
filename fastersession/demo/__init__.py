"""A streaming chat to run and to read: ``python -m fastersession demo``.

Rules of residence: a small application, as a user of the library would write it. It uses only what ``fastersession``
exports and what the extra ``demo`` installs. Nothing in the library imports it.
"""
