"""The command line of scorm-webhooks, as a client of its API. Of the server it imports the pure core alone."""
