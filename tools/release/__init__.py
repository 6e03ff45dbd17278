"""`make release`: all that is published of one commit: the same bytes each time, signed, pushed in order."""
