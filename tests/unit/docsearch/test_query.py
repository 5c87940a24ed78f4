"""What leaves the machine as a query: one clean line, and no secret of the user's."""

import pytest

from app.docsearch.query import cleaned_query
from app.docsearch.records import Refused


@pytest.mark.parametrize(
    ("query", "cleaned"),
    [
        ("json.loads object_hook", "json.loads object_hook"),
        ("  how\r\nto\tparse\x00 JSON\x1b[0m ", "how to parse JSON[0m"),
        ("cafe\u0301", "caf\u00e9"),
        ("a\u200bb\u202ec\U000e0041d", "abcd"),
        ("x" * 300, "x" * 256),
        ("pathlib /usr/lib/python3 prefix", "pathlib /usr/lib/python3 prefix"),
        ("what does token= mean in FastAPI", "what does token= mean in FastAPI"),
        ("ModuleNotFoundError in site-packages/foo/bar.py", "ModuleNotFoundError in site-packages/foo/bar.py"),
        ("@app.get decorator user@example.com", "@app.get decorator user@example.com"),
        ("pydantic password: SecretStr field", "pydantic password: SecretStr field"),
        ("fastapi token: OAuth2PasswordBearer", "fastapi token: OAuth2PasswordBearer"),
        ("argparse password=getpass.getpass()", "argparse password=getpass.getpass()"),
        ('api_key=os.environ["API_KEY"] missing', 'api_key=os.environ["API_KEY"] missing'),
        ("secret: Annotated[str, Depends(f)]", "secret: Annotated[str, Depends(f)]"),
        ("bearer authentication in fastapi", "bearer authentication in fastapi"),
        ("./home/x and https://home/x", "./home/x and https://home/x"),
    ],
)
def test_a_query_is_one_line_without_hidden_characters(query: str, cleaned: str) -> None:
    assert cleaned_query(query) == cleaned


@pytest.mark.parametrize(
    "query",
    [
        "why does AKIAIOSFODNN7EXAMPLE not work",
        "boto3 ghp_" + "a1B2" * 9,
        "open sk-proj-" + "aB3_" * 12,
        "password=correct-horse-1",
        "postgres://me:hunter22@db.internal/x",
        "read /home/anna/secret/plan.txt",
        "open ~/.ssh/id_rsa",
        r"open C:\Users\anna\plan.docx",
        "write to anna.smith@firm.io",
        "decode 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "DB_PASSWORD=correct-horse-1",
        "AWS_SECRET_ACCESS_KEY=abcd/efgh1234",
        '{"password": "correct-horse"}',
        "password: letmeinplease",
        "Authorization: Bearer abcdefghijklmnop123",
        "open file:///home/anna/plan.txt",
        "PATH=/usr/bin:/home/anna/bin",
        "C:/Users/anna/plan.docx",
        "x " * 200 + "password=correct-horse-1",  # behind the 256 characters that would be sent
    ],
)
def test_t_13_a_query_with_a_secret_or_a_path_of_the_users_is_refused(query: str) -> None:
    with pytest.raises(Refused) as refused:
        cleaned_query(query)
    assert refused.value.reason == "secret"
    assert query not in str(refused.value)


@pytest.mark.parametrize("query", ["", " \n\t", "\u200b\u202e", 5, None, ["json"], "x" * 20_000])
def test_nothing_to_search_for_is_refused(query: object) -> None:
    with pytest.raises(Refused) as refused:
        cleaned_query(query)  # type: ignore[arg-type]
    assert refused.value.reason == "query"
