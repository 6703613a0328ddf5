"""Train-only changes to the sound: time shift and background noise, from an explicit generator."""

from __future__ import annotations

import msgspec


class AugmentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done to training clips, each epoch anew; zero everywhere is no augmentation.

    ``shift_ms`` is the largest move either way; noise is added to a share ``noise_share`` of clips at a
    signal-to-noise ratio drawn uniformly from [``snr_low_db``, ``snr_high_db``]; ``time_masks`` stretches of up to
    ``time_mask_ms`` and ``band_masks`` stretches of up to ``band_mask_width`` coefficients are set to the mean
    (SpecAugment, Park et al. 2019); ``mixup`` is the Beta parameter of mixup (Zhang et al. 2018).
    """

    shift_ms: float = 0.0
    noise_share: float = 0.0
    snr_low_db: float = 5.0
    snr_high_db: float = 30.0
    time_masks: int = 0
    time_mask_ms: float = 100.0
    band_masks: int = 0
    band_mask_width: int = 3
    mixup: float = 0.0
