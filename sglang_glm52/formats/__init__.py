"""Weight formats, in plain torch."""
