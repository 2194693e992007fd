"""Speed, measured: `python -m bench` (see __main__ for the parts).

Rules of residence of this package: nothing under fastersession/ imports it, it imports only the public names of
fastersession, and every peer it names is optional. `floor.py` is a verbatim copy of a given file and is never edited.
"""
