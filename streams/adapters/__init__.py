"""The products: each module speaks to one thing outside, behind a port."""
