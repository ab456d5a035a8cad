"""Another configuration, tried on what was captured: what would no longer be, what stays, what cannot be told."""
