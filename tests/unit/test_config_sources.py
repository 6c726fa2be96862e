"""Sources in config.yaml: what a fetcher is told, what is refused and with which remedy, and no secret in any of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from inboxd.config.load import describe, source_specs
from inboxd.config.models import Config
from inboxd.config.schema import schema
from inboxd.config.sources import Source
from inboxd.errors import ConfigError
from inboxd.wire import SourceSetup, SourceSpec, decode, encode
from support.settings import loaded, refused, with_inbox

CANARY = "canary-7c1f"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary-7c1f\n-----END OPENSSH PRIVATE KEY-----"

EVERYTHING = f"""\
durability: process
inboxes:
  orders:
    root: orders
    handler: {{python: "a:b"}}
    expect: {{by: "06:30", weekdays: [mon, tue, wed, thu, fri], at_least: 1, zone: Europe/Berlin}}
    sources:
      partner-api:
        http:
          list: https://partner.example/api/outbox?token={CANARY}
          form: auto
          items: "files[].{{id: id, name: name, url: links.self, size: bytes, sha256: sha256, version: etag}}"
          next: {{cursor: "next_cursor", parameter: after}}
          url: "https://cdn.example/{CANARY}/{{id}}?version={{version}}"
          headers: {{Accept: application/json, X-Tenant: {CANARY}}}
          auth: {{basic: {{user: acme, password: {CANARY}}}}}
          certificate: {{file: pems/client.pem, key: pems/client.key}}
          authority: pems/ca.pem
          ack: {{method: POST, url: "https://PARTNER.example:443/ack", body: '{{"id": "{{id}}", "k": "{CANARY}"}}', when: held, gone: [404, 410]}}
          redirects: none
          origins: [https://cdn.example/]
          cleartext: false
        cron: "*/5 6-20 * * 1-5"
        zone: Europe/Berlin
        match: ["*.csv"]
        ignore: ["old*"]
        ignore_temporary: true
        timeout: {{connect: 10s, idle: 30m, total: 31m}}
        min_speed: 1KiB
        retry: {{max_failures: 5, first: 1s, longest: 5m}}
        max_size: 3GiB
        max_items: 1000
        parallel: 2
        quota: {{items: 10000, bytes: 10GiB, per: 1d}}
        backlog: 500
        expect: {{by: "16:30", zone: UTC}}
  others:
    root: others
    handler: {{python: "a:b"}}
    sources:
      bank:
        sftp: {{host: sftp.bank.example, port: 2222, user: acme, key: {{file: bank.key}}, passphrase: {CANARY},
               password: {CANARY}, known_hosts: known_hosts, path: /out, recursive: true, after: delete, when: processed}}
        every: 5m
      old:
        ftp: {{host: ftp.example, port: 2121, user: u, password: {CANARY}, tls: explicit, authority: pems/ca.pem, path: /out,
              after: {{move: done/ours}}}}
      lake:
        store: {{url: "s3://bucket/prefix", options: {{key: k, secret: {CANARY}, client_kwargs: {{proxy: {CANARY}, retries: 3}}}},
                after: leave}}
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


def _source(config: Config, name: str) -> Source:
    return next(inbox.sources[name] for inbox in config.inboxes.values() if name in inbox.sources)


def test_what_a_fetcher_is_told(folder: Path, config: Config) -> None:
    specs = source_specs(config)
    assert list(specs) == ["partner-api", "bank", "old", "lake"]
    assert specs["partner-api"] == SourceSpec(
        "http",
        {
            "list": f"https://partner.example/api/outbox?token={CANARY}",
            "form": "auto",
            "items": "files[].{id: id, name: name, url: links.self, size: bytes, sha256: sha256, version: etag}",
            "next": {"cursor": "next_cursor", "parameter": "after"},
            "url": f"https://cdn.example/{CANARY}/{{id}}?version={{version}}",
            "headers": {"Accept": "application/json", "X-Tenant": CANARY},
            "auth": {"basic": {"user": "acme", "password": CANARY}},
            "certificate": {"file": f"{folder}/pems/client.pem", "key": f"{folder}/pems/client.key"},
            "authority": f"{folder}/pems/ca.pem",
            "ack": {
                "method": "POST", "url": "https://PARTNER.example:443/ack", "body": f'{{"id": "{{id}}", "k": "{CANARY}"}}',
                "when": "held", "gone": [404, 410],
            },
            "redirects": "none",
            "origins": ["https://cdn.example"],
            "cleartext": False,
        },
        10.0, 1800.0, 1860.0, 1024, 3 << 30, 1000, False,
    )  # fmt: skip
    assert specs["bank"] == SourceSpec(
        "sftp",
        {
            "host": "sftp.bank.example", "port": 2222, "user": "acme", "key": KEY, "passphrase": CANARY, "password": CANARY,
            "known_hosts": f"{folder}/known_hosts", "path": "/out", "recursive": True, "after": "delete", "when": "processed",
        },
        10.0, 1800.0, 1860.0, durable=False,
    )  # fmt: skip
    assert specs["old"].place == {
        "host": "ftp.example", "port": 2121, "user": "u", "password": CANARY, "tls": "explicit",
        "authority": f"{folder}/pems/ca.pem", "cleartext": False, "path": "/out", "after": {"move": "done/ours"}, "when": "held",
    }  # fmt: skip
    assert specs["lake"].place == {
        "url": "s3://bucket/prefix", "after": "leave", "when": "held",
        "options": {"key": "k", "secret": CANARY, "client_kwargs": {"proxy": CANARY, "retries": 3}},
    }  # fmt: skip
    for name, spec in specs.items():
        told = SourceSetup(name, spec)
        assert decode(encode(told)[4:]) == told


def test_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, with_inbox("sources: {s: {http: {list: 'https://h/'}}}"))
    spec = source_specs(config)["s"]
    assert (spec.max_size, spec.max_items, spec.min_speed, spec.durable) == (2 << 30, 100_000, 0, True)
    assert spec.place == {
        "list": "https://h/", "form": "auto", "items": None, "next": None, "url": None, "headers": {}, "auth": None,
        "certificate": None, "authority": None, "ack": None, "redirects": "none", "origins": [], "cleartext": False,
    }  # fmt: skip
    source = _source(config, "s")
    assert (source.every, source.cron, source.parallel, source.backlog) == (60.0, None, 4, 10_000)
    limits = source.retry.limits
    assert (limits.max_failures, limits.first, limits.longest) == (5, 1.0, 300.0)


