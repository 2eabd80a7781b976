"""Sampling of text behind one protocol (`pilotage.types.Engine`): our decoder, transformers, vLLM."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pilotage.core.errors import UsageError
from pilotage.types import Engine

if TYPE_CHECKING:
    from torch import Tensor

ENGINES = ("auto", "decoder", "transformers", "vllm")


def build_engine(
    name: str,
    model: Any,
    tokenizer: Any,
    *,
    weights: Iterable[tuple[str, Tensor]] | None = None,
    **options: Any,
) -> Engine:
    """Return an engine by name.

    Args:
        name: "decoder", "transformers", "vllm", or "auto": our decoder where it runs the model, else transformers.
        model: the policy's Hugging Face model; its weights are copied.
        tokenizer: the policy's tokenizer.
        weights: (name, tensor) pairs to use instead of the model's own: merged adapters.
        options: keywords of the engine's class.

    Raises:
        UsageError: unknown name, or a model that the engine does not run.
    """
    if name not in ENGINES:
        raise UsageError(f"there is no engine {name!r}; choose one of {', '.join(ENGINES)}")
    if name == "auto":
        name = _automatic(model.config)
    if name == "decoder":
        from pilotage.engines.decoder import DecoderEngine

        return DecoderEngine(model, tokenizer, weights=weights, **options)
    if name == "transformers":
        from pilotage.engines.hugging_face import TransformersEngine

        return TransformersEngine(model, tokenizer, weights=weights, **options)
    from pilotage.engines.vllm import VllmEngine

    return VllmEngine(model, tokenizer, weights=weights, **options)


def _automatic(config: Any) -> str:
    from pilotage.engines.decoder_model import unsupported

    return "transformers" if unsupported(config) else "decoder"
