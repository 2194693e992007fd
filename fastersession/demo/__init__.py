"""A streaming chat to run and to read: ``python -m fastersession demo``.

Rules of residence: a small application, written as a user of the library would write one. It
uses only what ``fastersession`` exports and what the extra ``demo`` installs; nothing in the
library imports it.
"""
