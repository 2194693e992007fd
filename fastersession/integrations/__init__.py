"""One module for each framework that needs one; none is imported here."""
