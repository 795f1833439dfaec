"""Calls that we place: the order, its guards, its pace, and its way to the answer."""
