"""Settings: a TOML file and `PINCH_*` variables, typed; the environment wins."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from attrs import Attribute, field, fields, frozen, has

ENVIRONMENT_PREFIX = "PINCH_"
CONFIG_VARIABLE = "PINCH_CONFIG"
DEFAULT_CONFIG = Path("/etc/pinch/pinch.toml")
OTHER_VARIABLES = frozenset(
    {CONFIG_VARIABLE, "PINCH_URL", "PINCH_TOKEN", "PINCH_CACHE", "PINCH_DATA", "PINCH_DEBIAN_MIRROR"}
)
"""Variables of the command line and of this repository's tools: no settings, and no mistakes either."""


class SettingsError(ValueError):
    """A setting that is unknown, of the wrong type or out of its range."""


def _setting(default: Any, doc: str, *, least: int | None = None, choices: tuple[str, ...] = ()) -> Any:
    """Declare a setting with the sentence that the documentation prints for it."""
    factory = {"factory": lambda: default} if isinstance(default, list) else {"default": default}
    return field(metadata={"doc": doc, "least": least, "choices": choices}, **factory)


@frozen(repr=False)
class MemorySettings:
    """The store."""

    synchronous: str = _setting(
        "full",
        "`full`: an acknowledged write is on the card. `off`: a power cut loses writes; it is there to prove that.",
        choices=("full", "off"),
    )
    readers: int = _setting(0, "Reading connections; 0 takes the tier's number.", least=0)
    sqlite_cache_kb: int = _setting(0, "SQLite page cache of each connection, KiB; 0 takes the tier's.", least=0)
    chunk_tokens: int = _setting(400, "Length of a document's chunk, estimated tokens.", least=32)
    chunk_overlap: int = _setting(80, "Tokens that neighbouring chunks share.", least=0)


@frozen(repr=False)
class EmbeddingSettings:
    """The embedding model."""

    idle_unload_s: int = _setting(300, "Seconds without use after which the model leaves memory; 0 keeps it.", least=0)
    threads: int = _setting(1, "Threads of one inference.", least=1)
    query_cache_kb: int = _setting(0, "Cache of query vectors, KiB; 0 takes the tier's.", least=0)


@frozen(repr=False)
class SyncSettings:
    """Folders that the service keeps in step with the store."""

    folders: list[str] = _setting([], "Folders that `POST /v1/sync` reads; no other folder is ever read.")
    patterns: list[str] = _setting(["*.md", "*.markdown", "*.txt"], "File names that are documents.")
    space: str = _setting("default", "Space that synced documents go to.")


@frozen(repr=False)
class GatewaySettings:
    """The HTTP side."""

    max_connections: int = _setting(0, "Open connections; one more is refused. 0 takes the tier's number.", least=0)
    max_body_kb: int = _setting(
        0, "Largest JSON body, KiB; documents are streamed and have no limit. 0 takes the tier's.", least=0
    )
    allowed_hosts: list[str] = _setting([], "Host names clients may use besides loopback and the listen address.")
    allowed_origins: list[str] = _setting(
        [], "Web origins that are not refused; without CORS headers, so a page elsewhere needs a proxy."
    )
    handshake_timeout_s: int = _setting(
        10, "Seconds that a new connection has for its first request, and a WebSocket for `connect`.", least=1
    )
    idle_timeout_s: int = _setting(
        300, "Seconds after which a WebSocket that asks nothing and waits for nothing is closed.", least=1
    )
    tick_s: int = _setting(30, "Seconds between two `tick` events of a WebSocket.", least=1)
    send_buffer_kb: int = _setting(
        0, "What a WebSocket client may leave untaken, KiB; past that it is closed. 0 takes the tier's.", least=0
    )
    allow_plaintext: bool = _setting(False, "Listen beyond loopback without TLS.")
    tls_certificate: str = _setting("", "PEM certificate chain; with it the listener speaks TLS.")
    tls_key: str = _setting("", "PEM private key of that certificate.")


@frozen(repr=False)
class ProviderSettings:
    """Who answers: any endpoint that speaks OpenAI's chat completions."""

    base_url: str = _setting(
        "", "URL up to and with `/v1`, such as `http://127.0.0.1:11434/v1`; empty: nobody answers."
    )
    model: str = _setting("", "Name of the model there.")
    key_file: str = _setting("", "File with the key, such as a credential of systemd's; empty sends none.")
    silence_s: int = _setting(120, "Seconds without a byte after which the provider is given up.", least=1)
    answer_s: int = _setting(600, "Seconds that one whole answer may take.", least=1)
    retries: int = _setting(
        3, "Further attempts when it cannot be reached, is busy or fails before it says a word.", least=0
    )
    max_answer_kb: int = _setting(
        64, "Text of one answer, KiB; a longer one ends as an error, and what was said so far is kept.", least=1
    )


