"""The store, told to a human; needs no torch."""
