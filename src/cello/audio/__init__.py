"""Sound as labelled clips."""
