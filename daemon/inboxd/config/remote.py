"""Types of single values of sources in config.yaml. Each refuses in words, with the remedy.

What may hold a secret is a SecretStr, URLs too: their queries often carry tokens.
"""

from __future__ import annotations

import errno
import stat
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo

from inboxd.config import addresses, expressions
from inboxd.config.fields import Place, Text
from inboxd.config.units import Size


def _hidden(check: Any) -> Any:
    """A check of text, for text that may be secret."""
    return AfterValidator(lambda value: SecretStr(check(value.get_secret_value())))


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("leave control characters and line breaks out")
    return text


def _filled(text: str) -> str:
    if not text:
        raise ValueError("write something, or leave the key out")
    return text


def _private_key(text: str) -> str:
    if "PRIVATE KEY" not in text:
        raise ValueError("this is no private key; write where its text stands: {file: PATH} or {credential: NAME}")
    return text


_FOR_GOOD = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)  # a network's mount may be back soon


def _file(remedy: str) -> Any:
    """A check that a file is there; `remedy`: how to get one. Fetchers read it, and tell what is wrong with it."""

    def check(path: Path, info: ValidationInfo) -> Path:
        if info.context is None:
            return path
        try:
            there = stat.S_ISREG(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            there = False
        except OSError as error:
            if error.errno not in _FOR_GOOD:
                return path
            raise ValueError(
                f"{path} can't be read: {error.strerror}; name a file that the daemon's user can get to, under systemd "
                "none below /home (ProtectHome= in the unit)"
            ) from None
        if not there:
            raise ValueError(f"there is no file {path}; {remedy}")
        return path

    return AfterValidator(check)


def _not_empty(size: int) -> int:
    if size <= 0:
        raise ValueError("write a size above 0B")
    return size


Count = Annotated[int, Field(ge=1)]
Processes = Annotated[
    int, Field(ge=1, le=1024)
]  # each has a place that is kept and looked after, whether it runs or not
Port = Annotated[int, Field(ge=1, le=65535)]
Amount = Annotated[Size, AfterValidator(_not_empty)]
Filled = Annotated[SecretStr, _hidden(_filled)]
Url = Annotated[SecretStr, _hidden(addresses.http_url)]
Template = Annotated[SecretStr, _hidden(addresses.template)]
ResultTemplate = Annotated[SecretStr, _hidden(addresses.result_template)]
Body = Annotated[SecretStr, _hidden(addresses.placeholders)]
StoreUrl = Annotated[SecretStr, _hidden(addresses.store_url)]
Line = Annotated[SecretStr, _hidden(_one_line)]
Token = Annotated[SecretStr, _hidden(_filled), _hidden(_one_line)]
PrivateKey = Annotated[SecretStr, _hidden(_private_key)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$", examples=["X-Api-Key"])]
Origins = list[Annotated[str, AfterValidator(addresses.http_origin)]]  # a section with a key `list` can't say list[…]
Status = Annotated[int, Field(ge=400, le=499)]
MediaType = Annotated[str, Field(pattern=r"^[!#-'*+.0-9A-Z^-z|~-]+/[ -~]{1,200}$", examples=["text/csv"])]
UserName = Annotated[str, Field(pattern=r"^[^:\x00-\x1f\x7f]+$", examples=["acme"])]
Host = Annotated[str, AfterValidator(addresses.host)]
RemotePath = Annotated[Text, AfterValidator(_one_line)]
Items = Annotated[str, AfterValidator(expressions.items)]
Expression = Annotated[str, AfterValidator(expressions.jmespath)]
Zone = Annotated[str, AfterValidator(expressions.zone)]
Cron = Annotated[str, AfterValidator(expressions.cron)]
Hour = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=['"06:30"'])]
KnownHosts = Annotated[Place, _file("make it with: ssh-keyscan HOST, and compare its fingerprint")]
PemFile = Annotated[Place, _file("name one in PEM format")]
When = Literal["held", "processed"]
