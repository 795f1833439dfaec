"""Settings: a file, the environment over it, known names; and mistakes that name the setting but never the value."""

from __future__ import annotations

import re
import tomllib
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.__main__ import main
from gateway.carriers import CARRIERS
from gateway.errors import SettingsError, SettingsErrors
from gateway.node.services import Fallback
from gateway.settings import Settings, configured, is_loopback, load
from serializers.base import MediaFormat

SECRET = "hunter2-of-the-tests"


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "gateway.toml"
        path.write_text(text)
        return str(path)

    return write


def services(text: str = "") -> str:
    return f'[[services]]\nhost = "a.b"\n{text}'


# What is not said.


def test_nothing_configured_is_a_gateway_without_anything():
    settings = load(environ={})
    assert settings == Settings(records=f"sqlite+aiosqlite:///{Path.cwd() / 'gateway.db'}")
    assert (settings.public_url, settings.registry, settings.services) == ("", "memory", ())
    assert settings.server.ops_bind == "127.0.0.1:9090"
    assert settings.server.drain_seconds == 300
    assert settings.dialout.allow == ()


def test_a_service_says_to_the_conductor_what_the_file_says(file):
    text = services(
        'default = true\nnumbers = ["+1 555 010-0000"]\ncodec = "l16"\nsample_rate = 24000\nwhen_full = "busy"\n'
        'when_down = "forward:+15550123"\nplayout_lead_ms = 300\nmax_hold_seconds = 5'
    )
    service = load(file(text), {}).services[0].service()
    assert service.numbers == ("+15550100000",)
    assert service.media == MediaFormat("l16", 16000)
    assert (service.when_full, service.when_down) == (Fallback("busy"), Fallback("forward", "+15550123"))
    assert (service.sample_rate, service.playout_lead, service.max_hold, service.default) == (24000, 0.3, 5.0, True)


@pytest.mark.parametrize("codec", ["l16", "l16/8000", "l16/16000", "l16/24000"])
def test_a_relayed_bot_is_given_no_l16(file, codec):
    with pytest.raises(SettingsError, match=f'codec: "{codec}" is noise .* set codec = "mulaw", or protocol = "pcm"'):
        load(file(services(f'codec = "{codec}"\nprotocol = "relay"')), {})


@pytest.mark.parametrize(
    ("codec", "media"),
    [("mulaw", ("mulaw", 8000)), ("alaw", ("alaw", 8000)), ("l16", ("l16", 16000)), ("l16/24000", ("l16", 24000))],
)
def test_codecs(file, codec, media):
    assert load(file(services(f'codec = "{codec}"')), {}).services[0].service().media == MediaFormat(*media)


# The environment.


@pytest.mark.parametrize(
    ("variable", "value", "read"),
    [
        ("GATEWAY_PUBLIC_URL", "https://b.example/", lambda s: s.public_url == "https://b.example"),
        ("GATEWAY_SERVER__DRAIN_SECONDS", "7", lambda s: s.server.drain_seconds == 7),
        ("GATEWAY_SERVER__OPS_BIND", "127.0.0.1:0", lambda s: s.server.ops_bind == "127.0.0.1:0"),
        ("GATEWAY_SERVER__OPS_BIND", '""', lambda s: s.server.ops_bind == ""),
        ("GATEWAY_SERVER__OPS_BIND", "", lambda s: s.server.ops_bind == "127.0.0.1:9999"),
        ("GATEWAY_DIALOUT__ALLOW", '["+1", "GB"]', lambda s: s.dialout.allow == ("+1", "GB")),
        ("GATEWAY_WORKERS__NETWORKS", "10.20.0.0/16", lambda s: s.workers.networks == (ip_network("10.20.0.0/16"),)),
        ("GATEWAY_WORKERS__NETWORKS", '["fd00::/8"]', lambda s: s.workers.networks == (ip_network("fd00::/8"),)),
        ("GATEWAY_SECRET", "one", lambda s: [k.get_secret_value() for k in s.secret] == ["one"]),
        ("GATEWAY_SECRET", '["new", "old"]', lambda s: [k.get_secret_value() for k in s.secret] == ["new", "old"]),
        ("GATEWAY_SECRET", "{not json", lambda s: [k.get_secret_value() for k in s.secret] == ["{not json"]),
        ("GATEWAY_SERVICES", '[{"host": "c.d", "max": 5}]', lambda s: [x.host for x in s.services] == ["c.d"]),
        ("GATEWAY_CARRIERS__PLIVO__AUTH_TOKEN", "env", lambda s: token_of(s) == "env"),
        ("PLIVO_AUTH_TOKEN", "env", lambda s: token_of(s) == "file"),
        ("GATEWAY_WORKER_KEY", "k", lambda s: s.server.drain_seconds == 1),
        ("OTHER_PUBLIC_URL", "ftp://x", lambda s: s.public_url == "https://a.example"),
    ],
)
def test_the_environment_overrides_the_file(file, variable, value, read):
    text = (
        'public_url = "https://a.example"\n[server]\ndrain_seconds = 1\nops_bind = "127.0.0.1:9999"\n'
        '[carriers.plivo]\nauth_id = "MA1"\nauth_token = "file"\n' + services()
    )
    assert read(load(file(text), {variable: value}))