@frozen(repr=False)
class AgentSettings:
    """The agent that speaks in sessions."""

    instructions: str = _setting(
        "You are a helpful assistant with a lasting memory.", "What the model is told first in every session."
    )
    context_tokens: int = _setting(6000, "Estimated tokens of a session that the model is shown.", least=256)
    recall_tokens: int = _setting(1000, "Of these, tokens for memories that fit the question; 0 recalls none.", least=0)
    remember_space: str = _setting("default", "Space that the agent's own memories go to.")
    tool_rounds: int = _setting(6, "How often the model may call tools before it has to answer.", least=0)
    max_runs: int = _setting(0, "Answers in the making at once; 0 takes the tier's number.", least=0)
    max_sessions: int = _setting(300, "Sessions there may be.", least=1)
    session_kb: int = _setting(
        0, "A session's file past which its oldest part is archived, KiB; 0 takes the tier's.", least=0
    )


@frozen(repr=False)
class Settings:
    """Everything an operator can set. Sections are nested classes."""

    listen: str = _setting("127.0.0.1:18789", "Address and port of the service.")
    state_dir: str = _setting("/var/lib/pinch", "Folder of the store.")
    state_wait_s: int = _setting(
        0, "Seconds that a start waits for another service that has this folder; 0 refuses at once.", least=0
    )
    tokens_file: str = _setting(
        "/etc/pinch/tokens", "File with one `name token` a line; made on first start if absent."
    )
    tier: str = _setting(
        "auto", "`minimal`, `light`, `full`, or `auto` to detect it.", choices=("auto", "minimal", "light", "full")
    )
    on_misfit: str = _setting(
        "refuse",
        "What happens when a tier does not fit the machine: `refuse` to start or `step_down` to a smaller tier.",
        choices=("refuse", "step_down"),
    )
    model_dir: str = _setting(
        "", "Folder of the embedding model; empty looks for the tier's model under the standard folder."
    )
    budget_mb: int = _setting(0, "Anonymous memory the service may hold, MB; 0 takes the tier's.", least=0)
    log_level: str = _setting(
        "info", "`debug`, `info`, `warning` or `error`.", choices=("debug", "info", "warning", "error")
    )
    memory: MemorySettings = field(factory=MemorySettings)
    embedding: EmbeddingSettings = field(factory=EmbeddingSettings)
    sync: SyncSettings = field(factory=SyncSettings)
    gateway: GatewaySettings = field(factory=GatewaySettings)
    provider: ProviderSettings = field(factory=ProviderSettings)
    agents: AgentSettings = field(factory=AgentSettings)


class Declared(NamedTuple):
    """One setting as the documentation lists it."""

    key: str
    """Dotted key in the TOML file, such as `gateway.max_connections`."""
    variable: str
    """Environment variable, such as `PINCH_GATEWAY_MAX_CONNECTIONS`."""
    type: Any
    default: Any
    doc: str


def declared(cls: type = Settings, section: str = "") -> Iterator[Declared]:
    """List every setting there is, sections after the top level."""
    hints = get_type_hints(cls)
    nested = []
    defaults = cls()
    for attribute in fields(cls):
        key = f"{section}.{attribute.name}" if section else attribute.name
        if has(hints[attribute.name]):
            nested.append((hints[attribute.name], key))
            continue
        variable = ENVIRONMENT_PREFIX + key.replace(".", "_").upper()
        default = getattr(defaults, attribute.name)
        yield Declared(key, variable, hints[attribute.name], default, attribute.metadata["doc"])
    for kind, key in nested:
        yield from declared(kind, key)


def load_settings(environ: Mapping[str, str], path: Path | None = None) -> Settings:
    """Build settings from the config file and the environment.

    Args:
        environ: variables; those that begin with `PINCH_` must be settings.
        path: TOML file; without it `PINCH_CONFIG` names it, else `/etc/pinch/pinch.toml` where it exists.

    Raises:
        SettingsError: names the key, what was found and what was expected.
    """
    required = path is not None or CONFIG_VARIABLE in environ
    path = path or Path(environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))
    raw: dict[str, Any] = {}
    if required or path.exists():
        try:
            raw = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise SettingsError(f"config file {path} does not exist; unset {CONFIG_VARIABLE} or create it") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"config file {path} is not TOML: {error}") from None
        except OSError as error:
            raise SettingsError(f"config file {path} cannot be read: {error.strerror}") from None
    for variable, text in environ.items():
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in OTHER_VARIABLES:
            _overlay(raw, variable, text)
    return _agreeing(_structure(Settings, raw, "", str(path)))


