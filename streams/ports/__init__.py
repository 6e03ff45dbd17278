"""Protocols for everything that stages and services need from outside."""
