"""The receivers of `examples`, beside a running system."""
