"""What people do, shared by the command line, the API and the dashboard."""
