"""Run the command line as ``python -m cello.cli``."""

from cello.cli.main import main

if __name__ == "__main__":
    main()
