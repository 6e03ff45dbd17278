"""What an operator sees of all accounts."""
