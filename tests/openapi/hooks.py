"""What schemathesis is told of the service: URLs that it takes, an output that exists, refusals for no fault of form.

Imported by schemathesis itself (`hooks` in schemathesis.toml), in a process of its own.
"""

import os
import re
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData

BASE = os.environ["THUMBS_URL"]
OUTPUT_NAME = os.environ["THUMBS_OUTPUT_NAME"]
PATHS = ("/static/sample.jpg", "/static/nothing.jpg", "/")
"""An image, nothing, and no image."""
LENGTHS = (0, 2_047, 2_048, 2_049)
"""Those at the limit are drawn for the cases at the limit, which would be searched for in vain otherwise."""
KEY_REUSED = "idempotency_key_reused"
"""Refused for what was sent before."""
BEYOND_JSON_SCHEMA = ("since: Must be before `until`", "variants: Each must have a name of its own")
"""It cannot compare two members."""


def build_url(path: str, number: int, length: int) -> str:
    """Build a URL of the service, of at least that length."""
    return f"{BASE}{path}?n={number}".ljust(length, "-")


schemathesis.openapi.format(
    "uri", st.builds(build_url, st.sampled_from(PATHS), st.integers(0, 10**9), st.sampled_from(LENGTHS))
)


@schemathesis.hook
def before_generate_path_parameters(
    context: HookContext, strategy: st.SearchStrategy[dict[str, Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    """Ask for an output that exists, every other time: schemathesis finds ids in answers, but no names in URLs."""
    is_output = context.operation is not None and "{name}" in context.operation.path
    return st.one_of(strategy, st.just({"name": OUTPUT_NAME})) if is_output else strategy


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Keep a failure, unless a request of the right form was refused for something else than its form."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    problem = response.json()
    detail = re.sub(r"^jobs\.\d+\.", "", problem["detail"])
    return problem["code"] != KEY_REUSED and not detail.startswith(BEYOND_JSON_SCHEMA)
