"""One config and one seed as one finished run."""
