"""What `serving.tools` leaves out is offered to nobody and not started, over MCP neither. Serve runs the application in
this process, as it does for tests."""

from pathlib import Path

import pytest
from ray import serve
from ray.serve import Application

from actors.tools import build
from app.serving.arguments import ToolsArguments

SETTINGS = [("search_docs", "run_python"), ("search_docs",), ("run_python",), ()]
CLASSES = {"search_docs": "DocsSearch", "run_python": "PythonRunner"}


@pytest.mark.parametrize("offered", SETTINGS, ids="+".join)
def test_only_tools_of_the_settings_are_started_listed_and_called(
    offered: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETCODER_CACHE", str(tmp_path))
    overrides = (f"serving.tools=[{', '.join(offered)}]",)
    application = build(ToolsArguments(profile="smoke", overrides=overrides, session_keys=("0" * 64,)))
    behind = [each for each in application._bound_deployment.init_args if isinstance(each, Application)]
    assert [each._bound_deployment.name for each in behind] == [CLASSES[name] for name in offered]
    tools = serve.run(application, name="tools", _local_testing_mode=True)
    assert tuple(tools.schemas.remote().result()) == offered
    request = tools.begin.remote("laptop").result()
    for name in {*CLASSES} - {*offered}:
        reply = tools.call.remote(request, name, {"query": "x", "code": "1"}).result()
        assert (reply.status, reply.reason) == ("refused", "tool") and name not in reply.text
