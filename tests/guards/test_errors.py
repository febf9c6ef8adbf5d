"""The closed lists of codes: documented, all of them and no others, and each one reachable."""

import ast
import functools
import re
from typing import Any

import pytest

from tests.guards.sources import ROOT, list_modules, parse, read_page
from thumbs.deliver import _name_status
from thumbs.errors import AttemptError, JobError, RequestError, list_job_errors
from thumbs.web.problems import CODES

RETRIED_BY_CASE = {"source_http_error", "source_forbidden"}
"""Whether these are tried again depends on the status, and on whether DNS answers at all."""
PAGE = "docs/errors.md"


def read_section(title: str) -> str:
    """Read the part of the page under a heading."""
    sections = re.split(r"^## ", read_page(PAGE), flags=re.MULTILINE)
    return next(section for section in sections if section.startswith(title))


def read_codes(title: str, column: int) -> set[str]:
    """Read the codes of a table: what stands between backticks in a column."""
    rows = [line.split("|") for line in read_section(title).splitlines() if line.startswith("| ")]
    found = (re.fullmatch(r"\s*`([a-z0-9_]+)`\s*", row[column]) for row in rows)
    return {match[1] for match in found if match}


def list_subclasses(error: type[Any]) -> set[type[Any]]:
    """List every class below an error."""
    below: list[type[Any]] = error.__subclasses__()
    return {*below, *(deeper for each in below for deeper in list_subclasses(each))}


@functools.cache
def list_names_used() -> set[str]:
    """List every name that the package uses, apart from where errors are defined."""
    modules = [path for path in list_modules() if path != ROOT / "thumbs" / "errors.py"]
    return {
        node.id if isinstance(node, ast.Name) else node.attr
        for path in modules
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Name | ast.Attribute)
    }


def test_codes_of_requests_are_documented() -> None:
    raised = {error.code for error in list_subclasses(RequestError) if hasattr(error, "code")}
    assert read_codes("Of a request", 2) == raised | set(CODES.values())


def test_codes_of_jobs_are_documented_with_their_stage() -> None:
    rows = [line.split("|") for line in read_section("Of a job").splitlines() if line.startswith("| `")]
    told = {(row[1].strip(" `"), row[2].strip(" `")) for row in rows}
    assert told == {(error.stage, error.code) for error in list_job_errors()}


def test_codes_of_attempts_are_documented() -> None:
    raised = {error.code for error in list_subclasses(AttemptError) if hasattr(error, "code")}
    answered = {_name_status(status) for status in range(300, 600)}
    assert read_codes("Of a delivery attempt", 1) == raised | answered | {"abandoned"}


def test_reasons_of_deliveries_that_are_documented_are_given_somewhere() -> None:
    told = read_codes("Of a failed delivery", 1)
    given = {node.value for path in list_modules() for node in ast.walk(parse(path)) if isinstance(node, ast.Constant)}
    assert told
    assert told - given == set()


def test_retries_of_jobs_are_documented_as_they_are() -> None:
    rows = [line.split("|") for line in read_section("Of a job").splitlines() if line.startswith("| `")]
    told = {row[2].strip(" `"): row[3].strip() != "no" for row in rows}
    kinds = {error.code: error.retryable or error.code in RETRIED_BY_CASE for error in list_job_errors()}
    assert told == kinds


def test_codes_are_unique() -> None:
    codes = [error.code for error in list_job_errors()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("error", list_job_errors(), ids=lambda error: error.code)
def test_error_of_a_job_is_raised_somewhere(error: type[JobError]) -> None:
    assert error.__name__ in list_names_used()


@pytest.mark.parametrize("error", list_job_errors(), ids=lambda error: error.code)
def test_message_that_callers_see_is_a_sentence(error: type[JobError]) -> None:
    assert re.fullmatch(r"[A-Z].*\.", error.message)
