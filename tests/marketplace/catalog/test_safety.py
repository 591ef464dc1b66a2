from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest

from marketplace.catalog.folders import FolderMissing, read_folder
from marketplace.catalog.safety import LARGEST_JSON, LARGEST_WEIGHTS_FILE, UnsafeModel, check_sizes
from tests.hub.tiny import safetensors_of, tiny_model, write_files


def zipped() -> bytes:
    """What torch.save writes: a ZIP archive with a pickle in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    return buffer.getvalue()


def with_template(template: object) -> dict[str, bytes]:
    return {"tokenizer_config.json": json.dumps({"chat_template": template}).encode()}


def weights(header: object, *, data: bytes = b"\x00" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

REFUSED = [
    ("a pickle", {"pytorch_model.bin": pickle.dumps({})}, "pytorch_model.bin: it is a pickle"),
    ("a checkpoint", {"model.ckpt": b"x"}, "model.ckpt: it is a pickle"),
    ("a pickle with capital letters", {"MODEL.PT": b"x"}, "MODEL.PT: it is a pickle"),
    ("Python code", {"modeling_tiny.py": b"import os"}, "modeling_tiny.py: it is code"),
    (
        "a pickle called safetensors",
        {"model.safetensors": pickle.dumps({"a": list(range(99))})},
        "it is a Python pickle",
    ),
    ("a torch archive called safetensors", {"model.safetensors": zipped()}, "it is a ZIP archive"),
    ("a pickle called json", {"config.json": pickle.dumps({})}, "config.json: it is a Python pickle"),
    ("a 7z archive called txt", {"vocab.txt": b"7z\xbc\xaf\x27\x1c" + bytes(20)}, "it is a 7z archive"),
    ("a program as a tokenizer", {"tokenizer.model": b"\x7fELF" + bytes(20)}, "it is a program"),
    ("text that is no text", {"vocab.txt": b"\xff\xfe\xfd"}, "vocab.txt: it is not UTF-8 text"),
    ("JSON that is no JSON", {"config.json": b"{"}, "config.json: it is not JSON"),
    ("code named in the configuration", tiny_model(auto_map={"AutoModel": "a.B"}), "it asks for Python code"),
    ("trust asked for", tiny_model(trust_remote_code=True), "it asks for Python code"),
    (
        "a foreign module of sentence-transformers",
        {"modules.json": b'[{"type": "evil.Module"}]'},
        "modules.json: it loads 'evil.Module'",
    ),
    (
        "a foreign part of a pipeline",
        {
            "unet/model.safetensors": safetensors_of({}),
            "model_index.json": b'{"unet": ["evil", "UNet"]}',
        },
        "its part 'unet' comes from 'evil'",
    ),
    ("an empty weights file", {"model.safetensors": b""}, "it has 0 bytes"),
    ("a header longer than the file", {"model.safetensors": b"\xff" * 8 + b"{}"}, "it announces a header"),
    ("a header that is no JSON", {"model.safetensors": weights(b"{'a'}")}, "its header is not JSON"),
    (
        "a header with a key twice",
        {"model.safetensors": weights(b'{"a": 1, "a": 2}')},
        "a key appears twice",
    ),
    ("a list for a header", {"model.safetensors": weights([1])}, "its header is not a JSON object"),
    (
        "an unknown type",
        {"model.safetensors": weights({"a": TENSOR | {"dtype": "PY"}})},
        "has the unknown type 'PY'",
    ),
    (
        "a negative side",
        {"model.safetensors": weights({"a": TENSOR | {"shape": [-2]}})},
        "has the shape [-2]",
    ),
    (
        "a size that is not the shape's",
        {"model.safetensors": weights({"a": TENSOR | {"shape": [3]}})},
        "which is not its size",
    ),
    (
        "an offset beyond the end",
        {"model.safetensors": weights({"a": TENSOR}, data=b"\x00" * 4)},
        "its tensors end at byte 8 of 4",
    ),
    (
        "bytes that no tensor has",
        {"model.safetensors": weights({"a": TENSOR}, data=b"\x00" * 12)},
        "its tensors end at byte 8 of 12",
    ),
    (
        "tensors that overlap",
        {"model.safetensors": weights({"a": TENSOR, "b": TENSOR | {"data_offsets": [4, 12]}})},
        "tensor 'b' overlaps the one before",
    ),
    (
        "a gap between tensors",
        {
            "model.safetensors": weights(
                {"a": TENSOR, "b": TENSOR | {"data_offsets": [12, 20]}}, data=bytes(20)
            )
        },
        "tensor 'b' leaves a gap before it",
    ),
    (
        "a template that reaches for Python",
        with_template("{{ ''.__class__ }}"),
        "the chat template reads the attribute '__class__' (line 1)",
    ),
    (
        "a template that spells it as a key",
        with_template("{{ messages['__class__'] }}"),
        "the chat template names '__class__' (line 1)",
    ),
    (
        "a template that spells it by a filter",
        with_template("{{ messages|attr('x') }}"),
        "the chat template uses the filter 'attr' (line 1)",
    ),
    (
        "a template that reads files",
        with_template("{% include '/etc/passwd' %}"),
        "the chat template has a statement of kind include (line 1)",
    ),
    (
        "a template that never ends",
        with_template("{% for i in range(1000000000) %}x{% endfor %}"),
        "the chat template loops more than 10000 times (line 1)",
    ),
    ("a template that is no Jinja", with_template("{% if %}"), "the chat template is not valid Jinja"),
    (
        "one of several templates",
        with_template([{"name": "tools", "template": "{{ x.__init__ }}"}]),
        "the chat template reads the attribute '__init__' (line 1)",
    ),
    (
        "a template in a file",
        {"chat_template.jinja": b"{{ x._y }}"},
        "chat_template.jinja: the chat template",
    ),
]


@pytest.mark.parametrize(("case", "files", "says"), REFUSED, ids=[row[0] for row in REFUSED])
def test_it_refuses(tmp_path: Path, case: str, files: dict[str, bytes], says: str):
    write_files(tmp_path, {**tiny_model(), **files})
    with pytest.raises(UnsafeModel) as caught:
        read_folder(tmp_path)
    assert says in str(caught.value)
    assert len(caught.value.refusals) == 1
    assert all(refusal.remedy for refusal in caught.value.refusals)


ALLOWED = [
    (
        "templates that mark the model's own words",
        with_template(
            "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
        ),
    ),
    ("templates that leave loops", with_template("{% for m in messages %}{% break %}{% endfor %}")),
    ("templates with special tokens", with_template("{{ '<|im_start|>__' ~ messages[0]['role'] }}")),
    ("an empty auto_map", tiny_model(auto_map={})),
    ("a readme, which stays behind", {"README.md": b"# Tiny"}),
    ("weights of other libraries, which stay behind", {"onnx/model.onnx": b"x", "tf_model.h5": b"x"}),
    ("a tensor without values", {"empty.safetensors": safetensors_of({"a": ("F32", [0])})}),
]


@pytest.mark.parametrize(("case", "files"), ALLOWED, ids=[row[0] for row in ALLOWED])
def test_it_takes(tmp_path: Path, case: str, files: dict[str, bytes]):
    write_files(tmp_path, {**tiny_model(), **files})
    assert {"config.json", "model.safetensors"} <= {file.path for file in read_folder(tmp_path).files}
    assert "README.md" not in {file.path for file in read_folder(tmp_path).files}


def test_it_refuses_links_that_leave_the_folder(tmp_path: Path):
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    folder = write_files(tmp_path / "model", tiny_model())
    (folder / "added.json").symlink_to(secret)
    with pytest.raises(UnsafeModel, match=r"added\.json: it is a link that leads out of the folder"):
        read_folder(folder)


def test_it_follows_links_within_the_folder(tmp_path: Path):
    folder = write_files(tmp_path, tiny_model())
    (folder / "added.json").symlink_to(folder / "config.json")
    assert "added.json" in {file.path for file in read_folder(folder).files}


def test_it_names_every_reason_at_once(tmp_path: Path):
    write_files(tmp_path, {"a.bin": b"x", "b.py": b"x", "config.json": b"{}"})
    with pytest.raises(UnsafeModel) as caught:
        read_folder(tmp_path)
    assert [refusal.file for refusal in caught.value.refusals] == ["a.bin", "b.py"]


def test_a_folder_without_weights_is_refused(tmp_path: Path):
    write_files(tmp_path, {"config.json": b"{}"})
    with pytest.raises(UnsafeModel, match=r"there is no \*\.safetensors file"):
        read_folder(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(FolderMissing):
        read_folder(tmp_path / "nowhere")


def test_it_refuses_files_that_are_too_large():
    sizes = {"config.json": LARGEST_JSON, "model.safetensors": LARGEST_WEIGHTS_FILE}
    assert check_sizes(sizes) == []
    refusals = check_sizes({path: size + 1 for path, size in sizes.items()})
    assert [refusal.file for refusal in refusals] == ["config.json", "model.safetensors"]
