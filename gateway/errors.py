"""The errors of the gateway, one tree.

Expected outcomes are values, not errors: a pool that is full, a stale fence, a forged signature. An error is what
the caller of a function could not plan for.

    GatewayError
    ├── UserError               one line for the person at the keyboard; the command exits 2
    │   ├── SettingsError       a setting is missing or wrong: names it and the mend
    │   │   ├── SettingsErrors  several are: a line for each
    │   │   └── BindError       its address cannot be had (now): the command exits 1, as another try may succeed
    │   └── BotError            the bot's module cannot be found, imported or used
    ├── AudioError
    │   └── UnsupportedCodec    the carrier speaks a codec that we do not
    ├── RecordingError          a fixture file is not what it should be: names the line
    ├── RegistryUnavailable     the registry does not answer; running calls go on
    │   └── BadAnswer           it answers with what makes no sense
    ├── RecordsUnavailable      the database of records does not answer
    └── LinkError               a worker cannot be reached
        ├── LinkRefused         it answered, but not with 101: see `.status`
        └── LinkTimeout         it did not answer in time
"""

from __future__ import annotations

from collections.abc import Sequence


class GatewayError(Exception):
    """Root of all errors raised by this package on purpose."""


class UserError(GatewayError):
    """Something the person at the keyboard can mend; `str()` is one line that says how."""


class SettingsError(UserError):
    """A setting is missing or wrong.

    setting: its dotted name, as in the TOML file ("carriers.twilio.auth_token").
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting


class SettingsErrors(SettingsError):
    """Several settings are missing or wrong; `str()` is one line for each."""

    def __init__(self, errors: Sequence[SettingsError]) -> None:
        UserError.__init__(self, "\n".join(map(str, errors)))
        self.setting = errors[0].setting
        self.errors = tuple(errors)


class BindError(SettingsError):
    """The address that a setting names cannot be listened on: it is taken, or not there (yet)."""


class BotError(UserError):
    """A bot's module cannot be found, imported, or has no `bot`."""


class AudioError(GatewayError):
    """Audio that cannot be handled."""


class UnsupportedCodec(AudioError):
    """An encoding or sample rate that no transcoder speaks."""


class RecordingError(GatewayError):
    """A recorded call cannot be read."""


class RegistryUnavailable(GatewayError):
    """The registry did not answer in time, or refused to."""


class BadAnswer(RegistryUnavailable):
    """The registry answered with what it cannot have: a damaged server, or none at all."""


class RecordsUnavailable(GatewayError):
    """The database of records did not answer in time, or refused to."""


class LinkError(GatewayError):
    """A worker cannot be reached. taken: another claim has it, so the worker is well."""

    taken = False


class LinkRefused(LinkError):
    """The worker answered the upgrade with another status than 101.

    status: 503 full, 409 stale fence, 401 wrong key, 0 not HTTP at all.
    """

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(f"the worker answered {status}{' ' + reason if reason else ''}")
        self.status = status
        self.taken = status == 409


class LinkTimeout(LinkError):
    """The worker did not answer in time."""