def test_the_schema_knows_all_of_it() -> None:
    validator = Draft202012Validator(schema())
    assert list(validator.iter_errors(yaml.safe_load(EVERYTHING))) == []


def test_addresses_for_people(config: Config) -> None:
    assert {name: _source(config, name).address for name in source_specs(config)} == {
        "partner-api": "https://partner.example/api/outbox",
        "bank": "sftp://sftp.bank.example:2222/out",
        "old": "ftp://ftp.example:2121/out",
        "lake": "s3://bucket/prefix",
    }


# No secret is shown


def test_no_secret_in_a_repr(config: Config) -> None:
    assert CANARY not in repr(config) + str(config)
    assert "partner.example" not in repr(_source(config, "partner-api").http)


def test_no_secret_in_what_a_reload_changes(folder: Path, config: Config) -> None:
    changed = EVERYTHING.replace(CANARY, "other-9d2e").replace("parallel: 2", "parallel: 3")
    changed = changed.replace("items: 10000", "items: 9000").replace("after: delete", "after: {move: d}")
    told = describe(config, loaded(folder, changed))
    start = "inboxes.orders.sources.partner-api"
    assert told == [
        f"{start}.http.list changed", f"{start}.http.url changed", f"{start}.http.headers.X-Tenant changed",
        f"{start}.http.auth.basic.password changed", f"{start}.http.ack.body changed", f"{start}.parallel was 2, now 3",
        f"{start}.quota.items was 10000, now 9000",
        "inboxes.others.sources.bank.sftp.after was delete, now {move: d}",
        "inboxes.others.sources.bank.sftp.passphrase changed", "inboxes.others.sources.bank.sftp.password changed",
        "inboxes.others.sources.old.ftp.password changed", "inboxes.others.sources.lake.store.options changed",
    ]  # fmt: skip


