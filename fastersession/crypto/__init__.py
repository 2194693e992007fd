"""Keys, tokens and sealing: the only importers of ``cryptography``.

Rules of residence: modules that import from here import the module. Pure functions of bytes.
"""