def token_of(settings: Settings) -> str:
    return settings.carrier("plivo").accounts[0].auth_token[0].get_secret_value()


def test_the_file_may_be_named_by_the_environment(file):
    assert load(environ={"GATEWAY_CONFIG": file('public_url = "https://a.example"')}).public_url == "https://a.example"


@pytest.mark.parametrize("name", list(CARRIERS))
def test_a_carrier_whose_credentials_are_all_in_the_environment_is_on(name):
    valid = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="  # as a public key too
    environ = {key: "id-1" if key.endswith(("_SID", "_ID")) else valid for key in CARRIERS[name].env}
    settings = load(environ=environ)
    assert settings.carrier(name) is not None
    assert [other for other in CARRIERS if settings.carrier(other) is not None] == [name]


@pytest.mark.parametrize("name", list(CARRIERS))
def test_a_carrier_with_a_part_of_its_credentials_is_off(name):
    first, *rest = CARRIERS[name].env
    assert rest, "a carrier has more than one"
    assert load(environ={first: "value"}).carrier(name) is None


def test_known_names_fill_a_section_that_the_file_begins(file):
    path = file('[carriers.plivo]\nauth_id = "MA1"\n')
    assert token_of(load(path, {"PLIVO_AUTH_TOKEN": "env"})) == "env"


def test_known_names_do_not_mix_into_a_list_of_accounts(file):
    path = file('[[carriers.plivo.accounts]]\nauth_id = "MA1"\nauth_token = "file"\n')
    settings = load(path, {"PLIVO_AUTH_ID": "MA2", "PLIVO_AUTH_TOKEN": "env"})
    assert [account.auth_id for account in settings.carrier("plivo").accounts] == ["MA1"]


@pytest.mark.parametrize(
    ("path", "environ", "is_it"),
    [
        ("a.toml", {}, True),
        (None, {"GATEWAY_CONFIG": "a.toml"}, True),
        (None, {"TWILIO_AUTH_TOKEN": "t"}, True),
        (None, {"GATEWAY_SECRET": "s"}, True),
        (None, {"GATEWAY_WORKER_KEY": "k"}, False),
        (None, {"GATEWAY_SERVICE_HOST": "10.0.0.1", "GATEWAY_PORT": "tcp://10.0.0.1:80"}, False),
        (None, {"GATEWAY_SECRET": "", "TWILIO_AUTH_TOKEN": ""}, False),
        (None, {"PATH": "/bin"}, False),
        (None, {}, False),
    ],
)
def test_configured(path, environ, is_it):
    assert configured(path, environ) is is_it


