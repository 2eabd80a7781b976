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
from pilotage.engines.hugging_face import empty_model, load_weights
from pilotage.engines.stopping import context_length, end_ids
from pilotage.policies.language.adapters import first_line, is_adapted, named_weights, with_adapter
from pilotage.policies.language.hub import INDEX, check_folder, check_index, hub_failure

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
QUIET = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
"""Options under which a file that a model does not have is None."""
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


@dataclass(repr=False)
class LanguagePolicy:
    """A causal LM and its tokenizer. `name` is the name or folder that the user gave; a run's records keep it."""

    model: Any
    tokenizer: Any
    name: str

    opened_by: ClassVar[str] = "transformers.AutoModelForCausalLM.from_pretrained"
    """Name of the function that opens a saved folder."""

    def __repr__(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        kind = f"{type(self.model).__name__} with {parameters:,} parameters"
        context = f", up to {self.context:,} positions" if self.context < 2**31 else ""
        return (
            f"Language policy {self.name}\n"
            f"{kind}, {len(self.tokenizer):,} tokens{context}\n"
            "use: .model and .tokenizer, or pilotage export RUN FOLDER and transformers"
        )

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
        return context_length(self.model.config)

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

        Raises UsageError when the tokenizer has no chat template, or the template refuses the conversation.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            raise UsageError(
                f"the tokenizer of {self.name} has no chat template; give the prompt as plain text, "
                "or a model whose tokenizer_config.json holds a chat_template"
            )
        try:
            rendered = self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        except Exception as error:  # templates are programs of the model's authors and raise what they like
            roles = [str(message.get("role")) for message in messages]
            remedy = "make user and assistant take turns, the user first"
            if "system" in roles:
                remedy = f"write the system text in front of the user's, {remedy}"
            raise UsageError(
                f"the chat template of {self.name} refuses a conversation of {', '.join(roles) or 'no messages'}: "
                f"{first_line(error)}; {remedy}, or give prompts as plain text (--no-chat)"
            ) from error
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
        from transformers.utils import cached_file

        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r} is not known; choose one of {', '.join(DTYPES)}")
        folder, offline = Path(model).expanduser(), ""
        if folder.exists():
            check_folder(folder)
            model = str(folder)
        elif model.startswith((".", "/", "~")):
            raise UsageError(
                f"there is no folder {model}; give a model folder or a Hugging Face id such as Qwen/Qwen2.5-0.5B"
            )
        else:
            offline = hub_failure()
        options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": bool(offline)}
        try:
            tokenizer = AutoTokenizer.from_pretrained(model, **options)
        except (OSError, ValueError, KeyError) as error:
            if offline:
                raise UsageError(
                    f"{model} is no folder and is not in the cache of downloaded models, and {offline}; give the "
                    "folder of a model, or start again where there is a network"
                ) from error
            raise UsageError(
                f"no tokenizer could be opened for {model} ({first_line(error)}); the folder needs tokenizer.json or "
                "the files of its tokenizer class, and code from the hub is never run"
            ) from error
        try:
            if not folder.exists() and (index := cached_file(model, INDEX, **options, **QUIET)) is not None:
                check_index(Path(index))
            with without_progress_bars():
                opened: Any = AutoModelForCausalLM.from_pretrained(
                    model, dtype=DTYPES[dtype], use_safetensors=True, **options
                )
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(
                f"{model} could not be opened as a causal language model ({first_line(error)}); expected config.json "
                "of an architecture that transformers knows and weights as .safetensors"
            ) from error
        _check_tokenizer(tokenizer, opened, model)
        if adapter is not None:
            opened = with_adapter(opened, adapter)
        remove_dropout(opened)
        return cls(opened.to(device), tokenizer, name=model)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `AutoModelForCausalLM` and `AutoTokenizer` open; adapters are merged into a copy."""
        target, model = Path(folder), self.model
        if is_adapted(model):
            model = merged_model(model)
        with without_progress_bars():
            model.save_pretrained(target)
            self.tokenizer.save_pretrained(target)


def _check_tokenizer(tokenizer: Any, model: Any, name: str) -> None:
    """Raise UsageError when the tokenizer has ids for which the model has no embedding."""
    rows = model.get_input_embeddings().weight.shape[0]
    token, largest = max(tokenizer.get_vocab().items(), key=lambda entry: entry[1], default=("", -1))
    if largest >= rows:
        raise UsageError(
            f"the tokenizer of {name} has ids up to {largest} ({token!r}), the model embeddings of 0 to {rows - 1}; "
            "give the tokenizer files that the model was trained with, or enlarge the model with "
            "resize_token_embeddings and save it again"
        )


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


def merged_model(model: Any) -> Any:
    """Return a plain model with the weights of an adapted one; the adapted one is only read."""
    base = model.get_base_model()
    plain = empty_model(base.config, base.dtype)
    load_weights(plain, named_weights(model))
    plain.generation_config = base.generation_config
    return plain
