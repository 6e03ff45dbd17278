"""What an adversary can do, on a running system."""
