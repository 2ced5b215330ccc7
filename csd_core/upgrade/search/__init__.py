"""Searches the same items as many ways would serve them; each product of queries and rows is made once for all."""
