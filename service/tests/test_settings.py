"""Settings: what an operator writes, and what is said to a mistake."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pinch
import pytest
from pinch.settings import Settings, SettingsError, declared, load_settings


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pinch.toml"
    path.write_text(text, "utf-8")
    return path


def test_the_defaults_are_those_of_the_documentation() -> None:
    settings = load_settings({"PINCH_CONFIG": "/dev/null"})
    assert settings == Settings()
    assert (settings.listen, settings.state_dir) == ("127.0.0.1:18789", "/var/lib/pinch")
    assert (settings.tokens_file, settings.tier) == ("/etc/pinch/tokens", "auto")


def test_every_type_can_be_set_in_the_file_and_in_the_environment(tmp_path: Path) -> None:
    path = config(
        tmp_path,
        'listen = "127.0.0.1:1"\nbudget_mb = 50\n[gateway]\nallow_plaintext = true\nallowed_hosts = ["pi.local"]\n',
    )
    settings = load_settings({}, path)
    assert (settings.listen, settings.budget_mb) == ("127.0.0.1:1", 50)
    assert (settings.gateway.allow_plaintext, settings.gateway.allowed_hosts) == (True, ["pi.local"])
    environment = {
        "PINCH_LISTEN": "127.0.0.1:2",
        "PINCH_BUDGET_MB": "60",
        "PINCH_GATEWAY_ALLOW_PLAINTEXT": "no",
        "PINCH_GATEWAY_ALLOWED_HOSTS": "a.local, b.local",
    }
    settings = load_settings(environment, path)
    assert (settings.listen, settings.budget_mb) == ("127.0.0.1:2", 60), "the environment wins"
    assert settings.gateway.allow_plaintext is False
    assert settings.gateway.allowed_hosts == ["a.local", "b.local"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lissten = 'x'", "unknown key lissten; did you mean listen?"),
        ("[memory]\nreader = 1", "unknown key memory.reader; did you mean readers?"),
        ("[memry]\nreaders = 1", "unknown key memry; did you mean memory?"),
        ("budget_mb = '50'", "budget_mb is '50'; expected a whole number"),
        ("budget_mb = true", "budget_mb is True; expected a whole number"),
        ("budget_mb = -1", "budget_mb is -1; expected 0 or more"),
        ("tier = 'ful'", "tier is 'ful'; expected one of auto, minimal, light, full; did you mean full?"),
        ("[sync]\nfolders = 'x'", "sync.folders is 'x'; expected a list of strings"),
        ("[sync]\nfolders = [1]", r"sync.folders is \[1\]; expected a list of strings"),
        ("gateway = 1", r"gateway is 1; expected a section \[gateway\]"),
        ("[memory]\nchunk_tokens = 100", "memory.chunk_overlap is 80; expected at most half of memory.chunk_tokens"),
        ("[provider]\nmodel = 'm'", "base_url and provider.model belong together"),
        ("[provider]\nmodel = 'm'\nbase_url = 'ftp://a/v1'", "base_url is 'ftp://a/v1'; expected an address"),
        ("[provider]\nmodel = 'm'\nbase_url = 'http://'", "base_url is 'http://'; expected an address"),
        ("[provider]\nmodel = 'm'\nbase_url = 'http://a:99999'", "base_url is 'http://a:99999'; expected an address"),
        ("[provider]\nmodel = 'm'\nbase_url = 'http://u:p@a/v1'", "a key stands in provider.key_file"),
        ("[agents]\nrecall_tokens = 5000", "recall_tokens is 5000; expected at most half of agents.context_tokens"),
        ("[agents]\nremember_space = ''", "remember_space is ''; expected the name of a space"),
        ("listen = ", "is not TOML"),
        ("listen = 1", "listen is 1; expected a string"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings({}, config(tmp_path, text))


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PINCH_LISEN", "x", "PINCH_LISEN is not a setting; did you mean PINCH_LISTEN?"),
        ("PINCH_BUDGET_MB", "fifty", "PINCH_BUDGET_MB is 'fifty'; expected a whole number"),
        ("PINCH_GATEWAY_ALLOW_PLAINTEXT", "maybe", "expected true or false"),
        ("PINCH_LOG_LEVEL", "loud", "log_level is 'loud'"),
        ("PINCH_CONFIG", "/nowhere/pinch.toml", "does not exist"),
    ],
)
def test_a_mistake_in_the_environment_is_named(variable: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings({"PINCH_CONFIG": "/dev/null", variable: value})


def test_a_config_file_that_is_no_text_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "pinch.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=f"{path} is not TOML"):
        load_settings({}, path)


def test_the_variables_of_other_tools_are_no_mistakes() -> None:
    environment = {"PINCH_CONFIG": "/dev/null", "PINCH_URL": "x", "PINCH_TOKEN": "y", "PINCH_CACHE": "/z"}
    assert load_settings(environment) == Settings()


def test_every_setting_has_a_sentence_and_someone_who_reads_it() -> None:
    package = Path(pinch.__file__).parent
    read = {key for path in package.rglob("*.py") if path.name != "settings.py" for key in keys_read(path)}
    listed = list(declared())
    assert len(listed) > 20
    for item in listed:
        assert (item.key if "." in item.key else f"settings.{item.key}") in read, f"nothing reads {item.key}"
        assert item.doc.endswith("."), item.key


def keys_read(path: Path) -> Iterator[str]:
    """Yield `settings.listen`, `settings.sync.space`, or `memory.readers` where a local name stands for the section.

    Where a module knows a section's class, `settings` may stand for it too.
    """
    tree = ast.parse(path.read_text("utf-8"))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}
    hints = get_type_hints(Settings)
    sections = [section for section, kind in hints.items() if getattr(kind, "__name__", "") in imported]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner, _, name = ".".join(ast.unparse(node).rsplit(".", 2)[-2:]).partition(".")
            yield f"{owner}.{name}"
            if owner == "settings":
                yield from (f"{section}.{name}" for section in sections)
