"""``python -m carrot`` is ``carrot``."""

from carrot.cli import run

if __name__ == "__main__":
    run()
