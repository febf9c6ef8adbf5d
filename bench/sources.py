"""Sources as a server has them: a folder's files on loopback, plain and over TLS, from a process of its own.

`python -m bench.sources FOLDER` prints where they are as one line of JSON, and ends with its input. It is a process
of its own so that it and those who fetch do not wait for one another's GIL. The certificates are made at the start.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.authority import TestAuthority
from tests.support.servers import SourceServer
from tests.support.stack import ROOT

HOST: Final = "localhost"
ADDRESS: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the files are; `ca_bundle` is the certificate to trust for those over TLS."""

    ports: dict[str, int]
    ca_bundle: str

    def url(self, name: str, *, scheme: str = "http", host: str = ADDRESS) -> str:
        """Tell the URL of a file."""
        return f"{scheme}://{host}:{self.ports[scheme]}/{name}"


@contextmanager
def run_sources(folder: Path) -> Iterator[Sources]:
    """Serve the files that are in the folder now, until the block ends."""
    command = [sys.executable, "-m", "bench.sources", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Sources(**json.loads(process.stdout.readline()))
        finally:
            process.kill()


def main() -> None:
    """Serve until the input ends."""
    with tempfile.TemporaryDirectory(prefix="thumbs-bench-") as keys:
        authority = TestAuthority(Path(keys))
        with SourceServer() as plain, SourceServer(tls=authority.build_context(HOST, ADDRESS)) as secure:
            for path in Path(sys.argv[1]).iterdir():
                for server in (plain, secure):
                    server.serve(f"/{path.name}", path.read_bytes(), content_type="application/octet-stream")
            ports = {"http": plain.port, "https": secure.port}
            print(json.dumps({"ports": ports, "ca_bundle": str(authority.bundle)}), flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