# Mistakes.


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        (f'public_url = "http://{SECRET}.example"', "public_url"),
        (f'public_url = "{SECRET}"', "public_url"),
        (f'public_url = "https://[{SECRET}]"', "public_url"),
        (f'public_url = "https://a.example/?k={SECRET}"', "public_url"),
        (f'registry = "{SECRET}"', "registry"),
        (f'registry = "redis://:{SECRET}@[127.0.0.1]/0"', "registry"),
        (f'registry = "redis://:{SECRET}[@127.0.0.1/0"', "registry"),
        (f'registry = "redis://:{SECRET}℀@127.0.0.1/0"', "registry"),
        (f'registry = "redis://:{SECRET}/x@127.0.0.1/0"', "registry"),
        (f'registry = "redis://127.0.0.1:{SECRET}/0"', "registry"),
        (f'registry = "redis://:{SECRET}@127.0.0.1:70000/0"', "registry"),
        (f'registry = "http://:{SECRET}@127.0.0.1/0"', "registry"),
        (f'public_url = "https://{SECRET}.example:port"', "public_url"),
        ("secret = 5", "secret"),
        ('secret = ""', "secret"),
        (f'secrets = "{SECRET}"', "secrets"),
        (f'server = "{SECRET}"', "server"),
        (f'[server]\ndrain_seconds = "{SECRET}"', "server.drain_seconds"),
        ("[server]\ndrain_seconds = -1", "server.drain_seconds"),
        (f'[server]\nops_bind = "{SECRET}"', "server.ops_bind"),
        (f'[server]\nops_bind = "{SECRET}:port"', "server.ops_bind"),
        (f'[api]\nkey = "{SECRET}"', "api.key"),
        (f'[api]\nkeys = [["{SECRET}"]]', "api.keys"),
        (f'[api]\nkeys = ["k", {{ key = "{SECRET}" }}]', "api.keys.1.scopes"),
        (f'[api]\nkeys = [{{ key = "{SECRET}", scopes = [] }}]', "api.keys.0.scopes"),
        (f'[api]\nkeys = [{{ key = "{SECRET}", scopes = ["{SECRET}"] }}]', "api.keys.0.scopes.0"),
        (f'[api]\nkeys = [{{ key = "k", scopes = ["start"], name = "{SECRET} !" }}]', "api.keys.0.name"),
        (f'[api]\nkeys = [{{ key = "k", scopes = ["start"], scope = "{SECRET}" }}]', "api.keys.0.scope"),
        (f'[workers]\nnetworks = ["{SECRET}"]', "workers.networks"),
        ('[workers]\nnetworks = ["10.0.0.7/8"]', "workers.networks"),
        ("[workers]\nnetworks = [7]", "workers.networks"),
        ("[workers]\nnetworks = 7", "workers.networks"),
        ("[dialout]\ncps = 0", "dialout.cps"),
        (f'carriers = "{SECRET}"', "carriers"),
        (f'carriers.twilio = "{SECRET}"', "carriers.twilio"),
        ('[carriers.acme]\nkey = "x"', "carriers.acme"),
        (f'[carriers.twilio]\nauth_token = "{SECRET}"', "carriers.twilio"),
        (
            f'[carriers.twilio]\naccount_sid = "AC1"\nauth_token = ["{SECRET}", 5]',
            "carriers.twilio.accounts.0.auth_token",
        ),
        (f'[carriers.twilio]\ntoken = "{SECRET}"', "carriers.twilio.token"),
        (services(f'codec = "{SECRET}"'), "services.a.b.codec"),
        (services("sample_rate = 11025"), "services.a.b.sample_rate"),
        (services(f'when_full = "{SECRET}"'), "services.a.b.when_full"),
        (services(f'when_full = "forward:{SECRET}"'), "services.a.b.when_full"),
        (services('when_full = "message"'), "services.a.b.when_full"),
        (services('when_down = "hold"'), "services.a.b.when_down"),
        (services('when_down = "busy:now"'), "services.a.b.when_down"),
        (services("when_down = 5"), "services.a.b.when_down"),
        (services("min_warm = 30"), "services.a.b"),
        (services("max = 0"), "services.a.b.max"),
        (services(f'workers = ["http://{SECRET}"]'), "services.a.b.workers"),
        (services(f'workers = ["ws://[{SECRET}"]'), "services.a.b.workers"),
        (services(f'workers = ["ws://{SECRET}:port/ws"]'), "services.a.b.workers"),
        (services('recordings = "calls"\nprotocol = "relay"'), "services.a.b"),
        (services('announcement = "a.wav"\nprotocol = "relay"'), "services.a.b"),
        (services('codec = "l16"\nprotocol = "relay"'), "services.a.b"),
        (services('recording_format = "mp3"'), "services.a.b.recording_format"),
        (services(f'color = "{SECRET}"'), "services.a.b.color"),
        ("[[services]]\n", "services.0.host"),
        (f'[[services]]\nhost = "../{SECRET}"', "services.0.host"),
        (services() + services(), "settings"),
        (services("default = true\n") + '[[services]]\nhost = "c.d"\ndefault = true', "settings"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_setting_and_not_the_value(file, text, setting):
    with pytest.raises(SettingsError) as raised:
        load(file(text), {})
    assert raised.value.setting == setting
    line = str(raised.value)
    assert line.startswith(f"{setting}: ")
    assert "\n" not in line
    assert not re.search("tuple|valid |Input|instance|pattern|dictionary|xtra", line), "plain words"
    assert SECRET not in line
    assert len(line) < 300


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[dialout]\nallow = "+1"', 'dialout.allow: must be a list: ["…", "…"]'),
        (services("numbers = 5"), 'services.a.b.numbers: must be a list: ["…", "…"]'),
        (services("bot = 5"), "services.a.b.bot: must be text, in quotes"),
        (services("max = 2.5"), "services.a.b.max: must be a whole number"),
        (services("max = 5000"), "services.a.b.max: must be at most 4000"),
        (services('default = "maybe"'), "services.a.b.default: must be true or false"),
        (services("when_full = 5"), 'services.a.b.when_full: must be "hold", "busy", "message" or "forward:+15550123"'),
        ("[services]\nhost = 5", "services: must be a list of tables: begin each by [[services]]"),
        ("drain_seconds = 5", "drain_seconds: there is no such setting here: it belongs in [server]"),
        ("[server]\ndrain_secs = 5", "server.drain_secs: there is no such setting; do you mean drain_seconds?"),
        (services("min_worm = 5"), "services.a.b.min_worm: there is no such setting; do you mean min_warm?"),
        (
            services("ops_bnd = 5"),
            "services.a.b.ops_bnd: there is no such setting; do you mean ops_bind in [server]?",
        ),
        ("[service]\nhost = 5", "service: there is no such setting; do you mean services?"),
        ('[carriers.plivo]\nauth_idd = "x"', "carriers.plivo.auth_idd: there is no such setting; do you mean auth_id?"),
        (
            '[carriers.exotel]\nregion = "India"',
            'carriers.exotel.region: must be the two capital letters of a country, like "IN"',
        ),
        (
            '[dialout]\nallow = ["+1", "gb"]',
            'dialout.allow: number 2 of the list is no prefix or region: write "+1", "+4420" or "GB"',
        ),
        (
            '[dialout]\ncallers = ["+1 555 0100"]',
            'dialout.callers: number 1 of the list is no number in E.164: write it like "+15550100"',
        ),
    ],
)
def test_plain_words(file, text, line):
    with pytest.raises(SettingsError) as raised:
        load(file(text), {})
    assert str(raised.value) == line


