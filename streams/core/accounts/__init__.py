"""Accounts, who may use them, their launches and their mails."""
