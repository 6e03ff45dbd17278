"""Code that several features use."""
