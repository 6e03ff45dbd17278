"""Accounts, their users and keys, their launches and their mails."""
