"""Features between two keyframes, at given times: latents, token grids, anything that has no pixels.

What `legato.motion.interpolate` does for pictures, in batches and for any tensor: a `FeatureInterpolator` maps pairs of
features and shares of the way between them to features; at 0 and 1 they are the given ones, bit for bit. `filled` fills
a whole clip in between the frames that are kept, at their times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from legato.errors import BadArgument
from legato.motion.transport import Transport
from legato.motion.warp import samples_inside, splatted, warp

__all__ = ["FeatureInterpolator", "LinearFeatures", "SphericalFeatures", "TokenWarper", "filled", "filled_linearly"]

Features = Float[Tensor, "pairs *features"]
Other = Float[Tensor, "other_pairs *other_features"]  # its size is checked with a message
Shares = Float[Tensor, "share_pairs times"]  # and so is this
Between = Float[Tensor, "pairs times *features"]
Clip = Float[Tensor, "batch time *features"]
Seconds = Float64[Tensor, "batch time"]
Kept = Bool[Tensor, "batch time"]
Places = Int64[Tensor, "batch time"]

Flow = Float32[Tensor, "pairs 2 rows columns"]
Weights = Float32[Tensor, "pairs 1 rows columns"]

# Tuned on six clips, puppets and random scenes that neither the tests nor the figures in docs/experiments.md use.
ALIKE_TOKENS = 0.5  # displacements that differ by this much still count as one motion, more or less
NEAR_TOKENS = 1.5  # how far a token without a match looks for a motion to share
FEW, MANY = 0.1, 0.3  # shares of a token's neighbours that move like it: by chance, and as parts of one thing
LEAST, MOST = 0.2, 0.6  # shares of what differs that moving may leave: believed in full, and not at all
BLUR = 0.3  # of what moving blurs counts as left
LITTLE = 1e-3  # weight of what is not believed, where there is nothing else


@runtime_checkable
class FeatureInterpolator(Protocol):
    """Anything that fills in features between two."""

    def __call__(self, first: Features, second: Other, shares: Shares) -> Between:
        """Features at shares of the way from `first` to `second`, pair by pair.

        Args:
            first: features of each pair.
            second: of the same size.
            shares: for each pair, each from 0 to 1.

        Returns:
            In the type of `first`; at 0 and 1 the given features, bit for bit.

        Raises:
            BadArgument: sizes differ, or a share is out of range.
        """
        ...


@dataclass(frozen=True)
class LinearFeatures:
    """Weighted means: exact for what changes in place, a double exposure for what moves."""

    def __call__(self, first: Features, second: Other, shares: Shares) -> Between:
        """Weighted means; see `FeatureInterpolator`."""
        _check(first, second, shares)
        return _ended(first, second, shares, _mixed(first, second, shares))


@dataclass(frozen=True)
class SphericalFeatures:
    """Along the great circle through both, each pair one vector: the mean of two noises keeps the size of a noise.

    Shoemake 1985, "Animating rotation with quaternion curves", section 3.3, for vectors of any length. Where the two
    are nearly parallel or opposite, or one is zero, linear.

    Attributes:
        least_sine: of the angle between the two, under which they count as parallel.
    """

    least_sine: float = 1e-3

    def __call__(self, first: Features, second: Other, shares: Shares) -> Between:
        """Means on the sphere; see `FeatureInterpolator`."""
        _check(first, second, shares)
        a, b = (_wide(features).flatten(1) for features in (first, second))
        one, other = F.normalize(a, dim=1), F.normalize(b, dim=1)
        # twice the half angle from the sides of a rhombus: exact for small angles, where the arc cosine is not
        angle = 2 * torch.atan2((one - other).norm(dim=1), (one + other).norm(dim=1))[:, None]
        sine = angle.sin()
        round_ = (sine > self.least_sine) & (one.norm(dim=1) > 0)[:, None] & (other.norm(dim=1) > 0)[:, None]
        share = shares.to(a.dtype)
        weights = [
            torch.where(round_, (part * angle).sin() / sine.where(round_, 1.0), part)[..., None]
            for part in (1 - share, share)
        ]
        made = weights[0] * a[:, None] + weights[1] * b[:, None]
        return _ended(first, second, shares, made.reshape(*shares.shape, *first.shape[1:]))


@dataclass(frozen=True)
class TokenWarper:
    """Tokens on a grid `(pairs, channels, rows, columns)` that move to where they are at the time in between.

    Matched once per pair by optimal transport, then both keyframes are sampled along the displacement at each place
    and time, and blended where both show the same thing. A displacement is believed where neighbours share it; tokens
    without a match move along with theirs. Where nothing can be believed the result is linear.

    Attributes:
        transport: finds the matches.
        straightened: each token moves in a straight line to its match, and displacements are looked up where tokens
            have come. Otherwise the barycentric displacement of the tokens that lie at a place in the keyframes is
            taken to hold there all the time: cheaper, and right inside of what moves, not at its edges.
    """

    transport: Transport = Transport()  # noqa: RUF009 - immutable
    straightened: bool = True

    def __call__(self, first: Features, second: Other, shares: Shares) -> Between:
        """Tokens along their matches; see `FeatureInterpolator`.

        Raises:
            BadArgument: besides, the features are not `(pairs, channels, rows, columns)`.
        """
        _check(first, second, shares)
        if first.ndim != 4:
            raise BadArgument(f"features are {tuple(first.shape)}; expected (pairs, channels, rows, columns)")
        if not first.numel() or not shares.numel():
            return _ended(first, second, shares, _mixed(first, second, shares))
        with torch.autocast(first.device.type, enabled=False):
            return _ended(first, second, shares, self._moved(first, second, shares))

    def _moved(self, first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
        matches = self.transport(first, second)
        a, b = _wide(first), _wide(second)
        forward, backward = matches.forward, matches.backward
        forward_share, backward_share = matches.forward_share[:, None], matches.backward_share[:, None]
        forward, forward_alike = _extended(forward, forward_share)
        backward, backward_alike = _extended(backward, backward_share)
        forward_trust = forward_alike * _explained(a, b, forward, forward_share)
        backward_trust = backward_alike * _explained(b, a, backward, backward_share)

        times = shares.shape[1]
        share = shares.flatten()[:, None, None, None].float()  # (pairs times, 1, 1, 1), as all that follows
        fields = [  # displacement from first to second, and trust, at the tokens of each
            torch.cat([flow, trust], 1).repeat_interleave(times, 0)
            for flow, trust in ((forward, forward_trust), (-backward, backward_trust))
        ]
        flow, trust = self._motion(fields, share)

        value, weight, seen = (torch.zeros_like(trust) for _ in range(3))
        ways = ((a, -share * flow, 1 - share), (b, (1 - share) * flow, share))
        for field, (features, along, near) in zip(fields, ways, strict=True):
            carried = torch.cat([field[:, :2].to(features.dtype), features.repeat_interleave(times, 0)], 1)
            sampled = warp(carried, along)
            # what moves otherwise there hides what belongs here
            same = _alike(sampled[:, :2].float() - flow)[:, None] * samples_inside(along)[:, None]
            value = value + near * same * sampled[:, 2:]
            weight = weight + near * same
            seen = torch.maximum(seen, same)
        moved = (value / weight.clamp_min(1e-9)).unflatten(0, shares.shape)
        mixed = _mixed(first, second, shares)
        return torch.lerp(mixed, moved.to(mixed.dtype), (trust * seen).unflatten(0, shares.shape).to(mixed.dtype))

    def _motion(self, fields: Sequence[Tensor], share: Tensor) -> tuple[Flow, Weights]:
        """Displacement of what is at each place at the time in between, and trust in it."""
        total = torch.zeros_like(torch.cat([fields[0], share.expand_as(fields[0][:, :1])], 1))
        for field, near, gone in zip(fields, (1 - share, share), (share, share - 1), strict=True):
            weight = near * (field[:, 2:] + LITTLE)
            known = torch.cat([field * weight, weight], 1)
            total = total + (splatted(known, gone * field[:, :2]) if self.straightened else known)
        return total[:, :2] / total[:, 3:].clamp_min(1e-9), total[:, 2:3] / (total[:, 3:] + LITTLE)


def filled(clip: Clip, seconds: Seconds, kept: Kept, interpolator: FeatureInterpolator) -> Clip:
    """Frames that are not kept, filled in between the kept ones around them, at their times; kept ones as they are.

    Before the first kept frame and after the last one the nearest stands still. `filled_linearly` does the same for
    `LinearFeatures` in a single step.

    Args:
        clip: anything over time; what is not kept is not looked at.
        seconds: of each frame, rising.
        kept: at least one frame of each clip.
        interpolator: gets each pair of neighbouring kept frames once, with all times between them.

    Raises:
        BadArgument: sizes differ, seconds do not rise, a clip keeps no frame, or what the interpolator raises.
    """
    before, after, share = _neighbours(clip, seconds, kept)
    batch, time = kept.shape
    rows = torch.arange(batch, device=clip.device)[:, None].expand(batch, time)
    made = torch.where(kept.view(_over(clip)), clip, clip[rows, before])
    at = torch.arange(time, device=clip.device)
    row, first = (~kept & (before == at - 1) & (after > at)).nonzero().T  # missing frames that follow on kept ones
    gaps = after[row, first] - first
    for gap in gaps.unique().tolist():  # pairs as far apart as each other go together
        some = row[gaps == gap][:, None]
        missing = first[gaps == gap][:, None] + torch.arange(gap, device=clip.device)
        begin, end = (clip[some[:, 0], frame] for frame in (missing[:, 0] - 1, missing[:, -1] + 1))
        made[some, missing] = interpolator(begin, end, share[some, missing])
    return made


def filled_linearly(clip: Clip, seconds: Seconds, kept: Kept) -> Clip:
    """As `filled` with `LinearFeatures`, faster: all frames at once, whatever lies between which.

    Args:
        clip: anything over time; what is not kept is not looked at.
        seconds: of each frame, rising.
        kept: at least one frame of each clip.

    Raises:
        BadArgument: sizes differ, seconds do not rise, or a clip keeps no frame.
    """
    before, after, share = _neighbours(clip, seconds, kept)
    rows = torch.arange(len(clip), device=clip.device)[:, None]
    shape = _over(clip)
    begin, end = (_wide(clip[rows, at]) for at in (before, after))
    return torch.where(kept.view(shape), clip, torch.lerp(begin, end, share.to(end.dtype).view(shape)).to(clip.dtype))


# --- parts


def _over(clip: Clip) -> tuple[int, ...]:
    """The shape in which a value for each frame meets the clip."""
    return (*clip.shape[:2], *(1,) * (clip.ndim - 2))


def _neighbours(clip: Tensor, seconds: Tensor, kept: Tensor) -> tuple[Places, Places, Seconds]:
    """The kept frames before and after each frame (the only one, twice, at an end), and the share of the way."""
    if clip.shape[:2] != kept.shape or seconds.shape != kept.shape:
        raise BadArgument(
            f"clip is {tuple(clip.shape)}, seconds {tuple(seconds.shape)} and kept {tuple(kept.shape)}; expected "
            "(batch, time, ...) and twice (batch, time)"
        )
    if not bool((seconds[:, 1:] > seconds[:, :-1]).all()):
        raise BadArgument("seconds do not rise from frame to frame; sort the frames and drop those of equal times")
    if not bool(kept.any(1).all()):
        row = int((~kept.any(1)).nonzero()[0])
        raise BadArgument(f"clip {row} of the batch keeps no frame; expected at least one to fill in from")
    time = kept.shape[1]
    at = torch.arange(time, device=kept.device)
    before = torch.where(kept, at, -1).cummax(1).values
    after = torch.where(kept, at, time).flip(1).cummin(1).values.flip(1)
    before = torch.where(before < 0, after, before)
    after = torch.where(after >= time, before, after)
    begin, end = seconds.gather(1, before), seconds.gather(1, after)
    share = torch.where(after > before, (seconds - begin) / torch.where(after > before, end - begin, 1.0), 0.0)
    return before, after, share


def _check(first: Tensor, second: Tensor, shares: Tensor) -> None:
    if first.shape != second.shape:
        raise BadArgument(f"the features are {tuple(first.shape)} and {tuple(second.shape)}; expected one size")
    if shares.shape[0] != first.shape[0]:
        raise BadArgument(f"there are shares for {shares.shape[0]} pairs and {first.shape[0]} pairs of features")
    if not bool(((shares >= 0) & (shares <= 1)).all()):
        wrong = shares[~((shares >= 0) & (shares <= 1))][0]
        raise BadArgument(f"share {float(wrong):g} does not lie between 0 (the first) and 1 (the second)")


def _wide(features: Tensor) -> Tensor:
    """In float32 at least: half precision has no room for shares and differences."""
    return features if features.dtype == torch.float64 else features.float()


def _mixed(first: Features, second: Features, shares: Shares) -> Between:
    a, b = _wide(first), _wide(second)
    return torch.lerp(a[:, None], b[:, None], shares.to(a.dtype).view(*shares.shape, *(1,) * (a.ndim - 1)))


def _ended(first: Features, second: Features, shares: Shares, made: Between) -> Between:
    """In the type of the given features, and these themselves at the ends."""
    at = shares.view(*shares.shape, *(1,) * (first.ndim - 1))
    made = torch.where(at == 0, first[:, None], made.to(first.dtype))
    return torch.where(at == 1, second[:, None], made)


def _alike(difference: Float32[Tensor, "pairs 2 *places"]) -> Float32[Tensor, "pairs *places"]:
    """1 for displacements that agree, falling to 0 within about a token."""
    return torch.exp(-difference.square().sum(1) / (2 * ALIKE_TOKENS**2))


def _extended(flow: Flow, share: Weights) -> tuple[Flow, Weights]:
    """Displacements for tokens without a match too, from those around; and how many neighbours move like each.

    False matches scatter, true ones agree with neighbours (Bian et al. 2017, "GMS: grid-based motion statistics").
    """
    spread = _around(torch.cat([flow * share, share], 1), itself=False)
    flow = share * flow + (1 - share) * spread[:, :2] / spread[:, 2:].clamp_min(1e-9)
    patches = F.unfold(torch.cat([flow, share, torch.ones_like(share)], 1), 5, padding=2)
    patches = patches.unflatten(1, (4, 25)).unflatten(3, flow.shape[2:])
    patches = torch.cat([patches[:, :, :12], patches[:, :, 13:]], 2)  # all within two tokens but the token itself
    near, matched, inside = patches[:, :2], patches[:, 2], patches[:, 3]
    alike = (_alike(near - flow[:, :, None]) * matched).sum(1) / inside.sum(1).clamp_min(1)
    return flow, ((alike - FEW) / (MANY - FEW)).clamp(0, 1)[:, None]


def _explained(
    first: Float[Tensor, "pairs channels rows columns"],
    second: Float[Tensor, "pairs channels rows columns"],
    flow: Flow,
    share: Weights,
) -> Weights:
    """How far moving explains what differs between the grids around each token, 0 to 1.

    What moving itself costs counts as unexplained: half the way and back again blurs what is finer than a token.
    """
    blurred = warp(warp(first, flow / 2), -flow / 2)
    still, moved, blur = (
        (first - other).square().mean(1, keepdim=True).float() for other in (second, warp(second, flow), blurred)
    )
    sums = _around(torch.cat([still, moved + BLUR * blur], 1) * share, itself=True)
    left = sums[:, 1:] / sums[:, :1].clamp_min(1e-9)
    return ((MOST - left) / (MOST - LEAST)).clamp(0, 1)


def _around(
    values: Float32[Tensor, "pairs channels rows columns"], *, itself: bool
) -> Float32[Tensor, "pairs channels rows columns"]:
    """Weighted sums over the tokens near each, the token itself among them or not."""
    reach = torch.arange(-4, 5, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-(reach[:, None].square() + reach.square()) / (2 * NEAR_TOKENS**2))
    if not itself:
        kernel[4, 4] = 0
    return F.conv2d(values.flatten(0, 1)[:, None], kernel[None, None], padding=4).view(values.shape)
