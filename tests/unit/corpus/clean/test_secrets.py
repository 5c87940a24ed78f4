"""Secrets and personal data are masked by kind; what only looks like one stays. All values are drawn or made up."""

import base64
import random
import re
import string

import pytest

from app.corpus.clean.cleaning import masked
from app.corpus.clean.masks import apart, mask
from app.corpus.clean.personal import find_emails, find_personal
from app.corpus.clean.secrets import find_secrets, forms

DRAWN = random.Random(24)
HEX, BASE62, LOWER = "0123456789abcdef", string.ascii_letters + string.digits, string.ascii_lowercase + string.digits
URL64, BASE64 = BASE62 + "-_", BASE62 + "/+"


def drawn(size: int, letters: str = BASE62) -> str:
    return "".join(DRAWN.choice(letters) for _ in range(size))


def learnt(text: str) -> str:
    """The code as it is learnt; it still parses."""
    return masked(text, apart([*find_secrets(text), *find_personal(text)]))[0]


PEM = "\n".join(drawn(64, BASE64) for _ in range(12))
BY_FORM = {
    "AWS key": ("AKIA" + drawn(16, string.ascii_uppercase + "234567"), "<API_KEY>"),
    "GitHub token": ("ghp_" + drawn(36), "<TOKEN>"),
    "GitHub fine-grained token": ("github_pat_" + drawn(22) + "_" + drawn(59), "<TOKEN>"),
    "GitLab token": ("glpat-" + drawn(20), "<TOKEN>"),
    "Slack token": ("xoxb-" + "123456789012-" + drawn(24), "<TOKEN>"),
    "Google key": ("AIza" + drawn(35, URL64), "<API_KEY>"),
    "Anthropic key": ("sk-ant-api03-" + drawn(93, URL64) + "AA", "<API_KEY>"),
    "OpenAI key": ("sk-" + drawn(48), "<API_KEY>"),
    "OpenRouter key": ("sk-or-v1-" + drawn(64, HEX), "<API_KEY>"),
    "Stripe key": ("sk_live_" + drawn(24), "<API_KEY>"),
    "Twilio key": ("SK" + drawn(32, HEX), "<API_KEY>"),
    "SendGrid key": ("SG." + drawn(22, URL64) + "." + drawn(43, URL64), "<API_KEY>"),
    "Mailchimp key": (drawn(32, HEX) + "-us12", "<API_KEY>"),
    "Hugging Face token": ("hf_" + drawn(34, string.ascii_letters), "<TOKEN>"),
    "npm token": ("npm_" + drawn(36), "<TOKEN>"),
    "PyPI token": ("pypi-AgEIcHlwaS5vcmc" + drawn(80, URL64), "<TOKEN>"),
    "DigitalOcean token": ("dop_v1_" + drawn(64, HEX), "<TOKEN>"),
    "Databricks token": ("dapi" + drawn(32, HEX), "<TOKEN>"),
    "Vault token": ("hvs." + drawn(96, URL64), "<TOKEN>"),
    "Azure client password": (drawn(3) + "8Q~" + drawn(34), "<API_KEY>"),
    "Telegram token": ("123456789:AA" + drawn(33, URL64), "<TOKEN>"),
    "JSON web token": ("eyJ" + drawn(20) + ".eyJ" + drawn(40) + "." + drawn(43, URL64), "<TOKEN>"),
}
BY_PLACE = {
    "password with a sign": ('password = "VALUE"', "Tr0ub4dor&3xyz"),
    "password in a dictionary": ('CONFIG = {"user": "root", "password": "VALUE"}', "hunter2hunter2"),
    "password of an application": ('smtp_password = "VALUE"', "abcd efgh ijkl mnop"),
    "password with an annotation": ('password: str = "VALUE"', "P@ssw0rd123456789012345"),
    "password of an argument": ('db = connect("db.acme.io", user="root", password="VALUE")', "otter4476copper"),
    "password by default": ('os.environ.get("DB_PASSWORD", "VALUE")', "Violet1999!"),
    "password of an option": ('parser.add_argument("--password", help="of the user", default="VALUE")', "m4ple&st0ne7"),
    "password compared": ('if password == "VALUE":\n    pass', "k!tten-Wr3nch"),
    "password of a command": ('command = "mysqldump -u root --password=VALUE db"', "gT7pLq2xWz9c"),
    "password of a connection": ('dsn = "host=db user=app password=VALUE dbname=prod"', "b8mR4tYq1zKs"),
    "password of settings in a text": ('ENV = """\nDB_HOST=db\nDB_PASSWORD=VALUE\n"""', "Jq7sWm2nXc4p"),
    "pass phrase": ('passphrase = "VALUE"', "otter piano maple copper"),
    "password in an address": ('DB = "postgres://svc:VALUE@db.acme.io:5432/prod"', "Xk9vQ2mL7p"),
    "password without a user": ('CACHE = "redis://:VALUE@cache.acme.io:6379/0"', "s3cr3tpass"),
    "password of a pair": ('requests.get(url, auth=("admin", "VALUE"))', "Wn7!kQz28vB"),
    "password of a login": ('server.login("jane", "VALUE")', "Wn7!kQz28vB"),
    "login in a comment": ("x = 1  # staging login: admin / VALUE", "Wn7!kQz28vB"),
    "curl's user": ('command = "curl -u admin:VALUE https://api.acme.io"', "Wn7.kQz28vB"),
    "32 hexadecimal digits": ('api_key = "VALUE"', drawn(32, HEX)),
    "20 hexadecimal digits": ('api_key = "VALUE"', "a3f09c17e58b2d46f1e0"),
    "key of a service account": ('ACCOUNT = {"private_key_id": "VALUE"}', drawn(40, HEX)),
    "UUID": ('HEROKU_API_KEY = "VALUE"', "c0ffe9a1-52d7-4b0e-9a63-7f1d2e8b4c90"),
    "AWS session token": ('aws_session_token = "VALUE"', "IQoJb3JpZ2luX2Vj" + drawn(200, BASE64)),
    "AWS secret by position": ('session = Session("AKIA2222222222222222", "VALUE")', "q7Yk/" + drawn(35, BASE64)),
    "Django's key": ("SECRET_KEY = 'VALUE'", "django-insecure-" + drawn(50, LOWER + "!@#$%^&*(-_=+)")),
    "key by default": ('key = os.environ.get("API_KEY", "VALUE")', "h9Mz" + drawn(36)),
    "key of a list": ('API_KEYS = [\n    "' + drawn(32) + '",\n    "VALUE",\n]', "f7iX4" + drawn(27)),
    "key in JSON": ('text = \'{"client_secret": "VALUE"}\'', "Zq4" + drawn(29)),
    "key of a query": ('url = "https://api.acme.io/v1?api_key=VALUE&page=2"', "K5AL" + drawn(28)),
    "basic authorisation": ('H = {"Authorization": "Basic VALUE"}', base64.b64encode(b"admin:Sup3rS3cretPw").decode()),
    "bearer": ('H = {"Authorization": "Bearer VALUE"}', "x7Pq" + drawn(36)),
    "X-Api-Key": ('H = {"X-Api-Key": "VALUE"}', "u3Gd" + drawn(28)),
    "session cookie": ('cookies = {"sessionid": "VALUE"}', "k2v0" + drawn(28, LOWER)),
    "token in an address": ('REMOTE = "https://x-access-token:VALUE@github.com/acme/w"', "ghs_" + drawn(36)),
    "Sentry's address": ('DSN = "https://VALUE@o123456.ingest.sentry.io/1234567"', drawn(32, HEX)),
    "Slack's hook": ('U = "https://hooks.slack.com/services/VALUE"', "T0AB12CD3/B0EF45GH6/" + drawn(24)),
    "Discord's hook": ('U = "https://discord.com/api/webhooks/VALUE"', "679352841539257657/" + drawn(68, URL64)),
    "Azure's storage": ('c = "AccountName=a;AccountKey=VALUE;X=y"', base64.b64encode(DRAWN.randbytes(64)).decode()),
    "private key": (f'K = """-----BEGIN RSA {"PRIVATE"} KEY-----\nVALUE\n-----END RSA {"PRIVATE"} KEY-----"""', PEM),
    "encrypted private key": (
        f'K = """-----BEGIN RSA {"PRIVATE"} KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,'
        f"{'0F' * 16}\n\nVALUE\n"
        f'-----END RSA {"PRIVATE"} KEY-----"""',
        PEM,
    ),
    "IPv4 address": ('CONTACT = "VALUE"', "81.2.69.142"),
    "IPv6 address": ('CONTACT = "VALUE"', "2a02:db8:b82:4ee0::17"),
    "telephone": ('CONTACT = "VALUE"', "+49 30 23125 042"),
    "telephone of the United States": ('CONTACT = "VALUE"', "(415) 555-0132"),
    "telephone under a name": ('CONTACT = {"phone": "VALUE"}', "030 23125042"),
    "card": ('CONTACT = "VALUE"', "4111 1111 1111 1111"),
    "IBAN": ('CONTACT = "VALUE"', "DE89 3704 0044 0532 0130 00"),
    "e-mail address": ('CONTACT = "VALUE"', "jane.doe@acme-widgets.com"),
    "e-mail with other letters": ('CONTACT = "VALUE"', "kontakt@müller-beispiel.de"),
    "e-mail in words": ('CONTACT = "VALUE"', "someone at acme-widgets dot com"),
    "e-mail in brackets": ('CONTACT = "VALUE"', "jane.doe [at] acme (dot) co (dot) uk"),
    "e-mail as a link": ('CONTACT = "mailto:VALUE"', "jane@acme-widgets.io"),
}


