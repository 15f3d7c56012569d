"""What the packages offer by name: the real things, imported when they are asked for, with types that say the same."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from llava_viewer import load, render, save, with_picture
from llava_viewer.look.picture import PictureError
from llava_viewer.pages.report import render_report
from llava_wire import RecordError, encode
from support.pictures import encoded
from support.synthetic import make_picture, make_record

ROOT = Path(__file__).parents[2]
PICTURE = encoded(make_picture(256, 192))
"""What `make_record` is made from."""
OFFERED = {
    "llava_server": ("handler", {"Engine", "GenerateRequest"}),
    "llava_viewer": ("viewer", {"Client", "annotated", "load", "render", "save", "with_picture"}),
}


def python(code: str) -> list[str]:
    """What a fresh interpreter prints, in words."""
    path = f"import sys; sys.path[:0] = [{str(ROOT / 'handler')!r}, {str(ROOT / 'viewer')!r}]\n"
    done = subprocess.run([sys.executable, "-c", path + code], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_packages_alone_loads_nothing() -> None:
    loaded = python("import llava_server, llava_viewer\nprint(*(name.partition('.')[0] for name in sys.modules))")
    assert not {"torch", "transformers", "numpy", "PIL", "jinja2", "httpcore2", "grpc", "llava_wire"} & set(loaded)


def test_a_request_is_built_and_a_record_is_read_without_torch() -> None:
    code = (
        "from llava_server import GenerateRequest\nfrom llava_viewer import Client, load, render, save\n"
        "print(GenerateRequest.build(b'file', 'Where?').prompt, 'torch' in sys.modules, 'jinja2' in sys.modules)"
    )
    assert python(code) == ["Where?", "False", "False"]


@pytest.mark.parametrize("package", OFFERED)
def test_names_are_the_real_things_and_types_say_the_same(package: str) -> None:
    root, names = OFFERED[package]
    module = importlib.import_module(package)
    tree = ast.parse((ROOT / root / package / "__init__.py").read_text("utf-8"))
    [typed] = [node for node in tree.body if isinstance(node, ast.If)]
    homes = {alias.name: node.module for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(homes) == set(module.__all__) == names
    assert names <= set(dir(module))
    for name, home in homes.items():
        assert home is not None
        assert getattr(module, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'rendr'"):
        _ = module.rendr


def test_a_record_goes_into_a_file_with_its_picture_and_comes_back(tmp_path: Path) -> None:
    record, path = make_record(with_picture=False), tmp_path / "new" / "run.npz"
    (tmp_path / "picture.png").write_bytes(PICTURE)
    for picture in (PICTURE, tmp_path / "picture.png", str(tmp_path / "picture.png")):
        assert save(record, path, picture=picture) == path
        again = load(str(path))
        assert again.picture is not None
        assert encode(again) == encode(with_picture(record, PICTURE))
    save(again, path)
    assert load(path).picture == again.picture, "an image that a record carries stays"
    save(record, path)
    assert load(path).picture is None
    assert [one.name for one in path.parent.iterdir()] == ["run.npz"]


def test_another_picture_is_refused_and_the_file_stays(tmp_path: Path) -> None:
    record, path = make_record(with_picture=False), tmp_path / "run.npz"
    path.write_bytes(b"before")
    with pytest.raises(PictureError, match="this is another image"):
        save(record, path, picture=encoded(make_picture(256, 192, seed=9)))
    with pytest.raises(PictureError, match="image: "):
        with_picture(record, b"no image")
    assert path.read_bytes() == b"before"
    with pytest.raises(RecordError):
        load(path)
    with pytest.raises(OSError, match=r"none\.npz"):
        load(tmp_path / "none.npz")


def test_a_page_is_given_and_written(tmp_path: Path) -> None:
    record = make_record(with_picture=False)
    html = render(record, tmp_path / "run.html", picture=PICTURE, title="Mine", notes=("Mind this.",))
    assert (
        (tmp_path / "run.html").read_text("utf-8")
        == html
        == render_report(with_picture(record, PICTURE), title="Mine", notes=("Mind this.",))
    )
    assert "Mine" in html
    assert html != render(record)
    assert render(make_record(), embed_image=False) == render_report(make_record(), embed_image=False)
