"""`python -m graph`, the same as the console script `darkroom`."""

from graph.cli import main

if __name__ == "__main__":  # a decoder process imports this file, too, and must not start anything
    main()
