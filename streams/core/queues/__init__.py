"""Whose turn it is: queues, slots, rates, and places for requests."""
