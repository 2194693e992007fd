"""Where sessions are kept: one module per store, none imported here."""