def test_no_secret_when_a_source_becomes_another(folder: Path, config: Config) -> None:
    start = EVERYTHING.index("http:\n"), EVERYTHING.index("        cron:")
    other = (
        EVERYTHING[: start[0]]
        + f"store: {{url: 's3://k:{CANARY}@b', options: {{a: {CANARY}}}}}\n"
        + EVERYTHING[start[1] :]
    )
    for old, new in ((config, loaded(folder, other)), (loaded(folder, other), config)):
        told = "\n".join(describe(old, new))
        assert "partner-api.http was " in told
        assert "partner-api.store was " in told
        assert CANARY not in told


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

HTTP = [
    ("{}", ".list", "is missing"),
    ("{list: 'ftp://h/x'}", ".list", "write an http or https URL with a host"),
    ("{list: 'https:///x'}", ".list", "write an http or https URL with a host"),
    ("{list: partner.example/x}", ".list", "write an http or https URL with a host"),
    ("{list: 'https://h:port/'}", ".list", "this is no URL"),
    ("{list: 'https://h:0/'}", ".list", "with a host"),
    ("{list: 'https://[::1/'}", ".list", "this is no URL"),
    ("{list: 'https://u:p@h/'}", ".list", "leave user and password out"),
    ("{list: 'https://u@h/'}", ".list", "leave user and password out"),
    ("{list: 'https://h/a b'}", ".list", "without spaces"),
    ("{list: 'https://bücher.example/'}", ".list", "plain ASCII"),
    ("{list: 'https://h/#top'}", ".list", "fragment"),
    ("{list: 'https://h/', form: xml}", ".form", "expected auto, json, index or file"),
    ("{list: 'https://h/', form: json}", "", "'form: json' needs 'items'"),
    ("{list: 'https://h/', form: file, items: 'a[].{id: x, url: y}'}", "", "'items' is for JSON listings"),
    ("{list: 'https://h/', next: {link: x}}", "", "'next' is for JSON listings"),
    ("{list: 'https://h/', url: 'https://h/{id}'}", "", "'url' is for JSON listings"),
    ("{list: 'https://h/', items: 'a[.{id: x}'}", ".items", "no JMESPath expression at character 3; see https://jmespath.org"),
    ("{list: 'https://h/', items: ''}", ".items", "no JMESPath expression"),
    ("{list: 'https://h/', items: 'a[].{name: x, url: y}'}", ".items", "an item needs an id"),
    ("{list: 'https://h/', items: 'a[].{id: x, url: y, sha265: z}'}", ".items", "an item has no 'sha265'; known: id, name"),
    ("{list: 'https://h/', items: 'a[].{id: x}'}", "", "nothing tells where an item is; add a 'url'"),
    ("{list: 'https://h/', items: 'a[?b].{id: x} | [0:5].{id: id}'}", "", "nothing tells where an item is"),
    ("{list: 'https://h/', items: 'a[].{id: x}', url: 'https://h/all'}", "", "the template 'url' is the same for all"),
    ("{list: 'https://h/', items: 'a[].{id: x}', url: 'https://h/{uid}'}", ".url", "there is no {uid} to fill in; known: {id}"),
    ("{list: 'https://h/', items: 'a[].{id: x}', url: 'https://{id}.h/'}", ".url", "not into the host"),
    ("{list: 'https://h/', items: 'a[].{id: x}', url: 'https://h/{id}?f={}'}", ".url", "as %7B and %7D"),
    ("{list: 'https://h/', items: 'a[].{id: x}', url: 'https://h2/{id}'}", "", "neither that of 'list' nor in 'origins'"),
    ("{list: 'https://h/', items: 'a[].{id: x}', url: 'http://h/{id}'}", "", "neither that of 'list' nor in 'origins'"),
    ("{list: 'https://h/', items: 'a', next: {link: 'a['}}", ".next.link", "no JMESPath expression"),
    ("{list: 'https://h/', items: 'a', next: {cursor: a}}", ".next.parameter", "is missing"),
    ("{list: 'https://h/', items: 'a', next: more}", ".next", "write one of {link:"),
    ("{list: 'https://h/', items: 'a', next: {link: a, page: b}}", ".next", "write one of {link:"),
    ("{list: 'https://h/', headers: {'a b': x}}", ".headers.a b", "is no good name"),
    ("{list: 'https://h/', headers: {X-Key: \"a\\r\\nb\"}}", ".headers.X-Key", "leave control characters"),
    ("{list: 'https://h/', headers: {X-Key: 5}}", ".headers.X-Key", "put it in quotes"),
    ("{list: 'https://h/', auth: secret}", ".auth", "write one of {basic:"),
    ("{list: 'https://h/', auth: {bearer: a, header: {name: b, value: c}}}", ".auth", "write one of {basic:"),
    ("{list: 'https://h/', auth: {bearer: ''}}", ".auth.bearer", "write something"),
    ("{list: 'https://h/', auth: {basic: {user: 'a:b', password: c}}}", ".auth.basic.user", "expected text such as acme"),
    ("{list: 'https://h/', auth: {basic: {user: a}}}", ".auth.basic.password", "is missing"),
    ("{list: 'http://h/', auth: {bearer: a}}", "", "would go to h in clear text; write https:// in 'list', or 'cleartext: true'"),
    ("{list: 'http://192.0.2.1/', headers: {X-Key: a}}", "", "in clear text"),
    ("{list: 'http://127.0.0.1.example/', headers: {authorization: a}}", "", "in clear text"),
    ("{list: 'https://h/', certificate: {file: known_hosts}}", ".certificate.key", "is missing"),
    ("{list: 'https://h/', certificate: {file: none.pem, key: known_hosts}}", ".certificate.file", "none.pem; name one in PEM"),
    ("{list: 'http://h/', certificate: {file: known_hosts, key: known_hosts}}", "", "'certificate' needs an https:// URL"),
    ("{list: 'https://h/', authority: none.pem}", ".authority", "none.pem; name one in PEM"),
    (f"{{list: 'https://h/', authority: {'a' * 256}}}", ".authority", "can't be read: File name too long; name a file"),
    ("{list: 'https://h/', ack: {url: 'https://h/ack'}}", ".ack", "this tells of no item"),
    ("{list: 'https://h/', ack: {url: 'https://h/ack', body: all}}", ".ack", "this tells of no item"),
    ("{list: 'https://h/', ack: {url: 'https://h/{item}'}}", ".ack.url", "there is no {item} to fill in"),
    ("{list: 'https://h/', ack: {url: 'https://h/{id}', body: '{item}'}}", ".ack.body", "there is no {item} to fill in"),
    ("{list: 'https://h/', ack: {url: 'https://h/{id}', method: FETCH}}", ".ack.method", "expected POST"),
    ("{list: 'https://h/', ack: {url: 'https://h/{id}', when: later}}", ".ack.when", "expected held or processed"),
    ("{list: 'https://h/', ack: {url: 'https://h/{id}', gone: [200]}}", ".ack.gone[0]", "at least 400"),
    ("{list: 'https://h/', ack: {url: 'https://other/{id}'}}", "", "of 'ack.url' must be that of 'list'"),
    ("{list: 'https://h/', ack: {url: 'https://h:8443/{id}'}}", "", "of 'ack.url' must be that of 'list'"),
    ("{list: 'https://h/', redirects: all}", ".redirects", "expected none or same-origin"),
    ("{list: 'https://h/', origins: ['https://cdn/x']}", ".origins[0]", "scheme and host only"),
    ("{list: 'https://h/', origins: [cdn]}", ".origins[0]", "write an http or https URL with a host"),
]  # fmt: skip