@pytest.mark.parametrize("number", ["abc", "", "+", "+1", "12", "+1 (202) 555-01x3", "(202) 555-0143", "sip:"])
def test_what_is_no_number_of_a_service(file, number):
    text = services(f'numbers = ["+15550100000", "{number}"]')
    with pytest.raises(SettingsError, match=r"^services.a.b.numbers: number 2 of the list is no telephone number"):
        load(file(text), {})


@pytest.mark.parametrize(
    "number",
    ["+15550100000", "+1 (202) 555-0143", "15550100000", "09494865411", "12345", "sip:a@b.example", "client:a"],
)
def test_numbers_that_carriers_write(file, number):
    assert load(file(services(f'numbers = ["{number}"]')), {}).services[0].numbers == (number,)


def test_all_mistakes_are_told_at_once(file):
    text = (
        "public_url = 5\n[server]\ndrain_seconds = -1\n[carriers.twilio]\naccount_sid = 5\nauth_token = 5\n"
        "[carriers.acme]\nkey = 5\n" + services("max = 0\n") + "[[services]]\n"
    )
    with pytest.raises(SettingsErrors) as raised:
        load(file(text), {})
    assert [line.partition(": ")[0] for line in str(raised.value).splitlines()] == [
        "public_url",
        "server.drain_seconds",
        "services.a.b.max",
        "services.1.host",
        "carriers.twilio.accounts.0.account_sid",
        "carriers.twilio.accounts.0.auth_token",
        "carriers.acme",
    ]


