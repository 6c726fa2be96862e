"""Handlers that can't be loaded are told in words, and blame no file."""

from __future__ import annotations

import pytest

from inboxd.model import Ending


def broken(handlers, **spec):
    opened = handlers.open(**spec)
    why = opened.load()
    report = handlers.run(opened)
    assert (report.ending, report.begun, report.message) == (Ending.BROKEN, False, why["main"])
    return why["main"]


def test_a_module_that_is_not_there(handlers):
    assert "no module 'nowhere_at_all'" in broken(handlers, python="nowhere_at_all:handle")


def test_a_module_that_needs_another(handlers):
    name = handlers.module("import nowhere_at_all\ndef handle(file): ...")
    assert "imports 'nowhere_at_all', which is not installed" in broken(handlers, python=f"{name}:handle")


def test_a_function_by_another_name(handlers):
    name = handlers.module("def handle(file): ...")
    assert "did you mean 'handle'?" in broken(handlers, python=f"{name}:handel")


def test_no_function(handlers):
    name = handlers.module("handle = 3")
    assert "it is a int" in broken(handlers, python=f"{name}:handle")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def handle(): ...", "can't be called with one argument"),
        ("def handle(*, file): ...", "can't be called with one argument"),
        ("def handle(file, connection): ...", "can't be called with one argument"),
        ("def handle(file):\n    yield", "is a generator"),
        ("async def handle(file): ...", "is an `async def`"),
        ("async def handle(file):\n    yield", "is a generator"),
        ("class Handler:\n    def handle(self): ...\nhandle = Handler().handle", "can't be called with one argument"),
    ],
)
def test_a_function_that_would_fail_for_every_file(handlers, source, words):
    why = broken(handlers, python=handlers.module(source) + ":handle")
    assert words in why
    assert "a handler is a plain function of one file or, with `batch: true`, of one list of files" in why


@pytest.mark.parametrize(
    "source",
    [
        "def handle(file, more=1, *, other=2): ...",
        "def handle(*files, **options): ...",
        "def handle(file, /): ...",
        "class Handler:\n    def handle(self, file): ...\nhandle = Handler().handle",
        "class Handler:\n    @classmethod\n    def handle(cls, file): ...\nhandle = Handler.handle",
        "class Handler:\n    def __call__(self, file): ...\nhandle = Handler()",
        "import functools\ndef of(what, file): ...\nhandle = functools.partial(of, 1)",
        "import functools\n@functools.cache\ndef handle(file): ...",
        "import types\ndef handle(): ...\nhandle = types.MethodType(lambda one, file: None, 1)",
        "import types\nhandle = types.MethodType(print, 1)",
    ],
)
def test_whatever_may_take_a_file_is_a_handler(handlers, source):
    handlers.python(source)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def make():\n    raise RuntimeError('no licence')\nmake()", ("RuntimeError: no licence", ".py, line 2")),
        ("def handle(file:", ("SyntaxError", ".py, line 1")),
        ("import sys\nsys.exit('enough')", ("SystemExit: enough", ".py, line 2")),
        ("raise KeyboardInterrupt", ("KeyboardInterrupt", ".py, line 1")),
    ],
)
def test_a_module_that_fails_while_it_is_imported(handlers, source, words):
    why = broken(handlers, python=handlers.module(source) + ":handle")
    assert all(word in why for word in words), why


def test_modules_beside_the_configuration_come_first(handlers):
    (handlers.folder / "antigravity.py").write_text("def handle(file): return {'ours': True}")
    assert handlers.run(handlers.loaded(python="antigravity:handle")).result == {"ours": True}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("/no/such/program",), "'/no/such/program' is not there"),
        (("no-such-program",), "not there, or not executable"),
        (("/etc/passwd/program",), "'/etc/passwd/program' is not there"),
        (("/etc",), "'/etc' is a folder"),
        (("/etc/passwd",), "'/etc/passwd' is there, but not executable; run `chmod +x /etc/passwd`"),
        (("cat", "{paht}"), "{paht}"),
        (("cat", "{path"), "write {{ and }}"),
        (("cat", "{path:d}"), "{path}"),
        (("cat", "{path!r}"), "{path}"),
        (("cat", "{}"), "{path}"),
        (("cat", "a\0b"), "NUL"),
        (("cat", "{files}"), "it takes many files, so the handler needs `batch: true`"),
    ],
)
def test_commands_that_can_not_work(handlers, command, words):
    assert words in broken(handlers, command=command)


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("{path}", "{path} can't be filled in: `batch: true` means many files; write '{files}'"),
        ("--in={files}", "{files} can't be filled in"),
        ("{files!r}", "{files} can't be filled in"),
        ("{fiels}", "{fiels} is none of {files}"),
        ("{", "write {{ and }}"),
    ],
)
def test_commands_that_can_not_work_for_a_batch(handlers, word, words):
    assert words in broken(handlers, command=("cat", word), batch=True)


def test_a_database_that_is_not_configured(handlers):
    name = handlers.module("def handle(file): ...")
    assert "there is no database 'lake'" in broken(handlers, python=f"{name}:handle", database="lake")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+asyncpg2://x", "can't be used"),
        ("mysql+mysqldb://u:s3cret@h/d", "'MySQLdb' is not installed"),
        ("s3cret nonsense", "can't be used"),
    ],
)
def test_a_database_whose_driver_or_url_is_wrong(handlers, url, words):
    handlers.database("lake", url)
    name = handlers.module("def handle(file): ...")
    why = broken(handlers, python=f"{name}:handle", database="lake")
    assert words in why
    assert "s3cret" not in why


def test_an_inbox_of_a_newer_configuration(handlers):
    opened = handlers.python("def handle(file): ...")
    assert opened.run("later", handlers.file()).ending is Ending.BROKEN
