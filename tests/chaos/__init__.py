"""Nothing accepted is lost: jobs with callbacks, while every process is killed with -9 at random moments."""

import tests.support.engines  # noqa: F401  It prepares the environment for the PostgreSQL package, so it comes first.