def _agreeing(settings: Settings) -> Settings:
    """Return `settings` whose values agree with each other."""
    memory = settings.memory
    if memory.chunk_overlap * 2 > memory.chunk_tokens:
        raise SettingsError(
            f"memory.chunk_overlap is {memory.chunk_overlap}; expected at most half of memory.chunk_tokens, "
            f"which is {memory.chunk_tokens}"
        )
    agents = settings.agents
    if agents.recall_tokens * 2 > agents.context_tokens:
        raise SettingsError(
            f"agents.recall_tokens is {agents.recall_tokens}; expected at most half of agents.context_tokens, "
            f"which is {agents.context_tokens}"
        )
    provider = settings.provider
    if bool(provider.base_url) != bool(provider.model):
        raise SettingsError("provider.base_url and provider.model belong together: set both or none")
    if provider.base_url:
        _check_url(provider.base_url)
    if not agents.remember_space.isprintable() or not agents.remember_space:
        raise SettingsError(f"agents.remember_space is {agents.remember_space!r}; expected the name of a space")
    return settings


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        reachable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        reachable = False
    if not reachable:
        raise SettingsError(f"provider.base_url is {url!r}; expected an address such as http://127.0.0.1:11434/v1")
    if parts.username is not None or parts.query or parts.fragment:
        raise SettingsError("provider.base_url holds a name, a password or a query; a key stands in provider.key_file")


def _overlay(raw: dict[str, Any], variable: str, text: str) -> None:
    known = {item.variable: item for item in declared()}
    item = known.get(variable)
    if item is None:
        raise SettingsError(f"environment variable {variable} is not a setting{_nearest(variable, known)}")
    section, _, name = item.key.rpartition(".")
    target = raw.setdefault(section, {}) if section else raw
    if isinstance(target, dict):
        target[name] = _parse(item, text)


def _parse(item: Declared, text: str) -> Any:
    if item.type is bool:
        if text.lower() not in {"true", "false", "1", "0", "yes", "no"}:
            raise SettingsError(f"{item.variable} is {text!r}; expected true or false")
        return text.lower() in {"true", "1", "yes"}
    if item.type is int:
        try:
            return int(text)
        except ValueError:
            raise SettingsError(f"{item.variable} is {text!r}; expected a whole number") from None
    if get_origin(item.type) is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _structure(cls: type, raw: Mapping[str, Any], section: str, origin: str) -> Any:
    hints = get_type_hints(cls)
    known = {attribute.name: attribute for attribute in fields(cls)}
    values: dict[str, Any] = {}
    for name, value in raw.items():
        key = f"{section}.{name}" if section else name
        if name not in known:
            raise SettingsError(f"{origin}: unknown key {key}{_nearest(name, known)}")
        kind = hints[name]
        if has(kind):
            if not isinstance(value, dict):
                raise SettingsError(f"{origin}: {key} is {value!r}; expected a section [{key}]")
            values[name] = _structure(kind, value, key, origin)
        else:
            values[name] = _check(known[name], kind, value, key)
    return cls(**values)


def _check(attribute: Attribute[Any], kind: Any, value: Any, key: str) -> Any:
    if get_origin(kind) is list:
        if not isinstance(value, list) or not all(isinstance(part, get_args(kind)[0]) for part in value):
            raise SettingsError(f"{key} is {value!r}; expected a list of strings")
        return value
    if type(value) is not kind:
        names: dict[Any, str] = {int: "a whole number", bool: "true or false", str: "a string"}
        raise SettingsError(f"{key} is {value!r}; expected {names[kind]}")
    least, choices = attribute.metadata["least"], attribute.metadata["choices"]
    if least is not None and value < least:
        raise SettingsError(f"{key} is {value}; expected {least} or more")
    if choices and value not in choices:
        raise SettingsError(f"{key} is {value!r}; expected one of {', '.join(choices)}{_nearest(value, choices)}")
    return value


def _nearest(name: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    import difflib  # a start without mistakes does without it

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
