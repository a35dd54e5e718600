"""A model that plain int8 serves badly: some channels reach far beyond the others."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.movinet_quant import attach


def stretch(model: MoViNet, sites: Iterable[str], factor: float, channels: int = 2) -> MoViNet:
    """Multiply the first channels of each site by `factor` and let the next weights undo it.

    Nearly the same function, in place: hard-swish is linear where values are large.
    """
    instrument = attach(model)
    with torch.no_grad():
        for name in sites:
            site = instrument.sites[name]
            for weight in (site.norm.weight, site.norm.bias):
                weight[:channels] *= factor
            for reader, axis in site.readers:
                for first in range(0, reader.shape[axis], len(site.norm.weight)):
                    reader.narrow(axis, first, channels).div_(factor)
    instrument.detach()
    return model
