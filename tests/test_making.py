"""What `thumbs make` calls its outputs, and in which order its threads get a decoder."""

import threading
from pathlib import Path

import pytest

from tests.support.decoders import wait_until
from thumbs.cli.inputs import list_inputs
from thumbs.cli.making import Turns


def test_outputs_never_share_a_name() -> None:
    names = ["cat.jpg", "Cat.png", "cat-2.jpg", "x/cat.webp", "https://h.example/a/cat.png?x=1", "https://h.example/"]
    stems = [str(each.stem) for each in list_inputs(names, is_recursive=False)]
    assert stems == ["cat", "Cat-2", "cat-2-2", "cat-3", "cat-4", "source"]


@pytest.mark.parametrize("path", ["/..%2f..%2fetc%2fpasswd", "/%2e%2e", "/a%00b.png", "/.ssh", "/" + "x" * 2000])
def test_name_from_a_url_stays_in_the_folder(path: str) -> None:
    [each] = list_inputs([f"https://h.example{path}"], is_recursive=False)
    assert each.stem.parent == Path()
    assert not each.stem.name.startswith(".")
    assert "\0" not in each.stem.name
    assert len(each.stem.name) <= 100


def test_turns_are_given_in_the_order_of_arrival() -> None:
    """Also when the one who gives a turn back wants the next one at once."""
    turns = Turns(1)
    order: list[int] = []
    threads: list[threading.Thread] = []
    turns.take()

    def take_a_turn(name: int) -> None:
        turns.take()
        order.append(name)
        turns.give()

    for number in range(4):
        threads.append(threading.Thread(target=take_a_turn, args=[number]))
        threads[-1].start()
        wait_until(lambda: len(turns._waiting) == len(threads))
    turns.give()
    take_a_turn(4)
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]