SFTP = [
    ("{host: h, user: u, key: {file: bank.key}}", ".known_hosts", "is missing"),
    ("{host: h, user: u, password: p, known_hosts: none}", ".known_hosts", "there is no file"),
    ("{host: h, user: u, password: p, known_hosts: bank.key/none}", ".known_hosts", "there is no file"),
    ("{host: h, user: u, password: p, known_hosts: pems}", ".known_hosts", "there is no file"),
    (f"{{host: h, user: u, password: p, known_hosts: {'k' * 256}}}", ".known_hosts", "can't be read: File name too long; name"),
    ("{host: h, user: u, known_hosts: known_hosts}", "", "give 'key', 'password' or both"),
    ("{host: h, user: u, password: p, passphrase: x, known_hosts: known_hosts}", "", "'passphrase' is for a 'key'"),
    ("{host: h, user: u, key: bank.key, known_hosts: known_hosts}", ".key", "this is no private key"),
    ("{host: h, user: u, password: '', known_hosts: known_hosts}", ".password", "write something"),
    ("{host: 'sftp://h', user: u, password: p, known_hosts: known_hosts}", ".host", "the IP address of a host alone"),
    ("{host: 'h:22', user: u, password: p, known_hosts: known_hosts}", ".host", "the port has a key of its own"),
    ("{host: h, port: 65536, user: u, password: p, known_hosts: known_hosts}", ".port", "at most 65535"),
    ("{host: h, user: u, password: p, known_hosts: known_hosts, after: keep}", ".after", "write leave, delete or {move: FOLDER}"),
    ("{host: h, user: u, password: p, known_hosts: known_hosts, after: {move: a/../..}}", ".after", "a folder without '..'"),
    ("{host: h, user: u, password: p, known_hosts: known_hosts, after: {move: /}}", ".after", "names a folder"),
    ("{host: h, user: u, password: p, known_hosts: known_hosts, path: \"a\\nb\"}", ".path", "line breaks"),
]  # fmt: skip

