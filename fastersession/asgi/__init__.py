"""What speaks ASGI: the messages of a request, its headers and cookies.

Rules of residence: modules that import from here import the module. No store is called from here.
"""
