"""Send the deliveries of a period again, and those that were never made."""
