"""Where weights lie: the rule itself, what it refuses, and that everybody who looks for weights follows it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import build_mar
import download_model
import estimate
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from llava_handler import LlavaHandler
from llava_server import engine
from llava_server.ask.settings import SettingsError
from llava_server.engine import Engine
from llava_server.load.locate import locate
from servekit import models, paths

STORE = Path(__file__).resolve().parents[3] / "model_store"


def put(folder: Path) -> Path:
    """A folder that somebody would take for a model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    return folder


def write(store: Path, model: str, /, **section: object) -> Path:
    """A model's YAML."""
    document = store / f"{model}.yaml"
    document.write_text(json.dumps({"handler": section}))
    return document


@pytest.mark.parametrize(
    ("section", "there", "folder", "origin"),
    [
        ({"source": "org/bar"}, [], "weights/bar-1.5", "hub"),
        ({"source": "org/bar"}, ["weights/bar-1.5"], "weights/bar-1.5", "hub"),
        ({"source": "other"}, ["other", "weights/bar-1.5"], "other", "source"),
        ({"source": "other"}, ["weights/bar-1.5"], "other", "source"),
        ({"source": "bar-1.5"}, ["bar-1.5"], "bar-1.5", "source"),
        ({}, ["bar-1.5"], "bar-1.5", "unnamed"),
        ({}, ["weights/bar-1.5"], "weights/bar-1.5", "unnamed"),
        ({"model_path": "a/b", "source": "org/bar"}, ["a/b", "weights/bar-1.5"], "a/b", "model_path"),
        ({"model_path": "../b"}, ["weights/bar-1.5"], "../b", "model_path"),
        ({"model_path": "bar-1.5", "source": "org/bar"}, ["bar-1.5"], "bar-1.5", "model_path"),
    ],
)
def test_the_yaml_alone_says_where(
    tmp_path: Path, section: dict[str, str], there: list[str], folder: str, origin: str
) -> None:
    document = write(tmp_path, "bar-1.5", **section)
    for place in there:
        put(tmp_path / place)
    for path in (document, tmp_path / "bar-1.5"):
        located = locate(path)
        assert (located.folder, located.origin) == (Path(os.path.normpath(tmp_path / folder)), origin)
        assert located.settings.name == "bar-1.5"


def test_a_home_folder_is_meant_where_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert locate(write(tmp_path, "bar", model_path="~/bar")).folder == tmp_path / "home" / "bar"


def test_a_folder_without_a_yaml_is_itself(tmp_path: Path) -> None:
    folder = put(tmp_path / "any.1")
    assert (locate(folder).folder, locate(folder).settings.name, locate(folder).origin) == (folder, "any.1", "given")
    assert locate(folder, {"name": "x", "source": "org/x"}).folder == folder
    assert locate(folder, {"model_path": str(folder)}).settings.name == "any.1"
    with pytest.raises(SettingsError, match=r"handler.model_path: got '/else' for the folder .*any.1"):
        locate(folder, {"model_path": "/else"})
    with pytest.raises(SettingsError, match=r"model: got .*nothing', expected a checkpoint folder or a model's YAML"):
        locate(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("section", "there"),
    [
        ({"source": "org/bar"}, ["bar"]),
        ({"source": "org/bar"}, ["bar", "weights/bar"]),
        ({"source": "org/bar"}, ["org/bar"]),
        ({"source": "other"}, ["bar", "other"]),
        ({}, ["bar", "weights/bar"]),
        ({"model_path": "other"}, ["bar", "other"]),
    ],
)
def test_two_folders_for_one_name_are_refused(tmp_path: Path, section: dict[str, str], there: list[str]) -> None:
    document = write(tmp_path, "bar", **section)
    for place in there:
        put(tmp_path / place)
    for path in (document, tmp_path / "bar"):
        with pytest.raises(SettingsError, match=r"bar.yaml: got a model in .*/, and the settings mean .*model_path: "):
            locate(path)


def test_a_link_to_the_same_folder_is_no_second_one(tmp_path: Path) -> None:
    put(tmp_path / "weights" / "bar")
    (tmp_path / "bar").symlink_to("weights/bar")
    assert locate(write(tmp_path, "bar", source="org/bar")).folder == tmp_path / "weights" / "bar"


def test_one_name_for_requests_records_and_commands(tmp_path: Path) -> None:
    assert locate(write(tmp_path, "bar", source="org/x")).settings.name == "bar"
    with pytest.raises(SettingsError, match=r"bar.yaml: handler.name: got 'foo', expected 'bar'.*leave it out"):
        locate(write(tmp_path, "bar", name="foo", source="org/x"))


@pytest.mark.parametrize("source", ["/data/x", "a/b/c", "../x", "x/", "."])
def test_a_source_that_is_neither_a_name_nor_a_repository_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(SettingsError, match=r"bar.yaml: handler.source: got .*set handler.model_path"):
        locate(write(tmp_path, "bar", source=source))


def test_a_yaml_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    document = tmp_path / "bar.yaml"
    for text, words in (("handler: [", "expected a readable YAML"), ("a: 1", "no `handler:` section")):
        document.write_text(text)
        with pytest.raises(SettingsError, match=f"bar.yaml: got .*{words}"):
            locate(document)
    document.write_text("handler:\n  limits:\n")
    with pytest.raises(SettingsError, match=r"bar.yaml: handler.limits: got None, expected a mapping"):
        locate(document)


