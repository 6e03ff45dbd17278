"""The demo: a small platform with customers, a course with learners, and every stage."""
