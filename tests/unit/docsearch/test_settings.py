"""Settings of the documentation search that can't be meant are told in a sentence, and the list is theirs."""

import pytest

from app.docsearch.chosen import allowed_by, sources_of
from app.docsearch.gate import PROJECTS
from app.errors import UserError
from app.overrides import parse_settings
from app.stage_settings.docsearch import DocsearchSettings


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("readthedocs", ["*"], "no project of readthedocs.io"),
        ("readthedocs", ["evil.example/x"], "no project of readthedocs.io"),
        ("serpapi_key_env", "my key", "environment variable"),
        ("offline_html", ["stackoverflow=/tmp"], "SOURCE=FOLDER"),
        ("redis_url", "http://127.0.0.1", "redis://"),
        ("searches", 0, "searches"),
    ],
)
def test_what_can_not_be_meant_is_refused(key: str, value: object, told: str) -> None:
    with pytest.raises(UserError) as error:
        parse_settings(DocsearchSettings, {key: value}, "a test")
    assert told in str(error.value)


def test_paid_and_foreign_services_are_off_unless_switched_on() -> None:
    settings = DocsearchSettings()
    assert [source.name for source in sources_of(settings)] == ["python", "fastapi", "readthedocs"]
    assert not allowed_by(settings).holds("stackoverflow.com")
    for host in ("api.stackexchange.com", "serpapi.com", "app.readthedocs.org"):
        assert not allowed_by(DocsearchSettings(stackoverflow=True, serpapi_key_env="KEY")).holds(host)


def test_the_projects_are_those_of_the_gate_or_of_the_settings() -> None:
    assert all(allowed_by(DocsearchSettings()).holds(f"{project}.readthedocs.io") for project in PROJECTS)
    allowed = allowed_by(DocsearchSettings(readthedocs=("rich",)))
    assert allowed.holds("rich.readthedocs.io") and not allowed.holds("requests.readthedocs.io")
    assert [source.name for source in sources_of(DocsearchSettings(readthedocs=()))] == ["python", "fastapi"]
