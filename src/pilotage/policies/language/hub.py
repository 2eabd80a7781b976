"""Files of a model: from a folder, or from the Hugging Face hub where a network is."""

from __future__ import annotations

import json
import os
import socket
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pilotage.core.errors import UsageError

CONNECT_SECONDS = 3.0
"""Longest wait for a connection to the hub; its own client tries for about a minute."""
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
CONVERSION = (
    "pickles can run code, so they are not opened. Most authors publish .safetensors too; if you trust the file, "
    "transformers writes them: from_pretrained(FOLDER), then save_pretrained(OTHER)"
)
"""Why pickled weights are refused, and what to do."""


def hub_failure() -> str:
    """Return why the Hugging Face hub cannot be reached, such as "no connection to huggingface.co"; empty when it can.

    One connection is tried, to the proxy where the environment names one.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    address = urlsplit(constants.ENDPOINT)
    host = address.hostname or "huggingface.co"
    proxy = None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(address.scheme)
    if proxy:
        address = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or host, port), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        return f"no connection to {host} ({error})"
    return ""


def check_index(index: Path) -> None:
    """Refuse an index of weights that names a file of another kind, or one outside of its folder.

    Raises UsageError.
    """
    try:
        found: Any = json.loads(index.read_text(encoding="utf-8"))
        names = sorted({str(name) for name in found["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{index} is no index of weights ({type(error).__name__}); expected a JSON object with weight_map, "
            "as save_pretrained writes it: download it again"
        ) from error
    for name in names:
        if not name.endswith(".safetensors"):
            raise UsageError(f"{index} names {name}; expected files that end in .safetensors: {CONVERSION}")
        if os.path.basename(name) != name:
            raise UsageError(f"{index} names {name}, which is not beside it; expected the names of files in its folder")


def check_folder(folder: Path) -> None:
    """Refuse a folder that lacks a configuration, weights as .safetensors or a tokenizer.

    Raises UsageError, which says what to do.
    """
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} has no config.json; expected the folder of a Hugging Face model")
    if (folder / INDEX).is_file():
        check_index(folder / INDEX)
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".ckpt"})
        if pickled:
            raise UsageError(f"{folder} has only pickled weights ({', '.join(pickled)}): {CONVERSION}")
        raise UsageError(f"{folder} has no weights; expected one or more .safetensors files beside config.json")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UsageError(
            f"{folder} has no tokenizer; expected one of {', '.join(TOKENIZER_FILES)}. "
            "Copy the tokenizer files of the model that this one was made from into the folder"
        )
