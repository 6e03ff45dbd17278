"""A whole platform in miniature: customers, a course with learners, and what becomes of every event."""
