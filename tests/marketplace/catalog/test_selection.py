import pytest

from marketplace.catalog.selection import select_files

DIFFUSERS = [
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.bin",
    "sd_xl_base_1.0.safetensors",
]


@pytest.mark.parametrize(
    ("case", "listing", "wanted"),
    [
        (
            "weights, configurations and tokenizers",
            [
                "config.json",
                "model.safetensors",
                "tokenizer.model",
                "merges.txt",
                "README.md",
                ".gitattributes",
            ],
            ["config.json", "merges.txt", "model.safetensors", "tokenizer.model"],
        ),
        (
            "the parts of a pipeline, once",
            DIFFUSERS,
            ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"],
        ),
        (
            "a variant when there is nothing else",
            ["model_index.json", "unet/diffusion_pytorch_model.fp16.safetensors"],
            ["model_index.json", "unet/diffusion_pytorch_model.fp16.safetensors"],
        ),
        (
            "shards, and not the same weights in one file",
            [
                "consolidated.safetensors",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
        ),
        ("nothing of folders for other libraries", ["onnx/config.json", "original/params.json"], []),
        ("the pooling of sentence-transformers", ["1_Pooling/config.json"], ["1_Pooling/config.json"]),
    ],
)
def test_it_takes(case: str, listing: list[str], wanted: list[str]):
    assert list(select_files(listing).wanted) == wanted


def test_it_names_pickles_and_code():
    selection = select_files(["a.bin", "b.py", "c.safetensors", "sub/d.PT"])
    assert (selection.pickles, selection.code, selection.wanted) == (
        ("a.bin", "sub/d.PT"),
        ("b.py",),
        ("c.safetensors",),
    )
