"""The cells that come with Cello, each about ten lines of equations, with its paper and variant."""
