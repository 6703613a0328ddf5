"""Write a report in one format each."""
