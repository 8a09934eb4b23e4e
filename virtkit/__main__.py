"""``python -m virtkit``."""

from virtkit.cli import main

if __name__ == "__main__":
    main()