FTP = [
    ("{host: h, user: u, password: p, tls: none}", "", "the password would go to h in clear text; write 'tls: explicit'"),
    ("{host: h, user: \"u\\r\\nDELE x\", password: p}", ".user", "line breaks"),
    ("{host: h, tls: implicit}", ".tls", "expected explicit or none"),
]  # fmt: skip

STORE = [
    ("{url: bucket/prefix}", ".url", "with its protocol, such as s3://bucket/prefix"),
    ("{url: 'sftp://h/x'}", ".url", "write this as sftp: instead of store:"),
    ("{url: 'https://h/x'}", ".url", "write this as http: instead of store:"),
    ("{url: 'simplecache::s3://b'}", ".url", "with its protocol"),
    ("{url: 's3://b', options: [a]}", ".options", "expected a section"),
]

ANY = [
    ("{}", "", "give exactly one of 'http', 'sftp', 'ftp' and 'store' (given: none)"),
    ("{ftp: {host: h}, store: {url: 's3://b'}}", "", "(given: ftp, store)"),
    ("{ftp: {host: h}, every: 0s}", ".every", "longer than zero"),
    ("{ftp: {host: h}, cron: '* * * *', zone: UTC}", ".cron", "the five fields of crontab(5)"),
    ("{ftp: {host: h}, cron: '* * * * * *', zone: UTC}", ".cron", "the five fields"),
    ("{ftp: {host: h}, cron: '61 * * * *', zone: UTC}", ".cron", "the five fields"),
    ("{ftp: {host: h}, cron: '0 0 31 2 *', zone: UTC}", ".cron", "the five fields"),
    ("{ftp: {host: h}, cron: '0 0 */40 * 1#5', zone: UTC}", ".cron", "the five fields"),
    ("{ftp: {host: h}, cron: '0 0 30 2,2 1L', zone: UTC, every: 1m}", "", "'every' and 'cron' exclude each other"),
    ("{ftp: {host: h}, cron: '* * * * *', zone: Berlin}", ".zone", "write one such as Europe/Berlin or UTC"),
    ("{ftp: {host: h}, cron: '* * * * *', zone: Europe}", ".zone", "write one such as Europe/Berlin or UTC"),
    ("{ftp: {host: h}, cron: '* * * * *', zone: ../zoneinfo/UTC}", ".zone", "write one such as Europe/Berlin or UTC"),
    ("{ftp: {host: h}, cron: '* * * * *'}", "", "'cron' needs a 'zone'"),
    ("{ftp: {host: h}, zone: UTC}", "", "'zone' is for 'cron'"),
    ("{ftp: {host: h}, match: [a/b]}", ".match[0]", "leave the / out"),
    ("{ftp: {host: h}, timeout: {connect: 1m, total: 10s}}", ".timeout", "'total' (10s) is shorter than 'connect' (1m); raise"),
    ("{ftp: {host: h}, retry: {first: 1h}}", ".retry", "'first' (1h) is longer than 'longest' (5m)"),
    ("{ftp: {host: h}, retry: {max_attempts: 3}}", ".retry.max_attempts", "unknown key; known here: max_failures, first"),
    ("{ftp: {host: h}, max_size: 0B}", ".max_size", "above 0B"),
    ("{ftp: {host: h}, max_items: 0}", ".max_items", "at least 1"),
    ("{ftp: {host: h}, parallel: 0}", ".parallel", "at least 1"),
    ("{ftp: {host: h}, parallel: 999999999999999999}", ".parallel", "at most 1024"),
    ("{ftp: {host: h}, backlog: 0}", ".backlog", "at least 1"),
    ("{ftp: {host: h}, quota: {per: 1h}}", ".quota", "give 'items', 'bytes' or both"),
    ("{ftp: {host: h}, quota: {items: 1, per: 32d}}", ".quota", "'per' is at most 31d"),
    ("{ftp: {host: h}, expect: {by: '24:00', zone: UTC}}", ".expect.by", 'expected text such as "06:30"'),
    ("{ftp: {host: h}, expect: {by: '06:30'}}", ".expect.zone", "is missing"),
    ("{ftp: {host: h}, expect: {by: '06:30', zone: UTC, weekdays: [monday]}}", ".expect.weekdays[0]", "expected mon, tue"),
    ("{ftp: {host: h}, expect: {by: '06:30', zone: UTC, weekdays: []}}", ".expect.weekdays", "at least 1 entry"),
    ("{ftp: {host: h}, expect: {by: '06:30', zone: UTC, at_least: 0}}", ".expect.at_least", "at least 1"),
]  # fmt: skip

