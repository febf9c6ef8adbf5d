"""Counts are added up, whoever adds them and however many at once."""

from functools import partial

from tests.support.races import race
from thumbs.ledger import Ledger

VALUES = {("b_total", "{}"): 1.0, ("a_total", '{"x": "y"}'): 2.5}


def test_counts_are_added_to_those_that_are_there(ledger: Ledger) -> None:
    ledger.counts.add(VALUES)
    ledger.counts.add({("b_total", "{}"): 2.0})
    assert ledger.counts.list_all() == [("a_total", '{"x": "y"}', 2.5), ("b_total", "{}", 3.0)]


def test_no_count_is_lost_to_another_process_that_counts(ledger: Ledger) -> None:
    race(*[partial(ledger.counts.add, VALUES) for _ in range(10)])
    assert [value for _, _, value in ledger.counts.list_all()] == [25.0, 10.0]
