"""The command line, one file a command: parse, make one library call, print."""
