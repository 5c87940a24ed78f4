"""The commands of docs/cluster.md, typed as they stand there: only the address and the paths are this machine's."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

BIN = Path(sys.executable).parent
"""Of the environment whose `ray` is typed."""
PAGE = (ROOT / "docs" / "cluster.md").read_text()
ADDRESS, SHARED, ENVIRONMENT = "http://127.0.0.1:8265", "/shared/pocketcoder", "docs/clusters/prepared.yaml"


def blocks(heading: str) -> list[str]:
    """Of the section under this heading, without those below it."""
    section = re.search(rf"(?ms)^#+ {re.escape(heading)}$(.*?)(?=^#+ |\Z)", PAGE)
    assert section, heading
    return re.findall(r"(?ms)^```\n(.*?)^```$", section[1])


def exports() -> str:
    """What the page has a person set in their shell, before jobs."""
    return "".join(re.findall(r"(?m)^export RAY_.*\n", "".join(blocks("The token") + blocks("A job"))))


@dataclass(frozen=True)
class Person:
    """Who sits at a terminal in the repository's folder, with a home directory of their own."""

    home: Path
    shared: Path
    programs: Path
    """Before all others of the PATH (`tests.commands.programs`)."""
    dashboard: str = ADDRESS

    def types(self, commands: str, *, before: str | None = None) -> subprocess.CompletedProcess[str]:
        """In a shell in which this was typed before; left out, what the page says. Output and errors come as one."""
        environment = self.home / "prepared.yaml"
        environment.write_text((ROOT / ENVIRONMENT).read_text().replace(SHARED, str(self.shared)))
        text = ((exports() if before is None else before) + commands).replace(ADDRESS, self.dashboard)
        text = text.replace(SHARED, str(self.shared)).replace(ENVIRONMENT, str(environment))
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "POCKETCODER_"))}
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=ROOT,
            env=outside | {"HOME": str(self.home), "PATH": f"{self.programs}:{BIN}:{outside['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
        )
