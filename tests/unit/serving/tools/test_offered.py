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


def built(offered: tuple[str, ...], best_of: int) -> Application:
    overrides = (f"serving.tools=[{', '.join(offered)}]", f"serving.best_of={best_of}")
    return build(ToolsArguments(profile="smoke", overrides=overrides, session_keys=("0" * 64,)))


def started(application: Application) -> list[str]:
    behind = [each for each in application._bound_deployment.init_args if isinstance(each, Application)]
    return [each._bound_deployment.name for each in behind]


@pytest.mark.parametrize("offered", SETTINGS, ids="+".join)
def test_only_tools_of_the_settings_are_started_listed_and_called(
    offered: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETCODER_CACHE", str(tmp_path))
    application = built(offered, best_of=0)
    assert started(application) == [CLASSES[name] for name in offered]
    tools = serve.run(application, name="tools", _local_testing_mode=True)
    assert tuple(tools.schemas.remote().result()) == offered
    request = tools.begin.remote("laptop").result()
    for name in {*CLASSES} - {*offered}:
        reply = tools.call.remote(request, name, {"query": "x", "code": "1"}).result()
        assert (reply.status, reply.reason) == ("refused", "tool") and name not in reply.text


def test_answers_with_tests_have_a_sandbox_that_no_model_may_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETCODER_CACHE", str(tmp_path))
    application = built((), best_of=2)
    assert started(application) == ["PythonRunner"]
    tools = serve.run(application, name="tools", _local_testing_mode=True)
    assert tools.schemas.remote().result() == {}
    trial = tools.trial.remote("f(1) == 2").result()
    (outcome,) = tools.test.remote(trial, ["def f(x): return x + 1"]).result()
    assert outcome.passes
