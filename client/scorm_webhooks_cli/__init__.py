"""The command line of scorm-webhooks, as a client of its API. It imports only the pure core of the server."""