@pytest.mark.parametrize("kind", BY_FORM)
def test_keys_of_known_form_are_masked_whole(kind: str) -> None:
    secret, placeholder = BY_FORM[kind]
    for before, after in (("x = '", "'\n"), ("# use ", " here\n"), ('call(headers={"A": "x', '"})\n')):
        before = before.replace('"x', '"\\n') if after.startswith('"') else before
        text = before + secret + after
        assert mask(text, find_secrets(text)) == before + placeholder + after


@pytest.mark.parametrize("kind", BY_PLACE)
def test_what_its_name_or_place_tells_is_masked_and_the_code_beside_it_stays(kind: str) -> None:
    line, value = BY_PLACE[kind]
    text = "import os\n\n" + line.replace("VALUE", value) + "\n"
    found = learnt(text)
    assert value not in found and value[: len(value) // 2] not in found
    assert re.search(r"<[A-Z_]+>", found) and found.startswith("import os\n\n" + line[:6])


@pytest.mark.parametrize(
    "text",
    [
        "password = 'changeme'\n",
        "password = 'your-password-here'\n",
        "password = 'my_secret_password_1'\n",
        "password = '<PASSWORD>'\n",
        "password = f'{user}-{number:04d}'\n",
        "password = 'Enter a password of 8 characters or more!'\n",
        "password = get_password2(user1, host2)\n",
        "{'password': 'user_password_field2'}\n",
        "pwd_context = CryptContext(schemes=['pbkdf2_sha256'])\n",
        "api_key = 'your-api-key-goes-here-2024'\n",
        "api_key = 'sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'\n",
        "token = 'pad_token_id_for_generation_2'\n",
        "token = 'Sam3TrackerVideoPreTrainedModel'\n",
        "__all__ = ['TokenMixin', 'JinaEmbeddingsV3ForQuestionAnswering']\n",
        "secret_key = os.environ['SERVICE_SECRET_KEY_2']\n",
        "url = 'amqp://guest:guest@localhost:5672'\n",
        f"sha256 = '{HEX}{HEX[::-1]}'\n",
        "token_sha256 = '" + drawn(64, HEX) + "'\n",
        "assert digest(b'') == '" + drawn(32, HEX) + "'\n",
        "key = 'data/year=2019/month=6/part-0f1e2d3c4b5a6978.parquet'\n",
        "name = 'sk-learn-contrib'\n",
        "marker = '-----BEGIN PRIVATE " + "KEY-----'\n",
        "host = '192.168.17.40'\n",
        "documented = '203.0.113.77', '2001:db8::17'\n",
        "__version__ = '65.104.33.140'\n",
        "agent = 'Chrome/91.0.4472.124'\n",
        "route = '81.2.69.0/24'\n",
        "extension = ObjectIdentifier('2.5.29.37')\n",
        "started = '12:30:45', x[1:2:3]\n",
        "numbers = '1234 5678 9012 3456', '415-555', '+1', '2024-01-02 10:11'\n",
        "url = 'github://org:repo@sha/precip/catalog.yml'\n",
        "# First pass: decided_mask==0, every element\n",
        "# Next page token: eav1OzQB0OM8rLdGXOEsyQWSG\n",
        "page = {'next_page_token': 'eav1OzQB0OM8rLdGXOEsyQWSG'}\n",
        "ray.init('ray://123.45.67.89:10001')  # or 2002:7f00:1::\n",
        "left = matrix at least dot product is small\n".replace("left = ", "# "),
    ],
)
def test_placeholders_names_checksums_and_numbers_of_other_kinds_stay(text: str) -> None:
    assert learnt(text) == text


def test_a_private_key_goes_whole_and_its_string_stays_a_string() -> None:
    begin, end = "-----BEGIN RSA " + "PRIVATE KEY-----", "-----END RSA " + "PRIVATE KEY-----"
    text = f'KEY = """{begin}\n{PEM}\n{end}"""\n'
    assert learnt(text) == 'KEY = """<PRIVATE_KEY>"""\n'


def test_a_password_in_an_address_is_masked_and_a_placeholder_is_not() -> None:
    text = "url = 'postgresql://admin:h0rse-battery@db.firm.io:5432/main'\n"
    assert mask(text, find_secrets(text)) == "url = 'postgresql://admin:<PASSWORD>@db.firm.io:5432/main'\n"
    for shown in ("user:password@host", "user:pass@host", "{user}:{password}@host", "user:xxx@host", "user:%s@host"):
        assert find_secrets(f"url = 'postgresql://{shown}/main'\n") == []


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
        "sk-ssh-ed25519@openssh.com",
        "foo@1.bar",
        "a@b.com",
        "001Z@google.golang.org/genproto",
        "you@yourdomain.com",
        "a @ b.T",
        "f(x)@w.mean",
        "user@host",
    ):
        assert find_emails(f"text = '{other}'\n" if "(" not in other else other) == [], other


def test_no_secret_is_missed_for_want_of_its_anchor() -> None:
    """A form is looked for only where its anchor stands."""
    for form in forms():
        assert all(anchor == anchor.lower() and len(anchor) > 1 for anchor in form.anchors), form.id
        found = [secret for secret, _ in BY_FORM.values() if form.pattern.match(secret)]
        assert all(any(anchor in secret.lower() for anchor in form.anchors) for secret in found), form.id


def test_letters_that_change_their_length_in_lower_case_move_no_mask() -> None:
    text = "# İİİ\npassword = 'Tr0ub4dor&3xyz'\n"
    assert learnt(text) == "# İİİ\npassword = '<PASSWORD>'\n"


def test_half_a_surrogate_pair_hides_nothing_and_ends_nothing() -> None:
    key, phone = f"sk-proj-{drawn(48)}", "+49 30 901820"
    text = f'icon = "\ud83d"  # \ude00\nOPENAI_API_KEY = "{key}"\nphone = "{phone}"\n'
    spans = apart([*find_secrets(text), *find_personal(text)])
    assert [text[start:end] for start, end, _ in spans] == [key, phone]