def test_advice_names_what_there_is(tmp_path: Path) -> None:
    assert locate(STORE / "llava-1.5-7b").cure == "run: make download MODEL=llava-1.5-7b"
    elsewhere = locate(write(tmp_path, "bar", source="org/bar", revision="abc"))
    assert elsewhere.cure == f"run: hf download org/bar --revision abc --local-dir {tmp_path}/weights/bar"
    assert "correct handler.model_path ('x') in bar.yaml" in locate(write(tmp_path, "bar", model_path="x")).cure
    assert "correct handler.source ('x') in bar.yaml" in locate(write(tmp_path, "bar", source="x")).cure
    assert locate(write(tmp_path, "bar")).cure == "name their folder as handler.model_path in bar.yaml"


def test_estimate_needs_no_weights_of_a_model_that_is_kept_as_a_configuration(tmp_path: Path) -> None:
    document = write(tmp_path, "bar", source="org/bar")
    assert locate(document).configuration == tmp_path / "weights" / "bar"
    kept = put(tmp_path / "configs" / "bar")
    assert locate(document).configuration == kept
    put(tmp_path / "weights" / "bar")
    assert locate(document).configuration == tmp_path / "weights" / "bar"
    assert locate(write(tmp_path, "bar", model_path="gone")).configuration == tmp_path / "gone"


class Users:
    """Everybody who looks for the weights of a model, each with its own code up to the moment that it opens them."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._opened: list[Path] = []
        self._content: dict[str, Any] = {}
        self._embedded: Path | None = None

    def opened_by(self, user: str, name: str) -> str:
        """The folder that a user opens, or why it does not."""
        self._opened.clear()
        try:
            getattr(self, user)(name)
        except (SettingsError, paths.SetupError) as error:
            return f"refused: {error}"
        (folder,) = set(self._opened)
        return str(folder)

    def engine_by_yaml(self, name: str) -> None:
        Engine.load(self._store / f"{name}.yaml")

    def engine_by_name(self, name: str) -> None:
        Engine.load(self._store / name)

    def estimate(self, name: str) -> None:
        estimate.model_of(self._store, name)

    def download(self, name: str) -> None:
        download_model.download(name)

    def archive(self, name: str) -> None:
        build_mar.build(name, force=True)

    def preflight(self, name: str) -> None:
        models.check_archive(name, self._archived(name))
        self._opened += [self._embedded] if self._embedded is not None else []

    def worker(self, name: str) -> None:
        content = self._archived(name)
        # TorchServe unpacks an archive somewhere; what lies inside is the copy of one folder.
        unpacked = self._embedded.parent if self._embedded is not None else Path("/unpacked/archive")
        if self._embedded is not None:
            content["handler"]["model_path"] = self._embedded.name
        properties = {"model_dir": str(unpacked), "gpu_id": None}
        LlavaHandler().initialize(
            SimpleNamespace(model_name=name, system_properties=properties, model_yaml_config=content)
        )

    def _archived(self, name: str) -> dict[str, Any]:
        """The settings that the build writes into the archive."""
        build_mar.build(name, force=True)
        self._opened.clear()
        return self._content

    @contextmanager
    def stopped_at_the_weights(self) -> Iterator[None]:
        """Nothing is read, loaded, fetched or zipped; what would be opened is noted."""

        def opened(folder: Path, *args: object, **kwargs: object) -> tuple[object, object]:
            self._opened.append(folder)
            return SimpleNamespace(), SimpleNamespace()

        def archived(model: str, content: dict[str, Any], embedded: Path | None, *args: object) -> Path:
            self._content, self._embedded = content, embedded
            return self._store / f"{model}.yaml"

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(paths, "MODEL_STORE", self._store)
            patch.setattr(engine, "load", opened)
            patch.setattr(engine, "with_self_test", lambda loaded, *args: loaded)
            patch.setattr(Engine, "__init__", lambda *args: None)
            for module in (estimate, download_model, build_mar):
                patch.setattr(module, "check_checkpoint", opened)
            for module in (models, build_mar):
                patch.setattr(module, "check_files", opened)
            patch.setattr(download_model, "_fetch", lambda *args: None)
            patch.setattr(download_model, "verify", lambda *args: None)
            patch.setattr(build_mar, "_inputs_sha256", lambda *args, **kwargs: "")
            patch.setattr(build_mar, "_archive", archived)
            patch.setattr(build_mar, "archive", lambda model: self._store / f"{model}.mar")
            patch.setattr(build_mar, "import_test", lambda built: None)
            yield


USERS = ("engine_by_yaml", "engine_by_name", "estimate", "download", "archive", "preflight", "worker")
NAMES = ("bar", "bar-1.5")
PLACES = ("bar", "bar-1.5", "other", "weights/bar", "weights/bar-1.5", "org/bar", "somewhere/else")


@example_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(NAMES),
    there=st.sets(st.sampled_from(PLACES)),
    section=st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from((*NAMES, "other")),
            "source": st.sampled_from(("bar", "bar-1.5", "other", "org/bar", "weights/bar", "nowhere")),
            "model_path": st.sampled_from((*PLACES, "../outside", "ABSOLUTE")),
            "revision": st.just("abc"),
            "embed_weights": st.booleans(),
        },
    ),
)
def test_everybody_takes_the_same_folder_or_is_refused_in_the_same_words(
    name: str, there: set[str], section: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "store"
        for place in (*there, "../outside"):
            put(store / place)
        if section.get("model_path") == "ABSOLUTE":
            section = section | {"model_path": f"{scratch}/outside"}
        write(store, name, **section)
        users = Users(store)
        with users.stopped_at_the_weights():
            found = {user: users.opened_by(user, name) for user in USERS}
        assert len(set(found.values())) == 1, found
