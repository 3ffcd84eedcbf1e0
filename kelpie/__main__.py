"""`python -m kelpie`: the same as the console script."""

from kelpie.cli.main import run

if __name__ == "__main__":
    run()
