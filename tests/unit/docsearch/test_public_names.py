"""What a package hands on is found under the package's name, with a signature that can be read."""

from pathlib import Path

import pytest

from app.docsearch.sources.docstrings import package


def test_what_a_package_hands_on_has_the_packages_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "handed/__init__.py": "from ._core import *\nfrom .tools.api import Tool\nfrom .other import f as renamed\n",
        "handed/_core.py": '__all__ = ["run"]\ndef run(at: t.Annotated[int, Doc("long")] = 3) -> str:\n'
        '    """Run what was given to it."""\n'
        'def helper():\n    """Help those that run."""\n',
        "handed/tools/__init__.py": "",
        "handed/tools/api.py": "from .made import Tool\n",
        "handed/tools/made.py": 'class Tool:\n    """A tool of the package."""\n'
        '    def use(self):\n        """Use it as it is meant."""\n',
        "handed/other.py": 'def f():\n    """A function by another name."""\n'
        'class Tool:\n    """Not the same tool, but another."""\n',
    }
    info = tmp_path / "handed-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: handed\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {name: text.partition("\n")[0] for _, name, text, _ in package("handed", "readthedocs")}
    assert found.keys() == {
        "handed.run", "handed.helper", "handed.Tool", "handed.Tool.use", "handed.other.f", "handed.other.Tool",
    }  # fmt: skip
    assert found["handed.run"] == "`handed.run(at: int=3) -> str`" and found["handed.Tool"] == "`class handed.Tool`"
