"""What happens to calls, told to the user's own systems: signed, in order, at least once."""
