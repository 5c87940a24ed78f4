"""Secrets and addresses are masked by kind; what only looks like one stays. The keys are made up, in two halves."""

import re

import pytest

from app.corpus.clean.secrets import FORMS, find_emails, find_secrets, mask

MIXED = "Ab3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0iL3oR6uX9aB2eG5hJ8kM1nP4qS7tV0wY3"
HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
KEY_BLOCK = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" * 4
SECRETS = {
    "AKIA": ("AKIA" + "QWERTYUIOPASDFGH", "<API_KEY>"),
    "ghp": ("ghp_" + MIXED[:36], "<TOKEN>"),
    "pat": ("github_pat_" + MIXED[:22] + "_" + MIXED[:40], "<TOKEN>"),
    "gitlab": ("glpat-" + MIXED[:20], "<TOKEN>"),
    "slack": ("xoxb-" + "123456789012-" + MIXED[:24], "<TOKEN>"),
    "google": ("AIza" + MIXED[:35], "<API_KEY>"),
    "anthropic": ("sk-ant-" + MIXED[:40], "<API_KEY>"),
    "openai": ("sk-" + MIXED[:48], "<API_KEY>"),
    "stripe": ("sk_live_" + MIXED[:24], "<API_KEY>"),
    "hf": ("hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH", "<TOKEN>"),
    "npm": ("npm_" + MIXED[:36], "<TOKEN>"),
    "pypi": ("pypi-AgE" + MIXED[:60], "<TOKEN>"),
    "databricks": ("dapi" + HEX, "<TOKEN>"),
    "telegram": ("123456789:AA" + MIXED[:33], "<TOKEN>"),
    "jwt": ("eyJ" + MIXED[:20] + ".eyJ" + MIXED[:40] + "." + MIXED[:43], "<TOKEN>"),
}


@pytest.mark.parametrize("name", SECRETS)
def test_keys_of_known_form_are_masked_whole(name: str) -> None:
    secret, placeholder = SECRETS[name]
    for before, after in (("x = '", "'\n"), ("# use ", " here\n"), ('call(headers={"A": "Bearer ', '"})\n')):
        text = before + secret + after
        assert mask(text, find_secrets(text)) == before + placeholder + after


def test_a_private_key_goes_whole_and_its_string_stays_a_string() -> None:
    lines = [
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        KEY_BLOCK[:64],
        KEY_BLOCK[64:],
        "-----END RSA " + "PRIVATE KEY-----",
    ]
    text = 'KEY = """' + "\n".join(lines) + '"""\n'
    assert mask(text, find_secrets(text)) == 'KEY = """<PRIVATE_KEY>"""\n'
    assert find_secrets("marker = '-----BEGIN PRIVATE " + "KEY-----'\n") == []


def test_a_password_in_an_address_is_masked_and_a_placeholder_is_not() -> None:
    text = "url = 'postgresql://admin:h0rse-battery@db.firm.io:5432/main'\n"
    assert mask(text, find_secrets(text)) == "url = 'postgresql://admin:<PASSWORD>@db.firm.io:5432/main'\n"
    for shown in ("user:password@host", "user:pass@host", "{user}:{password}@host", "user:xxx@host", "user:%s@host"):
        assert find_secrets(f"url = 'postgresql://{shown}/main'\n") == []


def test_the_random_value_of_a_secret_s_name_is_masked() -> None:
    for name in ("api_key", "SECRET_KEY", 'config["auth_token"]', "password"):
        text = f"{name} = '{MIXED[:32]}'\n"
        assert mask(text, find_secrets(text)) == f"{name} = '<API_KEY>'\n"


@pytest.mark.parametrize(
    "text",
    [
        "api_key = 'your-api-key-goes-here-2024'\n",
        "token = 'pad_token_id_for_generation_2'\n",
        "secret_key = os.environ['SERVICE_SECRET_KEY_2']\n",
        f"sha256 = '{HEX}{HEX}'\n",
        f"assert digest(b'') == '{HEX}'\n",
        f"key = 'data/year=2019/month=6/part-{HEX}.parquet'\n",
        "skill = 'risk-assessment-and-mitigation-of-hazards'\n",
        "name = 'sk-learn-contrib'\n",
    ],
)
def test_hashes_identifiers_and_placeholders_stay(text: str) -> None:
    assert find_secrets(text) == []


def test_addresses_are_masked_but_not_those_for_examples_and_version_control() -> None:
    text = "# Jane <jane.doe+code@mail.firm.co.uk>, me@firm.io.\n"
    assert mask(text, find_emails(text)) == "# Jane <<EMAIL>>, <EMAIL>.\n"
    for other in (
        "a@example.com",
        "bob@mail.example.org",
        "x@localhost.localhost",
        "git@github.com:o/r",
        "b@c.test",
        "@decorator.name",
        "model@v1.2.pkl",
        "a @ b.T",
        "f(x)@w.mean",
        "user@host",
    ):
        assert find_emails(f"text = '{other}'\n" if "(" not in other else other) == [], other


def test_no_secret_is_missed_for_want_of_its_anchor() -> None:
    """A pattern is searched only in texts that hold its anchor."""
    matched = [(form, secret) for form in FORMS for secret, _ in SECRETS.values() if re.search(form.pattern, secret)]
    assert len(matched) >= len(SECRETS) and all(form.anchor in secret for form, secret in matched)
