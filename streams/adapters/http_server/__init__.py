"""The HTTP server of the API: uvicorn with limits on connections, headers and bodies."""
