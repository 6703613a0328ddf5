"""Parse the command line and call the library: one file for each command."""
