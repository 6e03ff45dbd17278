"""The nouns: pure values and rules, with no clock, no dice and no input or output."""