ALL = [
    *((f"{{http: {text}}}", f".http{key}", words) for text, key, words in HTTP),
    *((f"{{sftp: {text}}}", f".sftp{key}", words) for text, key, words in SFTP),
    *((f"{{ftp: {text}}}", f".ftp{key}", words) for text, key, words in FTP),
    *((f"{{store: {text}}}", f".store{key}", words) for text, key, words in STORE),
    *ANY,
]


@pytest.mark.parametrize(("text", "key", "words"), ALL)
def test_refusals(folder: Path, text: str, key: str, words: str) -> None:
    """Beside a mistake elsewhere: it is told with all others."""
    problems = refused(folder, with_inbox(f"sources:\n  s: {text}", top="colour: blue"))
    assert len(problems) == 2, problems
    assert problems[1].startswith(f"7: inboxes.a.sources.s{key}: "), problems
    assert words in problems[1]


@pytest.mark.parametrize(
    "text",
    [
        "{http: {list: 'http://h/'}}",
        "{http: {list: 'http://h/', headers: {Accept: text/html, User-Agent: us}}}",
        "{http: {list: 'http://h/', auth: {bearer: a}, cleartext: true}}",
        "{http: {list: 'http://127.0.0.1:8080/', auth: {header: {name: X-Key, value: a}}}}",
        "{http: {list: 'http://[::1]/', auth: {bearer: a}}}",
        "{http: {list: 'http://LOCALHOST/', auth: {bearer: a}}}",
        "{http: {list: 'https://h/a.csv', form: file}}",
        "{http: {list: 'https://h/', items: 'a[].{id: x}', url: 'https://h/{id}'}}",
        "{http: {list: 'https://h/', items: 'a[].{id: x}', url: 'https://cdn:444/{id}', origins: ['https://cdn:444']}}",
        "{http: {list: 'https://h/', items: 'a', form: json, next: {link: 'n[0].href'}}}",
        "{http: {list: 'https://h/', items: 'a', next: {page: page, first: 0}}}",
        "{http: {list: 'https://h/', items: 'map(&{id: x}, a)'}}",
        "{http: {list: 'https://h/', ack: {url: 'https://H:443/{name}?v={version}', method: DELETE}}}",
        "{http: {list: 'https://h/', ack: {url: 'https://h/', body: '{\"ids\": [\"{id}\"], \"at\": {}}'}}}",
        "{sftp: {host: '2001:db8::1', user: u, password: p, known_hosts: known_hosts, after: {move: /done}}}",
        "{sftp: {host: h, user: u, key: {file: bank.key}, passphrase: '', known_hosts: known_hosts}}",
        "{ftp: {host: h, tls: none}}",
        "{ftp: {host: 127.0.0.1, user: u, password: p, tls: none}}",
        "{ftp: {host: h, user: u, password: p, tls: none, cleartext: true}}",
        "{store: {url: 'memory://'}}",
        "{store: {url: 'file:///srv/out', options: {auto_mkdir: true}}}",
        "{ftp: {host: h}, cron: '0 6 * * MON-FRI', zone: America/New_York}",
        "{ftp: {host: h}, timeout: {idle: 1m, total: 30s}, min_speed: 0B, quota: {bytes: 1B}}",
    ],
)
def test_what_is_fine(folder: Path, text: str) -> None:
    """For the schema, too."""
    whole = with_inbox(f"sources: {{s: {text}}}")
    assert list(source_specs(loaded(folder, whole))) == ["s"]
    assert list(Draft202012Validator(schema()).iter_errors(yaml.safe_load(whole))) == []


