"""`python -m neftune_cli`."""

from neftune_cli.cli import main

if __name__ == "__main__":
    main()
