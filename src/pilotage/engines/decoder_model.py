"""The forward pass of Llama, Qwen2, Qwen3 and Mistral over fused weights and a static cache.

What is fused: q, k and v are one product, gate and up another; the weights of the norms and the 1/√d of attention go
into the products that follow. q and k are permuted so that rotary pairs lie side by side and rotating is one complex
multiplication (a dot product does not see the order of its terms).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pilotage.core.errors import UsageError

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
STATIC_ROTARY = ("default", "linear", "llama3", "yarn")


def unsupported(config: Any) -> list[str]:
    """Return why the fused forward would not be the forward of a model of this configuration; empty when it is."""
    if config.model_type not in ARCHITECTURES:
        return [f"its type is {config.model_type!r}, not one of {', '.join(ARCHITECTURES)}"]
    reasons = []
    if config.hidden_act != "silu":
        reasons.append(f"its activation is {config.hidden_act!r}, not 'silu'")
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None) or (["sliding_attention"] if window else [])
    if "sliding_attention" in layers and window is not None and window < config.max_position_embeddings:
        reasons.append(f"its attention slides over {window} of {config.max_position_embeddings} positions")
    rotary = config.rope_parameters
    if rotary["rope_type"] not in STATIC_ROTARY or rotary.get("partial_rotary_factor", 1.0) != 1.0:
        reasons.append(
            f"its rotary embedding is {rotary['rope_type']!r}, not a whole one of {', '.join(STATIC_ROTARY)}"
        )
    return reasons


def check_supported(config: Any) -> None:
    """Raise UsageError, which names the transformers engine, when the fused forward would not be the model's own."""
    if reasons := unsupported(config):
        raise UsageError(
            f"our decoder cannot run this model: {'; '.join(reasons)}. Take the transformers engine instead "
            "(--engine transformers), which runs any causal language model"
        )


