"""Send the deliveries of a period again, and make missing ones."""
