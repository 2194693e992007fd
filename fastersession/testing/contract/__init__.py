"""What every store must do, as tests: each class proves one part, and a state machine compares it with a model.

Rules of residence: public names of the package only; what users import is named by ``fastersession.testing.stores``.
"""
