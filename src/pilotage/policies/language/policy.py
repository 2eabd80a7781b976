"""A language policy: a Hugging Face causal LM with its tokenizer, opened by name or folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.engines.stopping import end_ids

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DROPOUT_FIELDS = (
    "attention_dropout",
    "attn_pdrop",
    "resid_pdrop",
    "embd_pdrop",
    "hidden_dropout",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "activation_dropout",
    "layerdrop",
)
"""Names under which configurations keep a dropout rate."""


@dataclass
class LanguagePolicy:
    """A causal LM and its tokenizer. `name` is the name or folder that the user gave; a run's records keep it."""

    model: Any
    tokenizer: Any
    name: str

    opened_by: ClassVar[str] = "transformers.AutoModelForCausalLM.from_pretrained"
    """What opens a saved folder."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Return token ids that end an answer: those of the generation config, the config and the tokenizer, sorted."""
        return end_ids(self.model, self.tokenizer)

    @property
    def pad_id(self) -> int:
        """Return the id that fills padding: the tokenizer's, else its first end-of-sequence id, else 0.

        Masks decide what counts, so a pad id that equals the end-of-sequence id does no harm.
        """
        pad = self.tokenizer.pad_token_id
        if pad is not None:
            return int(pad)
        return self.eos_ids[0] if self.eos_ids else 0

    @property
    def context(self) -> int:
        """Return the largest number of positions of prompt and answer together."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 2**31)

    @property
    def parameter_count(self) -> int:
        """Return the number of weights, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def encode(self, prompt: str) -> list[int]:
        """Return token ids of a prompt, with the special tokens that the tokenizer puts around a text.

        Raises UsageError for a character that the tokenizer cannot represent.
        """
        ids = [int(token) for token in self.tokenizer(prompt)["input_ids"]]
        unknown = self.tokenizer.unk_token_id
        # Some tokenizers share this id with the end of sequence, and a prompt may hold that token in so many letters.
        if unknown is not None and unknown in ids and self.tokenizer.unk_token not in prompt:
            strange = sorted({c for c in prompt if unknown in self.tokenizer(c, add_special_tokens=False)["input_ids"]})
            raise UsageError(
                f"the tokenizer of {self.name} cannot represent {''.join(strange) or 'some words'!r} in the prompt "
                f"{prompt!r}; leave them out, or choose a model whose tokenizer knows them"
            )
        return ids

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Return the text of token ids, special tokens left out and spaces left as they are."""
        listed = ids.tolist() if hasattr(ids, "tolist") else list(ids)
        return str(self.tokenizer.decode(listed, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def decode_answer(self, ids: Sequence[int] | Tensor) -> str:
        """Return the text of an answer as a reader sees it: special tokens inside it are shown.

        The end-of-sequence token at its end, and padding after it, are left out.
        """
        listed = ids.tolist() if hasattr(ids, "tolist") else list(ids)
        ends = {*self.eos_ids, self.pad_id}
        while listed and listed[-1] in ends:
            listed.pop()
        return str(self.tokenizer.decode(listed, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return token ids of a conversation `[{"role": ..., "content": ...}]`, up to where the answer begins.

        Raises UsageError when the tokenizer has no chat template.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            raise UsageError(
                f"the tokenizer of {self.name} has no chat template; give the prompt as plain text, "
                "or a model whose tokenizer_config.json holds a chat_template"
            )
        rendered = self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        return [int(token) for token in self.tokenizer(rendered, add_special_tokens=False)["input_ids"]]

    @classmethod
    def from_pretrained(
        cls, model: str, *, adapter: str | None = None, dtype: str = "float32", device: str = "cpu"
    ) -> LanguagePolicy:
        """Open a causal LM by Hugging Face id or local folder; only safetensors are read and no remote code is run.

        Args:
            model: id such as "Qwen/Qwen2.5-0.5B" or path of a folder.
            adapter: id or folder of a PEFT adapter, or "lora:RANK" for a new one; trainable, on frozen weights.
            dtype: float32, bfloat16 or float16.
            device: where the weights go, such as "cpu" or "cuda:0".

        Raises:
            UsageError: the folder lacks a configuration, a tokenizer or safetensors, or the id cannot be opened.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r} is not known; choose one of {', '.join(DTYPES)}")
        folder = Path(model).expanduser()
        if folder.exists():
            _check_folder(folder)
            model = str(folder)
        elif model.startswith((".", "/", "~")):
            raise UsageError(
                f"there is no folder {model}; give a model folder or a Hugging Face id such as Qwen/Qwen2.5-0.5B"
            )
        try:
            tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(
                f"no tokenizer could be opened for {model} ({_first_line(error)}); the folder needs tokenizer.json or "
                "the files of its tokenizer class, and code from the hub is never run"
            ) from error
        try:
            with without_progress_bars():
                opened: Any = AutoModelForCausalLM.from_pretrained(
                    model, dtype=DTYPES[dtype], use_safetensors=True, trust_remote_code=False
                )
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(
                f"{model} could not be opened as a causal language model ({_first_line(error)}); expected config.json "
                "of an architecture that transformers knows and weights as .safetensors"
            ) from error
        if adapter is not None:
            opened = with_adapter(opened, adapter)
        remove_dropout(opened)
        return cls(opened.to(device), tokenizer, name=model)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `AutoModelForCausalLM` and `AutoTokenizer` open; adapters are merged into a copy."""
        target, model = Path(folder), self.model
        if is_adapted(model):
            plain = empty_model(model.config, model.dtype)
            own = dict(plain.named_parameters(remove_duplicate=False))
            with torch.no_grad():
                for name, weight in named_weights(model):
                    own[name].copy_(weight)
            plain.generation_config = model.generation_config
            model = plain
        with without_progress_bars():
            model.save_pretrained(target)
            self.tokenizer.save_pretrained(target)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} has no config.json; expected the folder of a Hugging Face model")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".ckpt"})
        if pickled:
            raise UsageError(
                f"{folder} has only pickled weights ({', '.join(pickled)}), and pickles can run code, so they are not "
                "opened. Give a folder with .safetensors, which most authors publish too; if you trust the file, "
                "transformers writes one: from_pretrained(FOLDER), then save_pretrained(OTHER)"
            )
        raise UsageError(f"{folder} has no weights; expected one or more .safetensors files beside config.json")
    tokenizer_files = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
    if not any((folder / name).is_file() for name in tokenizer_files):
        raise UsageError(
            f"{folder} has no tokenizer; expected one of {', '.join(tokenizer_files)}. "
            "Copy the tokenizer files of the model that this one was made from into the folder"
        )


def with_adapter(model: Any, adapter: str) -> Any:
    """Return the model, frozen, with a trainable PEFT adapter.

    Args:
        model: a Hugging Face causal LM; it is changed.
        adapter: id or folder of an adapter, or "lora:RANK" for a new LoRA of α = 2·RANK on every linear layer but the
            language head. A new one changes nothing until it is trained, and its weights depend on RANK alone.

    Raises:
        UsageError: peft is not installed, the adapter is absent or does not fit, or RANK is no whole number above 0.
    """
    try:
        from peft import LoraConfig, PeftModel, get_peft_model
    except ImportError as error:
        raise UsageError("adapters need the extra peft: pip install 'pilotage[peft]'") from error
    kind, _, rank = adapter.partition(":")
    if kind == "lora":
        if not rank.isdecimal() or int(rank) < 1:
            raise UsageError(f"a new adapter is written lora:RANK with RANK 1 or more, such as lora:8; not {adapter!r}")
        settings = LoraConfig(
            r=int(rank), lora_alpha=2 * int(rank), lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return get_peft_model(model, settings)
    folder = Path(adapter).expanduser()
    if folder.exists() and not (folder / "adapter_model.safetensors").is_file():
        raise UsageError(
            f"{folder} has no adapter_model.safetensors; expected the folder that PEFT's save_pretrained writes"
        )
    try:
        return PeftModel.from_pretrained(model, str(folder) if folder.exists() else adapter, is_trainable=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"the adapter {adapter} does not fit the model ({_first_line(error)})") from error


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Turn transformers' progress bars off within the block; afterwards they are as they were."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


def remove_dropout(model: nn.Module) -> list[str]:
    """Set every dropout rate to zero, so that the passes before and in an update see the same network.

    Returns the names of what was changed (empty when there was no dropout); the caller reports them.
    """
    changed = []
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            module.p = 0.0
            changed.append(name)
        for field in DROPOUT_FIELDS:
            value = getattr(module, field, None)
            if isinstance(value, float) and value > 0:
                setattr(module, field, 0.0)
                changed.append(f"{name}.{field}".lstrip("."))
    for field in DROPOUT_FIELDS:
        value = getattr(getattr(model, "config", None), field, None)
        if isinstance(value, float) and value > 0:
            setattr(model.config, field, 0.0)
            changed.append(f"config.{field}")
    return changed


def is_adapted(model: Any) -> bool:
    """Return whether the model carries PEFT adapters."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def named_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights under their plain Hugging Face names, without gradient: what an engine's `load` takes.

    Adapters are merged into float32 copies; the frozen weights are only read, so they cannot drift.
    Raises UsageError for an adapter whose effect is not W + BA on linear layers, or one already merged in place.
    """
    if not is_adapted(model):
        for name, parameter in model.named_parameters():
            yield name, parameter.detach()
        return
    base = model.get_base_model()
    merged = {}
    for name, module in base.named_modules():
        if hasattr(module, "base_layer"):
            merged[name] = _merged_weight(name, module)
        elif hasattr(module, "modules_to_save"):
            raise UsageError(f"the adapter trains a whole copy of {name} (modules_to_save); make one without it")
    for name, parameter in base.named_parameters():
        if ".base_layer." in name:
            owner, leaf = name.split(".base_layer.")
            yield f"{owner}.{leaf}", merged[owner] if leaf == "weight" else parameter.detach()
        elif ".lora_" not in name:
            yield name, parameter.detach()


def _merged_weight(name: str, module: Any) -> Tensor:
    """float32 W + ΣBA of the active adapters of one layer."""
    if not hasattr(module, "get_delta_weight") or not isinstance(module.base_layer, nn.Linear):
        raise UsageError(
            f"the adapter at {name} is a {type(module).__name__}; only LoRA on linear layers can be merged for "
            "sampling: choose such an adapter, or train without one"
        )
    if module.merged:
        raise UsageError(f"the adapter at {name} is merged into its frozen weights; call unmerge_adapter() first")
    weight = module.base_layer.weight.detach().float()
    for active in () if module.disable_adapters else module.active_adapters:
        if active not in module.lora_A:
            continue
        if active in module.lora_magnitude_vector or module.lora_B[active].bias is not None:
            raise UsageError(
                f"the adapter {active} at {name} has magnitudes (DoRA) or biases of its own; only plain LoRA can be "
                "merged for sampling: make one with use_dora=False and lora_bias=False"
            )
        weight = weight + module.get_delta_weight(active).detach().float()
    return weight


def empty_model(config: Any, dtype: torch.dtype) -> Any:
    """Return a model of this configuration whose weights are about to be overwritten; the global generator is
    untouched.
    """
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)
