"""Conversations: histories that outlive a request, and runs that outlive a connection.

Rules of residence: nothing here is imported before somebody asks for a conversation.
"""
