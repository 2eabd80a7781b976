"""The models of a text run: policy, frozen reference, critic, and the engine that samples."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.core.references import function_name
from pilotage.engines import build_engine
from pilotage.policies.language import scoring
from pilotage.policies.language.adapters import named_weights, with_adapter
from pilotage.policies.language.embedded import tiny_policy
from pilotage.policies.language.policy import LanguagePolicy, remove_dropout
from pilotage.training.language.config import TextConfig
from pilotage.training.language.hand_over import check_hand_over
from pilotage.training.language.pretraining import Pretraining, make_base, pretraining_sources, slug
from pilotage.types import Engine, Item, Rollouts, Sampling, Task

EMBEDDED = "embedded:"


@dataclass
class Autoregressive:
    """The likelihood of a causal language model: log-probabilities of the sampled tokens at a temperature."""

    temperature: float
    tokens_per_batch: int
    share_prompts: bool = True
    """Whether prompts may be computed once for all their answers."""

    def micro_batches(self, rollouts: Rollouts, rows: Tensor) -> list[Any]:
        """Cut rows into micro-batches."""
        share = None if self.share_prompts else False
        return scoring.microbatches(rollouts, rows, tokens_per_batch=self.tokens_per_batch, share_prompt=share)

    def __call__(self, model: nn.Module, micro_batch: Any, entropy: bool) -> tuple[Tensor, Tensor | None]:
        """Return log-probabilities, and entropies where asked, of the tokens of a micro-batch."""
        return scoring.logprobs(model, micro_batch, temperature=self.temperature, entropy=entropy)

    def score(self, model: nn.Module, rollouts: Rollouts, entropy: bool = False) -> scoring.Scored:
        """Return log-probabilities of all rows without gradients, [N, T]."""
        return scoring.score(
            model, rollouts, temperature=self.temperature, entropy=entropy, tokens_per_batch=self.tokens_per_batch
        )


def make_likelihood(config: TextConfig, model: nn.Module) -> Autoregressive:
    """Return the likelihood of the trained model, with prompts shared where the model can."""
    return Autoregressive(config.temperature, config.tokens_per_batch, scoring.can_share_prompts(model))


def make_policy(config: TextConfig, task: Task, run: Any) -> LanguagePolicy:
    """Return the policy at the start of training: a Hugging Face model, or an embedded one pretrained on the task.

    The pretrained model is an artifact, made once and shared by every arm and seed.
    """
    if not config.model.startswith(EMBEDDED):
        return LanguagePolicy.from_pretrained(config.model, adapter=config.adapter, dtype=config.precision)
    size = config.model.removeprefix(EMBEDDED)
    vocabulary = getattr(task, "vocabulary", None)
    if vocabulary is None:
        raise UsageError(
            f"the embedded policy reads the characters of the embedded tasks; {task.name!r} needs a language model: "
            "give --model with a Hugging Face name or folder"
        )
    if config.pretrain_to_accuracy <= 0:
        policy = tiny_policy(size, vocabulary, config.pretrain_seed)
        if config.adapter is not None:
            policy.model = with_adapter(policy.model, config.adapter)
            remove_dropout(policy.model)
        return policy
    settings, name = base_settings(config, task)
    folder = run.artifact(make_base, asdict(settings), name=name, code=pretraining_sources(task))
    return LanguagePolicy.from_pretrained(str(folder), adapter=config.adapter)


def base_settings(config: TextConfig, task: Task) -> tuple[Pretraining, str]:
    """Return how the embedded policy of a configuration is pretrained, and the name of that artifact."""
    size = config.model.removeprefix(EMBEDDED)
    settings = Pretraining(
        size=size,
        task=config.task if isinstance(config.task, str) else function_name(config.task),
        difficulties=tuple(task.difficulties),
        accuracy=config.pretrain_to_accuracy,
        seed=config.pretrain_seed,
    )
    return settings, f"base-{slug(task.name)}-{size}"


def make_engine(config: TextConfig, policy: LanguagePolicy) -> Engine:
    """Return the engine that samples from the policy, with its first weights.

    Raises UsageError when the engine does not draw from the policy that is trained.
    """
    engine = build_engine(config.engine, policy.model, policy.tokenizer, weights=named_weights(policy.model))
    check_hand_over(policy.model, engine)
    return engine


def frozen_copy(model: nn.Module) -> nn.Module:
    """Return a frozen copy of a model: the reference policy, which is never trained."""
    reference = copy.deepcopy(model).eval()
    reference.requires_grad_(False)
    return reference


def prompt_ids(policy: LanguagePolicy, config: TextConfig, item: Item) -> list[int]:
    """Return token ids of an item's prompt: through the chat template where the model has one, else plain text."""
    messages = item.meta.get("messages")
    if config.chat and getattr(policy.tokenizer, "chat_template", None):
        messages = messages or [{"role": "user", "content": item.prompt}]
        return policy.encode_chat(messages)
    return policy.encode(item.prompt)


def check_prompts(policy: LanguagePolicy, config: TextConfig, items: Iterable[Item]) -> None:
    """Put one prompt of each order of roles through the chat template before anything is trained.

    Raises UsageError, which names the row, where the template refuses a conversation.
    """
    tried: set[tuple[str, ...] | None] = set()
    for item in items:
        messages = item.meta.get("messages")
        roles = None if messages is None else tuple(str(message.get("role")) for message in messages)
        if roles not in tried:
            tried.add(roles)
            try:
                prompt_ids(policy, config, item)
            except UsageError as error:
                raise UsageError(f"{item.meta.get('place', item.id)}: {error}") from error


def training_sampling(config: TextConfig) -> Sampling:
    """Return the sampling settings of training answers.

    Raises UsageError where the trainer could not recompute the distribution.
    """
    sampling = Sampling(temperature=config.temperature)
    scoring.check_sampling(sampling)
    return sampling


def optimiser_for(model: nn.Module, config: TextConfig) -> torch.optim.Optimizer:
    """Return AdamW over the parameters that are trained."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        parameters, lr=config.lr, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay, fused=True
    )
