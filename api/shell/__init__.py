"""What all pages share: the frame, styles, visits, forms and times."""
