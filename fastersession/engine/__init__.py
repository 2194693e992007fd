"""What turns a cookie into a session and a session into calls of a store.

Rules of residence: modules that import from here import the module. No ASGI message, no header.
"""