def rotary_frequencies(config: Any, head_size: int) -> tuple[Tensor, float]:
    """Return frequencies [head_size / 2] and the factor on cosine and sine, from the rotary parameters."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters = config.rope_parameters
    if parameters["rope_type"] != "default":
        return ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, torch.device("cpu"))
    exponents = torch.arange(0, head_size, 2, dtype=torch.float32) / head_size
    return 1.0 / (parameters["rope_theta"] ** exponents), 1.0


@dataclass
class Product:
    """Matrix product x @ weight + bias; `weight` [in, out] in the type of the factors, `bias` [out] float32 or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product of the input with the weights."""
        if self.weight.dtype != x.dtype:
            result = torch.mm(x.to(self.weight.dtype), self.weight).to(x.dtype)
            return result if self.bias is None else result.add_(self.bias)
        return torch.mm(x, self.weight) if self.bias is None else torch.addmm(self.bias, x, self.weight)

    def add_to(self, residual: Tensor, x: Tensor) -> None:
        """Add x @ weight + bias to `residual` in place."""
        if self.weight.dtype != x.dtype or self.bias is not None:
            residual.add_(self(x))
        else:
            residual.addmm_(x, self.weight)


@dataclass
class Layer:
    """The weights of one layer of the decoder."""

    qkv: Product
    out: Product
    gate_up: Product
    down: Product
    query_norm: Tensor | None
    key_norm: Tensor | None


class Cache:
    """Keys and values of `rows` sequences, [rows, kv heads, columns, head size] per layer.

    Sequences are aligned on the right: all rows write the same column, and shorter ones begin later.
    """

    def __init__(self, model: FusedModel, rows: int, columns: int) -> None:
        shape = (rows, model.kv_heads, columns, model.head_size)
        self.keys = [torch.empty(shape, device=model.device) for _ in model.layers]
        self.values = [torch.empty(shape, device=model.device) for _ in model.layers]

    @staticmethod
    def cleared(model: FusedModel, rows: int, columns: int) -> Cache:
        """Return a cache of zeros, for sequences of different lengths: a NaN before a beginning would pass the mask."""
        cache = Cache(model, rows, columns)
        for tensor in (*cache.keys, *cache.values):
            tensor.zero_()
        return cache

    @property
    def columns(self) -> int:
        """Return the number of columns."""
        return self.keys[0].shape[2]

    def rows(self, begin: int, end: int) -> Cache:
        """Return rows `begin`...`end - 1`, sharing memory."""
        part = Cache.__new__(Cache)
        part.keys = [tensor[begin:end] for tensor in self.keys]
        part.values = [tensor[begin:end] for tensor in self.values]
        return part

    def move_rows(self, source: Tensor, target: Tensor, columns: int) -> None:
        """Copy the first `columns` columns of rows `source` over rows `target`."""
        for tensor in (*self.keys, *self.values):
            tensor[target, :, :columns] = tensor[source, :, :columns]

    def repeated(self, model: FusedModel, rows: Tensor, columns: int) -> Cache:
        """Return a cache of `columns` columns whose row r begins with row `rows[r]` of this one."""
        wide = Cache(model, len(rows), columns)
        for mine, theirs in zip((*self.keys, *self.values), (*wide.keys, *wide.values), strict=True):
            theirs[:, :, : self.columns] = mine[rows]
        return wide


class FusedModel:
    """The weights of a causal LM, fused, and its forward pass without gradient.

    Args:
        config: the model's Hugging Face configuration.
        named: its weights under their Hugging Face names.
        products: "float32" or "bfloat16" factors of matrix products.

    Raises:
        UsageError: another architecture, or missing weights.
    """

    def __init__(self, config: Any, named: Mapping[str, Tensor], products: str = "float32") -> None:
        check_supported(config)
        self.config = config
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads or self.heads
        self.head_size = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        self.factors = torch.bfloat16 if products == "bfloat16" else torch.float32
        missing = _expected(config) - set(named)
        if missing:
            raise UsageError(
                f"{len(missing)} weights of the {config.model_type} model are missing, such as {min(missing)}; hand "
                "over all of them under their Hugging Face names, adapters merged"
            )
        self.embedding = named["model.embed_tokens.weight"].detach().float().clone()
        self.device = self.embedding.device
        self.layers = [self._layer(named, f"model.layers.{i}.") for i in range(config.num_hidden_layers)]
        # A head that is tied in the configuration is handed over where an adapter tells it apart from the embedding.
        head = named.get("lm_head.weight", self.embedding)
        self.head = self._product([(head, None)], norm=named["model.norm.weight"])
        frequencies, self.rotary_scale = rotary_frequencies(config, self.head_size)
        self.frequencies = frequencies.to(self.device, torch.float32)
        self.rotations = torch.empty(0, self.head_size // 2, dtype=torch.complex64, device=self.device)

    def _product(self, parts: list[tuple[Tensor, Tensor | None]], norm: Tensor | None = None) -> Product:
        weight = torch.cat([part.detach().float() for part, _ in parts])
        if norm is not None:
            weight = weight * norm.detach().float()
        biases = [bias for _, bias in parts]
        if all(bias is None for bias in biases):
            return Product(weight.t().to(self.factors).contiguous(), None)
        filled = [weight.new_zeros(len(part)) if bias is None else bias.detach().float() for part, bias in parts]
        return Product(weight.t().to(self.factors).contiguous(), torch.cat(filled))

    def _layer(self, named: Mapping[str, Tensor], prefix: str) -> Layer:
        def linear(name: str) -> tuple[Tensor, Tensor | None]:
            return named[f"{prefix}{name}.weight"], named.get(f"{prefix}{name}.bias")

        scale = self.head_size**-0.5
        norms: list[Tensor | None] = [None, None]
        query, key = (self._paired(linear(f"self_attn.{name}_proj")) for name in "qk")
        if f"{prefix}self_attn.q_norm.weight" in named:
            half = (named[f"{prefix}self_attn.{name}_norm.weight"].detach().float() for name in "qk")
            norms = [norm.view(2, -1).t().reshape(-1) for norm in half]
            assert norms[0] is not None
            norms[0] = norms[0] * scale
        else:
            query = (query[0] * scale, None if query[1] is None else query[1] * scale)
        return Layer(
            qkv=self._product([query, key, linear("self_attn.v_proj")], norm=named[f"{prefix}input_layernorm.weight"]),
            out=self._product([linear("self_attn.o_proj")]),
            gate_up=self._product(
                [linear("mlp.gate_proj"), linear("mlp.up_proj")], norm=named[f"{prefix}post_attention_layernorm.weight"]
            ),
            down=self._product([linear("mlp.down_proj")]),
            query_norm=norms[0],
            key_norm=norms[1],
        )

    def _paired(self, linear: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
        """Reorder the outputs of each head from (first half, second half) to pairs (i, i + half)."""
        weight, bias = linear
        shape = weight.shape
        weight = weight.detach().float().view(-1, 2, self.head_size // 2, shape[1]).transpose(1, 2).reshape(shape)
        if bias is not None:
            bias = bias.detach().float().view(-1, 2, self.head_size // 2).transpose(1, 2).reshape(-1)
        return weight, bias

    def reserve(self, positions: int) -> None:
        """Make the table of rotations, cos + i·sin, at least `positions` long; before `prefill` and `step`."""
        if positions > len(self.rotations):
            angles = torch.arange(positions, device=self.device).float()[:, None] * self.frequencies
            self.rotations = torch.complex(angles.cos(), angles.sin()) * self.rotary_scale

    def _normalised(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:], None, self.eps)

    def _queries_keys_values(self, layer: Layer, x: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return [tokens, heads, head size] queries, and keys and values of the kv heads, rotated."""
        fused = layer.qkv(self._normalised(x)).view(len(x), -1, self.head_size)
        turned = fused[:, : self.heads + self.kv_heads]
        if layer.query_norm is not None and layer.key_norm is not None:
            turned = self._normalised(turned)
            turned[:, : self.heads] *= layer.query_norm
            turned[:, self.heads :] *= layer.key_norm
        pairs = torch.view_as_complex(turned.unflatten(-1, (-1, 2))) * rotation
        turned = torch.view_as_real(pairs).flatten(-2)
        return turned[:, : self.heads], turned[:, self.heads :], fused[:, self.heads + self.kv_heads :]

    def _feed_forward(self, layer: Layer, x: Tensor) -> None:
        gate, up = layer.gate_up(self._normalised(x)).chunk(2, -1)
        layer.down.add_to(x, functional.silu(gate).mul_(up))

    def logits(self, x: Tensor) -> Tensor:
        """Return logits [rows, vocabulary] from the last hidden states [rows, hidden size]."""
        return self.head(self._normalised(x))

    def prefill(self, ids: Tensor, begin: Tensor, cached: Tensor, cache: Cache) -> Tensor:
        """Run the new tokens of every row through the model and writes the cache.

        Args:
            ids: [rows, q] the last q columns of the cache; entries before a row's first new token are ignored.
            begin: [rows] column at which each row's sequence begins.
            cached: [rows] tokens of each row that the cache already holds.
            cache: of exactly the columns that the sequences fill.

        Returns:
            Logits [rows, vocabulary] after the last column.
        """
        rows, q = ids.shape
        columns = torch.arange(cache.columns, device=self.device)
        query_columns = columns[-q:]
        visible = (columns <= query_columns[:, None]) & (columns >= begin[:, None, None])
        # A query before the row's beginning sees itself alone, or its softmax would be over nothing.
        visible |= columns == query_columns[:, None]
        new = query_columns >= (begin + cached)[:, None]
        rotation = self.rotations[(query_columns - begin[:, None]).clamp(min=0).flatten(), None]
        any_cached = bool(cached.any())
        group = self.heads // self.kv_heads
        x = self.embedding[ids.flatten()]
        for index, layer in enumerate(self.layers):
            query, key, value = (
                part.view(rows, q, -1, self.head_size).transpose(1, 2)
                for part in self._queries_keys_values(layer, x, rotation)
            )
            for stored, fresh in ((cache.keys[index], key), (cache.values[index], value)):
                kept = torch.where(new[:, None, :, None], fresh, stored[:, :, -q:]) if any_cached else fresh
                stored[:, :, -q:] = kept
            mixed = functional.scaled_dot_product_attention(
                query,
                cache.keys[index].repeat_interleave(group, 1),
                cache.values[index].repeat_interleave(group, 1),
                attn_mask=visible[:, None],
                scale=1.0,
            )
            layer.out.add_to(x, mixed.transpose(1, 2).reshape(rows * q, -1))
            self._feed_forward(layer, x)
        return self.logits(x.view(rows, q, -1)[:, -1])

    def step(self, tokens: Tensor, positions: Tensor, column: int, hidden: Tensor | None, cache: Cache) -> Tensor:
        """Run one more token of the first rows of the cache through the model.

        Args:
            tokens: [rows].
            positions: [rows] position of each token in its own sequence.
            column: where the cache is written.
            hidden: [rows, 1, columns] float, -inf on columns before a row's beginning, else 0; None: all 0.
            cache: with at least `column + 1` columns and `rows` rows.

        Returns:
            Logits [rows, vocabulary].
        """
        rows, group = len(tokens), self.heads // self.kv_heads
        rotation = self.rotations[positions, None]
        x = self.embedding[tokens]
        mask = None if hidden is None else hidden[:, :, : column + 1].repeat_interleave(self.kv_heads, 0)
        for index, layer in enumerate(self.layers):
            query, key, value = self._queries_keys_values(layer, x, rotation)
            keys, values = cache.keys[index][:rows], cache.values[index][:rows]
            keys[:, :, column] = key
            values[:, :, column] = value
            keys, values = keys.flatten(0, 1)[:, : column + 1], values.flatten(0, 1)[:, : column + 1]
            query = query.reshape(rows * self.kv_heads, group, self.head_size)
            scores = torch.bmm(query, keys.transpose(1, 2))
            if mask is not None:
                scores += mask
            mixed = torch.bmm(torch.softmax(scores, -1), values)
            layer.out.add_to(x, mixed.view(rows, -1))
            self._feed_forward(layer, x)
        return self.logits(x)


def _expected(config: Any) -> set[str]:
    """Return names that every supported architecture has; biases and the norms of q and k are taken where they are."""
    names = {"model.embed_tokens.weight", "model.norm.weight"}
    if not config.tie_word_embeddings:
        names.add("lm_head.weight")
    parts = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    parts += ["input_layernorm", "post_attention_layernorm"]
    if config.model_type == "qwen3":
        parts += ["self_attn.q_norm", "self_attn.k_norm"]
    for layer in range(config.num_hidden_layers):
        names.update(f"model.layers.{layer}.{part}.weight" for part in parts)
    return names
