"""One module per framework that needs one; none imported here."""
