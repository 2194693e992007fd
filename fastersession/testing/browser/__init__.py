"""Browsers without a network: they keep cookies, and send requests and WebSockets to an ASGI application.

Rules of residence: public names of the package only; what users import is named by ``fastersession.testing``.
"""
