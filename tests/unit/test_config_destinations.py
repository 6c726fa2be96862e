"""Destinations in config.yaml: what a fetcher is told, what is refused and with which remedy, and no secret in any of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from inboxd.config.destinations import Destination
from inboxd.config.load import describe, destination_specs, source_specs
from inboxd.config.models import Config
from inboxd.config.schema import schema
from inboxd.errors import ConfigError
from inboxd.wire import SourceSetup, SourceSpec, decode, encode
from support.settings import loaded, refused, with_inbox

CANARY = "canary-7c1f"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary-7c1f\n-----END OPENSSH PRIVATE KEY-----"

EVERYTHING = f"""\
inboxes:
  orders:
    root: orders
    handler: {{python: "a:b"}}
    sent: delete
    destinations:
      partner-api:
        http:
          url: https://partner.example/inbox/{{id}}?name={{name}}&token={CANARY}
          method: POST
          content_type: text/csv; charset=utf-8
          headers: {{Accept: application/json, X-Tenant: {CANARY}}}
          auth: {{basic: {{user: acme, password: {CANARY}}}}}
          certificate: {{file: pems/client.pem, key: pems/client.key}}
          authority: pems/ca.pem
          known: [409]
          cleartext: false
        match: ["*.csv"]
        timeout: {{connect: 5s, idle: 1m, total: 10m}}
        retry: {{max_failures: 7, first: 2s, longest: 1h}}
        parallel: 3
  others:
    root: others
    handler: {{python: "a:b"}}
    destinations:
      bank:
        sftp: {{host: sftp.bank.example, port: 2222, user: acme, key: {{file: bank.key}}, passphrase: {CANARY},
               password: {CANARY}, known_hosts: known_hosts, path: /in, replace: true}}
      lake:
        store: {{url: "s3://bucket/prefix", options: {{key: k, secret: {CANARY}}}, replace: false}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the examples name."""
    (tmp_path / "pems").mkdir()
    for name in ("known_hosts", "pems/client.pem", "pems/client.key", "pems/ca.pem"):
        (tmp_path / name).touch()
    (tmp_path / "bank.key").write_text(KEY + "\n")
    return tmp_path


@pytest.fixture
def config(folder: Path) -> Config:
    return loaded(folder, EVERYTHING)


def _destination(config: Config, name: str) -> Destination:
    return next(inbox.destinations[name] for inbox in config.inboxes.values() if name in inbox.destinations)


def test_what_a_fetcher_is_told(folder: Path, config: Config) -> None:
    specs = destination_specs(config)
    assert source_specs(config) == {}
    assert specs["partner-api"] == SourceSpec(
        "http",
        {
            "url": f"https://partner.example/inbox/{{id}}?name={{name}}&token={CANARY}",
            "method": "POST",
            "content_type": "text/csv; charset=utf-8",
            "headers": {"Accept": "application/json", "X-Tenant": CANARY},
            "auth": {"basic": {"user": "acme", "password": CANARY}},
            "certificate": {"file": f"{folder}/pems/client.pem", "key": f"{folder}/pems/client.key"},
            "authority": f"{folder}/pems/ca.pem",
            "known": [409],
            "cleartext": False,
        },
        5.0, 60.0, 600.0, sends=True,
    )  # fmt: skip
    assert specs["bank"].place == {
        "host": "sftp.bank.example", "port": 2222, "user": "acme", "key": KEY, "passphrase": CANARY, "password": CANARY,
        "known_hosts": f"{folder}/known_hosts", "path": "/in", "replace": True,
    }  # fmt: skip
    assert specs["lake"].place == {
        "url": "s3://bucket/prefix", "options": {"key": "k", "secret": CANARY}, "replace": False,
    }  # fmt: skip
    for name, spec in specs.items():
        told = SourceSetup(name, spec)
        assert spec.sends and decode(encode(told)[4:]) == told


def test_values_and_defaults(config: Config, tmp_path: Path) -> None:
    assert (config.inboxes["orders"].sent, config.inboxes["others"].sent) == ("delete", "keep")
    chosen, usual = _destination(config, "partner-api"), _destination(config, "lake")
    assert (chosen.match, chosen.parallel, chosen.retry.limits.max_failures) == (["*.csv"], 3, 7)
    assert (usual.match, usual.parallel, usual.retry.limits.max_failures) == (["*"], 2, 5)
    assert (usual.timeout.connect, usual.timeout.idle, usual.timeout.total) == (10.0, 1800.0, 1860.0)
    plain = loaded(tmp_path, with_inbox("destinations: {d: {http: {url: 'https://h/{name}'}}}"))
    assert destination_specs(plain)["d"].place == {
        "url": "https://h/{name}", "method": "PUT", "content_type": "application/octet-stream", "headers": {}, "auth": None,
        "certificate": None, "authority": None, "known": [], "cleartext": False,
    }  # fmt: skip


def test_the_schema_knows_all_of_it() -> None:
    assert list(Draft202012Validator(schema()).iter_errors(yaml.safe_load(EVERYTHING))) == []


@pytest.mark.parametrize(
    "text", ["{}", "{http: {url: 'https://h/{id}'}, store: {url: 'memory://'}}", "{sftp: {host: h, user: u}}"]
)
def test_what_an_editor_can_know(text: str) -> None:
    whole = yaml.safe_load(with_inbox(f"destinations: {{d: {text}}}"))
    assert list(Draft202012Validator(schema()).iter_errors(whole))


def test_addresses_for_people(config: Config) -> None:
    assert {name: _destination(config, name).address for name in destination_specs(config)} == {
        "partner-api": "https://partner.example/inbox/{id}",
        "bank": "sftp://sftp.bank.example:2222/in",
        "lake": "s3://bucket/prefix",
    }


# No secret is shown


def test_no_secret_in_a_repr(config: Config) -> None:
    assert CANARY not in repr(config) + str(config)


def test_no_secret_in_what_a_reload_changes(folder: Path, config: Config) -> None:
    changed = EVERYTHING.replace(CANARY, "other-9d2e").replace("parallel: 3", "parallel: 4")
    changed = changed.replace("sent: delete", "sent: keep").replace("replace: true", "replace: false")
    start = "inboxes.orders.destinations.partner-api"
    assert describe(config, loaded(folder, changed)) == [
        f"{start}.http.url changed", f"{start}.http.headers.X-Tenant changed", f"{start}.http.auth.basic.password changed",
        f"{start}.parallel was 3, now 4", "inboxes.orders.sent was delete, now keep",
        "inboxes.others.destinations.bank.sftp.passphrase changed", "inboxes.others.destinations.bank.sftp.password changed",
        "inboxes.others.destinations.bank.sftp.replace was true, now false",
        "inboxes.others.destinations.lake.store.options changed",
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", ["{deep: [canary-7c1f]}", '"canary-7c1f\\n"', "5.canary-7c1f"])
@pytest.mark.parametrize("number", range(EVERYTHING.count(CANARY)))
def test_no_secret_in_a_refusal(folder: Path, number: int, wrong: str) -> None:
    """Each of them with something wrong, or so that the YAML around it breaks."""
    parts = EVERYTHING.split(CANARY)
    try:
        loaded(folder, CANARY.join(parts[: number + 1]) + wrong + CANARY.join(parts[number + 1 :]))
    except ConfigError as error:
        assert CANARY not in str(error) + "".join(error.problems)


# What is refused

_SSH = "host: h, user: u, password: p, known_hosts: known_hosts"
HTTP = [
    ("{}", ".url", "is missing"),
    ("{url: 'ftp://h/{id}'}", ".url", "write an http or https URL with a host"),
    ("{url: 'https://u:p@h/{id}'}", ".url", "leave user and password out"),
    ("{url: 'https://{name}.h/'}", ".url", "not into the host"),
    ("{url: 'https://h/{name}?v={version}'}", ".url", "there is no {version} to fill in; known: {id}, {name}"),
    ("{url: 'https://h/{name}{'}", ".url", "as %7B and %7D"),
    ("{url: 'https://h/in'}", "", "every result would be PUT to the same 'url'; write {name} or {id} into it, or 'method: POST'"),
    ("{url: 'https://h/{id}', method: PATCH}", ".method", "expected PUT or POST"),
    ("{url: 'https://h/{id}', content_type: csv}", ".content_type", "expected text such as text/csv"),
    ("{url: 'https://h/{id}', content_type: \"text/csv\\r\\nX: y\"}", ".content_type", "expected text such as text/csv"),
    ("{url: 'https://h/{id}', headers: {Content-Type: text/csv}}", "", "can't set Content-Type: write 'content_type' instead"),
    ("{url: 'https://h/{id}', headers: {idempotency-key: a}}", "", "can't set idempotency-key: inboxd sends it itself; remove"),
    ("{url: 'https://h/{id}', headers: {X-Key: \"a\\nb\"}}", ".headers.X-Key", "leave control characters"),
    ("{url: 'https://h/{id}', auth: secret}", ".auth", "write one of {basic:"),
    ("{url: 'http://h/{id}', auth: {bearer: a}}", "", "would go to h in clear text; write https:// in 'url', or 'cleartext: true'"),
    ("{url: 'http://h/{id}', headers: {X-Key: a}}", "", "in clear text"),
    ("{url: 'http://h/{id}', certificate: {file: known_hosts, key: known_hosts}}", "", "'certificate' needs an https:// URL"),
    ("{url: 'https://h/{id}', authority: none.pem}", ".authority", "none.pem; name one in PEM"),
    ("{url: 'https://h/{id}', known: [200]}", ".known[0]", "at least 400"),
    ("{url: 'https://h/{id}', known: [500]}", ".known[0]", "at most 499"),
    ("{url: 'https://h/{id}', known: [409, 401]}", "", "401 in 'known' would lose results: it says that we are not let in; remove"),
    ("{url: 'https://h/{id}', known: [429]}", "", "429 in 'known' would lose results: it says that it has too much to do"),
    ("{url: 'https://h/{id}', redirects: none}", ".redirects", "unknown key; known here: url, method"),
]  # fmt: skip

SFTP = [
    ("{host: h, user: u, known_hosts: known_hosts}", "", "give 'key', 'password' or both"),
    ("{host: h, user: u, password: p, known_hosts: none}", ".known_hosts", "make it with: ssh-keyscan HOST"),
    (f"{{{_SSH}, passphrase: p}}", "", "'passphrase' is for a 'key'"),
    (f"{{{_SSH}, after: delete}}", ".after", "unknown key; known here: host, port"),
    (f"{{{_SSH}, replace: 1}}", ".replace", "true or false"),
]

STORE = [
    ("{url: bucket}", ".url", "write the URL of a folder with its protocol"),
    ("{url: 'sftp://h/x'}", ".url", "write this as sftp:"),
    ("{url: 's3://b', replace: always}", ".replace", "true or false"),
]

_FINE = "store: {url: 'memory://'}"
ANY = [
    ("{}", "", "give exactly one of 'http', 'sftp' and 'store' (given: none)"),
    (f"{{{_FINE}, http: {{url: 'https://h/{{id}}'}}}}", "", "(given: http, store)"),
    ("{ftp: {host: h}}", ".ftp", "unknown key"),
    (f"{{{_FINE}, match: []}}", ".match", "at least 1 entry"),
    (f"{{{_FINE}, match: [a/b]}}", ".match[0]", "leave the / out"),
    (f"{{{_FINE}, parallel: 0}}", ".parallel", "at least 1"),
    (f"{{{_FINE}, parallel: 999999999999999999}}", ".parallel", "at most 1024"),
    (f"{{{_FINE}, timeout: {{connect: 1m, total: 10s}}}}", ".timeout", "'total' (10s) is shorter than 'connect' (1m)"),
    (f"{{{_FINE}, retry: {{first: 1h}}}}", ".retry", "'first' (1h) is longer than 'longest' (5m)"),
    (f"{{{_FINE}, every: 1m}}", ".every", "unknown key"),
]

ALL = [
    *((f"{{http: {text}}}", f".http{key}", words) for text, key, words in HTTP),
    *((f"{{sftp: {text}}}", f".sftp{key}", words) for text, key, words in SFTP),
    *((f"{{store: {text}}}", f".store{key}", words) for text, key, words in STORE),
    *ANY,
]


@pytest.mark.parametrize(("text", "key", "words"), ALL)
def test_refusals(folder: Path, text: str, key: str, words: str) -> None:
    """Beside a mistake elsewhere: it is told with all others."""
    problems = refused(folder, with_inbox(f"destinations:\n  d: {text}", top="colour: blue"))
    assert len(problems) == 2, problems
    assert problems[1].startswith(f"7: inboxes.a.destinations.d{key}: "), problems
    assert words in problems[1]


@pytest.mark.parametrize(
    "text",
    [
        "{http: {url: 'https://h/in', method: POST}}",
        "{http: {url: 'https://h/in?id={id}', known: [409, 412]}}",
        "{http: {url: 'http://127.0.0.1:8080/{name}', auth: {bearer: a}}}",
        "{http: {url: 'http://h/{name}', auth: {bearer: a}, cleartext: true}}",
        f"{{sftp: {{{_SSH}}}}}",
        "{store: {url: 'file:///srv/out', options: {auto_mkdir: true}, replace: true}}",
    ],
)
def test_what_is_fine(folder: Path, text: str) -> None:
    """For the schema, too."""
    whole = with_inbox(f"destinations: {{d: {text}}}")
    assert list(destination_specs(loaded(folder, whole))) == ["d"]
    assert list(Draft202012Validator(schema()).iter_errors(yaml.safe_load(whole))) == []


def test_what_becomes_of_what_is_never_sent(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, with_inbox("sent: delete"))
    assert problem == (
        "3: inboxes.a: 'sent' is about results that 'destinations' have; add those, or remove it"
    )  # fmt: skip
    (problem,) = refused(tmp_path, with_inbox("destinations: {d: {store: {url: 'memory://'}}}\nsent: move"))
    assert "7: inboxes.a.sent: expected keep or delete" in problem


@pytest.mark.parametrize("first", ["sources: {s: {ftp: {host: h}}}", "destinations: {s: {store: {url: 'memory://'}}}"])
def test_names_are_unique_among_sources_and_destinations(tmp_path: Path, first: str) -> None:
    lines = [first, "destinations: {t: {store: {url: 'memory://'}}, s: {store: {url: 'memory://'}}}"]
    inboxes = [
        f"  {name}:\n    root: {name}\n    handler: {{python: 'a:b'}}\n    {lines[n]}" for n, name in enumerate("ab")
    ]
    (problem,) = refused(tmp_path, "inboxes:\n" + "\n".join(inboxes))
    kind = first.partition(":")[0].removesuffix("s")
    assert problem == (
        f"9: inboxes.b.destinations.s: inbox a has a {kind} of this name already (line 5); "
        "give each source and destination a name of its own"
    )


def test_a_library_that_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paramiko", None)
    (problem,) = refused(folder, with_inbox(f"destinations: {{d: {{sftp: {{{_SSH}}}}}}}"))
    assert "inboxes.a.destinations.d: the library paramiko is not installed; run: pip install 'inboxd[sftp]'" in problem


def test_references(folder: Path) -> None:
    """Anywhere in a destination, but for its name."""
    (folder / "token").write_text(CANARY + "\n")
    text = "destinations: {file: {http: {url: 'https://h/{id}', auth: {bearer: {file: token}}}}}"
    assert destination_specs(loaded(folder, with_inbox(text)))["file"].place["auth"] == {"bearer": CANARY}
