"""What a SCORM player calls: commits of sessions."""
