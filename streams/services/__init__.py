"""What people and platforms do, shared by the command line, the API and the dashboard."""