@pytest.mark.parametrize("command", ["check", "serve"])
def test_each_mistake_is_a_line_of_the_command(file, capsys, command):
    assert main([command, "--config", file("public_url = 5\n[server]\ndrain_seconds = -1")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"gateway {command}: public_url: must be text, in quotes",
        f"gateway {command}: server.drain_seconds: must be at least 0",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [(f"secret = {SECRET}", "is not TOML"), (f'secret = "{SECRET}', "is not TOML"), ('"' + SECRET, "is not TOML")],
)
def test_a_file_that_is_no_toml_is_not_shown(file, text, says):
    with pytest.raises(SettingsError, match=says) as raised:
        load(file(text), {})
    assert SECRET not in str(raised.value)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is not TOML"):
        load(str(path), {})


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match=r"^--config: cannot read .*absent.toml: No such file or directory$"):
        load(str(tmp_path / "absent.toml"), {})


def test_a_variable_below_what_is_no_table(file):
    with pytest.raises(SettingsError, match=r"^GATEWAY_SERVICES__HOST: services is not a table"):
        load(file(services()), {"GATEWAY_SERVICES__HOST": "x"})


SECTIONS = ("SECRET", "SERVER", "SERVER__OPS_BIND", "API__KEYS", "WORKERS", "DIALOUT__CPS", "CARRIERS", "SERVICES")
CARRIER_KEYS = [
    f"CARRIERS__{name.upper()}__{key.upper()}" for name, entry in CARRIERS.items() for key in entry.config.model_fields
]
VALUES = st.one_of(
    st.text(min_size=8, max_size=30, alphabet=st.characters(codec="ascii", exclude_characters="\0")),
    st.sampled_from(
        ["[1, 2]", '[{"host": 5}]', '{"keys": {"a": []}}', "[[[]]]", "1e999", "-1", "nan", '{"accounts": [{}]}']
    ),
)


@hypothesis_settings(deadline=None)
@given(st.dictionaries(st.sampled_from([f"GATEWAY_{name}" for name in (*SECTIONS, *CARRIER_KEYS)]), VALUES, max_size=4))
def test_any_environment_gives_settings_or_one_line_that_shows_no_value(environ):
    try:
        settings = load(environ=environ)
    except SettingsError as error:
        line = str(error)
        assert all(re.match(r"[A-Za-z_.0-9-]+: .", each) for each in line.split("\n"))
        for value in environ.values():
            # A random word or two may be ones of ours.
            assert value not in line or value.replace(" ", "").isalpha()
    else:
        assert SECRET not in repr(settings)


def test_the_urls_that_may_hold_a_password_do_not_show_in_the_repr(file):
    text = (
        f'secret = "x"\nregistry = "redis://:{SECRET}@127.0.0.1/0"\n'
        f'records = "postgresql+asyncpg://u:{SECRET}@127.0.0.1/d"\n'
    )
    settings = load(file(text), {})
    assert SECRET in settings.registry
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)


@pytest.mark.parametrize(
    "url",
    ["memory", "redis://h", "redis://:p@h:6379/0", "rediss://u:p%5B@h/1", "unix:///run/redis.sock", "redis://[::1]:1/"],
)
def test_registries(file, url):
    assert load(file(f'secret = "x"\nregistry = "{url}"'), {}).registry == url


def test_another_bot_for_a_service():
    service = Settings.model_validate({"services": [{"host": "a.b", "min_warm": 3}]}).services[0]
    assert service.with_bot("bot.py").model_dump() == service.model_dump() | {"bot": "bot.py"}
    assert service.service().protocol is None  # what its hosts say


def test_no_secret_shows_in_the_settings_repr(file):
    text = (
        f'secret = "{SECRET}"\n[api]\nkeys = ["{SECRET}"]\n[carriers.twilio]\naccount_sid = "AC1"\n'
        f'auth_token = "{SECRET}"\nstream_key = "{SECRET}"\n' + services(f'link_key = "{SECRET}"')
    )
    assert SECRET in str(tomllib.loads(text))
    settings = load(file(text), {})
    assert SECRET not in repr(settings)
    assert SECRET not in repr(settings.carrier("twilio"))
    assert SECRET not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("a.localhost", True),
        ("", False),
        ("10.0.0.1", False),
        ("127.example.com", False),
    ],
)
def test_loopback(host, is_it):
    assert is_loopback(host) is is_it
