"""Sessions of SCORM courses, and their commits."""
