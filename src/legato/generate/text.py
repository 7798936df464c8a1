"""How a video model is told words: bytes read by a small encoder trained with it, or a frozen CLIP or T5."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from legato.errors import BadArgument, ModelNotFound, UnsupportedModel
from legato.nn import Block

__all__ = ["ByteText", "FrozenText", "TextEncoder", "TextTokens"]

STRIDE = 4


class TextTokens:
    """What a model sees of its texts.

    Attributes:
        tokens: `(batch, length, channels)`.
        mask: `bool (batch, length)`, False where there is only padding, or None where all tokens count.
    """

    def __init__(
        self, tokens: Float[Tensor, "batch length channels"], mask: Bool[Tensor, "batch length"] | None = None
    ):
        self.tokens, self.mask = tokens, mask
        self._last: tuple[list[int], TextTokens] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def at(self, rows: Sequence[int]) -> "TextTokens":
        """Those of some texts, in that order; the last ones are kept, as a stream asks for the same at every tick."""
        chosen = list(rows)
        if self._last is not None and self._last[0] == chosen and not torch.is_grad_enabled():
            return self._last[1]
        some = TextTokens(self.tokens[chosen], None if self.mask is None else self.mask[chosen])
        if not torch.is_grad_enabled():
            self._last = chosen, some
        return some

    @property
    def pooled(self) -> Float[Tensor, "batch channels"]:
        """The mean of what counts."""
        if self.mask is None:
            return self.tokens.mean(1)
        weight = self.mask[..., None].to(self.tokens.dtype)
        return (self.tokens * weight).sum(1) / weight.sum(1).clamp_min(1)


class TextEncoder(nn.Module):
    """Turns texts into tokens of a model's width; the empty text stands for none."""

    def forward(self, texts: Sequence[str]) -> TextTokens:
        """Encode texts."""
        raise NotImplementedError


class ByteText(TextEncoder):
    """UTF-8 bytes, four to a token, through a small transformer that is trained with the video model.

    Args:
        channels: of the video model.
        most_bytes: the longest text; all are padded to it, so a text's tokens do not depend on its neighbours.
        depth: transformer blocks.
        heads: of their attention.
    """

    def __init__(self, channels: int, most_bytes: int = 32, depth: int = 2, heads: int = 4):
        super().__init__()
        self.most_bytes = -(-most_bytes // STRIDE) * STRIDE
        self.bytes = nn.Embedding(257, channels // STRIDE)  # 256 is padding
        self.merge = nn.Linear(channels // STRIDE * STRIDE, channels)
        self.positions = nn.Parameter(0.02 * torch.randn(self.most_bytes // STRIDE, channels))
        self.blocks = nn.ModuleList(Block(channels, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(channels)

    def ids(self, texts: Sequence[str]) -> Int64[Tensor, "batch bytes"]:
        """Bytes, padded.

        Raises:
            BadArgument: a text is too long.
        """
        rows = []
        for text in texts:
            raw = list(text.encode())
            if len(raw) > self.most_bytes:
                raise BadArgument(f"the text '{text}' has {len(raw)} bytes; this model reads up to {self.most_bytes}")
            rows.append(raw + [256] * (self.most_bytes - len(raw)))
        return torch.tensor(rows, device=self.positions.device)

    def forward(self, texts: Sequence[str]) -> TextTokens:
        """Encode texts."""
        read = self.bytes(self.ids(texts))  # (batch, bytes, channels / 4)
        x = self.merge(read.reshape(len(texts), self.most_bytes // STRIDE, -1)) + self.positions
        for block in self.blocks:
            x = block(x)
        return TextTokens(self.norm(x))


class FrozenText(TextEncoder):
    """A CLIP or T5 text encoder of transformers, by name or folder, that stays as it is; a trained layer follows.

    Its weights are no part of a checkpoint: the name is.

    Args:
        channels: of the video model.
        name: such as `openai/clip-vit-base-patch32` or `google/t5-v1_1-small`.
        most_tokens: longer texts are refused.

    Raises:
        ModelNotFound: it cannot be loaded.
        UnsupportedModel: it is neither.
    """

    def __init__(self, channels: int, name: str, most_tokens: int = 77):
        super().__init__()
        from transformers import AutoConfig, AutoTokenizer, CLIPTextModel, T5EncoderModel

        try:
            kind = AutoConfig.from_pretrained(name).model_type
            classes = {"clip": CLIPTextModel, "clip_text_model": CLIPTextModel, "t5": T5EncoderModel}
            if kind not in classes:
                raise UnsupportedModel(f"{name} is a {kind} model; expected a text encoder of CLIP or T5")
            encoder = classes[kind].from_pretrained(name)
            self.tokenizer = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise ModelNotFound(f"no text encoder at '{name}': {str(error).splitlines()[0]}") from error
        self._frozen = [encoder.requires_grad_(False).eval()]  # in a list: no submodule, so no checkpoint holds it
        self.most_tokens = most_tokens
        self.project = nn.Linear(encoder.config.hidden_size, channels)

    def forward(self, texts: Sequence[str]) -> TextTokens:
        """Encode texts."""
        device = self.project.weight.device
        encoder = self._frozen[0].to(device)
        read = self.tokenizer(list(texts), padding="max_length", max_length=self.most_tokens, return_tensors="pt")
        if read.input_ids.shape[1] > self.most_tokens:
            raise BadArgument(f"a text has {read.input_ids.shape[1]} tokens; this model reads up to {self.most_tokens}")
        with torch.no_grad():
            hidden = encoder(read.input_ids.to(device), attention_mask=read.attention_mask.to(device))[0]
        mask = read.attention_mask.bool().to(device)
        return TextTokens(self.project(hidden.to(self.project.weight.dtype)), mask)
