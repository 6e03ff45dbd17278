"""Adapters: each module implements a port by one product."""