def test_names_are_unique_in_the_file(tmp_path: Path) -> None:
    lines = ["    sources: {s: {ftp: {host: h}}}", "    sources: {t: {ftp: {host: h}}, s: {ftp: {host: g}}}"]
    inboxes = [
        f"  {name}:\n    root: {name}\n    handler: {{python: 'a:b'}}\n{lines[n]}" for n, name in enumerate("ab")
    ]
    (problem,) = refused(tmp_path, "inboxes:\n" + "\n".join(inboxes))
    assert problem == (
        "9: inboxes.b.sources.s: inbox a has a source of this name already (line 5); "
        "give each source and destination a name of its own"
    )


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("paramiko", "{sftp: {host: h, user: u, password: p, known_hosts: known_hosts}}"),
        ("fsspec", "{store: {url: 's3://b'}}"),
    ],
)
def test_a_library_that_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, text: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    extra = {"paramiko": "sftp", "fsspec": "store"}[module]
    (problem,) = refused(folder, with_inbox(f"sources: {{s: {text}}}"))
    assert (
        problem == f"6: inboxes.a.sources.s: the library {module} is not installed; run: pip install 'inboxd[{extra}]'"
    )


def test_references(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anywhere in a source, but for sections whose only key is `file` or `env` by right."""
    monkeypatch.setenv("TOKEN", CANARY)
    monkeypatch.setenv("env", "not this")
    (folder / "token").write_text(CANARY + "\n")
    text = "http: {list: 'https://h/', auth: {bearer: {file: token}}, headers: {env: {env: TOKEN}}}"
    place = source_specs(loaded(folder, with_inbox(f"sources: {{file: {{{text}}}}}")))["file"].place
    assert (place["auth"], place["headers"]) == ({"bearer": CANARY}, {"env": CANARY})


def test_checking_is_fast(folder: Path) -> None:
    """No library of a fetcher is loaded, and none for a language that the file does not speak."""
    program = (
        "import sys, pathlib\n"
        "from inboxd.config.load import load\n"
        "load(pathlib.Path(sys.argv[1]))\n"
        "heavy = ('requests', 'paramiko', 'fsspec', 'jmespath', 'cronsim', 'sqlalchemy')\n"
        "import json; print(json.dumps([name for name in heavy if name in sys.modules]))\n"
    )
    for text, libraries in ((EVERYTHING, ["jmespath", "cronsim"]), (with_inbox("sources: {s: {ftp: {host: h}}}"), [])):
        (folder / "config.yaml").write_text(text)
        command = [sys.executable, "-c", program, str(folder / "config.yaml")]
        assert json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) == libraries
