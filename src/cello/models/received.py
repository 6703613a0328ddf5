"""Make the frames that a cell reads of features of which some were lost: held values, or value, mask and gap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cello.models.frames import GAP, MASK


def received(frames: Tensor, lost: Tensor | None, parts: Sequence[tuple[str, int]]) -> Tensor:
    """Features (B, T, S), of which ``lost`` (B, T) is true where a frame was lost → a cell's frames (B, T, D).

    In place of a lost frame stands the last one that was seen, zeros before the first. With ``parts`` (names and
    elements) a frame is made of these: ``value`` as said, ``mask`` 1 where it was seen and 0 where it was lost, ``gap``
    how many frames before it the last one was seen: 1 after a seen frame and at the beginning.

    In GRU-D's paper (Che et al. 2018) the gap begins at 0, and is smaller by one as long as nothing was seen. Here
    sound without losses has the gap 1 everywhere, which exported models hold as a constant. To GRU-D both are the same
    where the first frame was seen: before it there is nothing to decay.

    >>> features, lost = torch.tensor([[[5.0], [6.0], [7.0]]]), torch.tensor([[False, True, False]])
    >>> received(features, lost, (("value", 1), ("mask", 1), ("gap", 1))).tolist()
    [[[5.0, 1.0, 1.0], [5.0, 0.0, 1.0], [7.0, 1.0, 2.0]]]
    """
    if lost is None and not parts:
        return frames
    batch, steps, _ = frames.shape
    time = torch.arange(steps, device=frames.device)
    seen = time.expand(batch, steps) if lost is None else torch.where(lost, -1, time).cummax(1).values
    values = frames
    if lost is not None:
        held = frames.gather(1, seen.clamp(min=0).unsqueeze(2).expand_as(frames))
        values = torch.where(seen.unsqueeze(2) < 0, 0, held)
    if not parts:
        return values
    before = torch.cat([seen.new_full((batch, 1), -1), seen[:, : max(0, steps - 1)]], 1)[:, :steps]
    single = {MASK: (seen == time).to(frames), GAP: (time - before).to(frames)}
    found = [single[name].unsqueeze(2).expand(-1, -1, n) if name in single else values for name, n in parts]
    return torch.cat(found, 2)
