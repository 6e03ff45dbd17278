"""Experiments on a whole system of real parts on this machine: `python -m bench --help`."""
