"""Conversations: histories and runs that outlive the request that has begun them.

Rules of residence: what stands between the engine and the contract of ``stores.logs``. Nothing imports this before the
first conversation is asked for.
"""
