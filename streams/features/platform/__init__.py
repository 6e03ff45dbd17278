"""Figures and problems of all accounts, for operators."""
