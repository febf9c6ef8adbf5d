"""What a ThumbsServer runs in processes of its own: `up`, with a life-line, and `secret`.

    python -m thumbs.testing.service up       `thumbs up`, which ends when its standard input does
    python -m thumbs.testing.service secret   prints the callback secret

Standard input is a pipe that only the process of the tests holds: however that one dies, nothing is left running.
"""

import os
import signal
import sys
import threading

from thumbs.accounts import get_default_account
from thumbs.cli import main as run_thumbs
from thumbs.cli.environment import open_services


def main(command: str) -> None:
    """Run one of the commands."""
    if command == "secret":
        print(_read_secret())
        return
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    run_thumbs(["up"], prog_name="thumbs")


def _stop_at_end_of_input() -> None:
    # Not sys.stdin: its lock would be held when the interpreter ends.
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _read_secret() -> str:
    with open_services() as services:
        return services.cipher.decrypt(get_default_account(services).callback_secret)


if __name__ == "__main__":
    main(sys.argv[1])
