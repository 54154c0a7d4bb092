"""The plain training loop: seed, schedule, mean of weights, checkpoints that a later run resumes."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faceunits.errors import ConfigError

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast."""

    steps: int = 4000
    """Optimiser steps in all."""
    lr: float = 1.5e-3
    """Highest learning rate (AdamW); rises over the first `warmup` steps, falls as a cosine."""
    warmup: int = 100
    """Steps of rising learning rate."""
    optimiser: str = "adamw"
    """`adamw` with a cosine, or `sgd` with momentum 0.9 and steps of 0.99 (GE-Net, section 4.1)."""
    decay_every: int = 3 * 1125
    """Steps after which `sgd` multiplies its rate by 0.99: three epochs of 72,000 in batches of 64."""
    floor: float = 0.02
    """Last learning rate, as a share of the highest."""
    weight_decay: float = 1e-2
    """AdamW's."""
    beta1: float = 0.9
    """AdamW's first moment."""
    ema: float = 0.998
    """Decay of the running mean of the weights, which is what is kept."""
    save_every: int = 200
    """Steps between checkpoints and lines of the log."""
    threads: int = 1
    """CPU threads."""
    bf16: bool = True
    """Mixed precision where the CPU has it: twice the speed, same result within noise. See `mixed`."""
    seed: int = 0
    """Of weights and batches."""


@cache
def has_bf16() -> bool:
    """Whether this CPU multiplies in bfloat16. Where it doesn't, torch emulates it, some ten times slower
    than float32."""
    tests = (getattr(torch.cpu, n, None) for n in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(test is not None and test() for test in tests)


def mixed(wanted: bool = True) -> torch.autocast:
    """A context in which convolutions run in bfloat16, if that is wanted and the CPU has it."""
    return torch.autocast("cpu", torch.bfloat16, enabled=wanted and has_bf16())


def rate(config: LoopConfig, step: int) -> float:
    """Learning rate of a step."""
    if config.optimiser == "sgd":
        return config.lr * 0.99 ** (step // config.decay_every)
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    t = min(1.0, (step - config.warmup) / max(1, config.steps - config.warmup))
    return config.lr * (config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * t)))


def build(
    net: nn.Module, config: LoopConfig, faster: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """The optimiser of a configuration. Each group of parameters has a `factor` of the learning rate: 1, or
    that of the child of `net` in `faster`.

    Raises:
        ConfigError: neither `adamw` nor `sgd`.
    """
    factors = faster or {}
    groups = [{"params": list(getattr(net, name).parameters()), "factor": f} for name, f in factors.items()]
    others = [p for name, p in net.named_parameters() if name.split(".")[0] not in factors]
    groups.append({"params": others, "factor": 1.0})
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, config.lr, momentum=0.9)
    if config.optimiser == "adamw":
        betas = (config.beta1, 0.999)
        return torch.optim.AdamW(groups, config.lr, betas=betas, weight_decay=config.weight_decay)
    raise ConfigError(f"expected the optimiser adamw or sgd; got {config.optimiser!r}")


def run(
    net: nn.Module, batches: Callable[[int], Iterator[Any]], losses: Callable[[nn.Module, Any], Losses],
    config: LoopConfig, out: str | Path, *, settings: Any = None, echo: Callable[[str], None] = print,
    faster: Mapping[str, float] | None = None,
) -> nn.Module:  # fmt: skip
    """Trains `net` in place and returns the mean of its weights.

    Args:
        net: what is trained.
        batches: given the step it starts from, yields batches without end.
        losses: the named terms of a batch's loss, already weighted; they are summed.
        config: how long and how fast.
        out: folder of `checkpoint.pt`, `log.jsonl` and the resolved `settings.json`.
        settings: the trainer's own dataclass, recorded beside the result.
        echo: gets one line at every checkpoint.
        faster: factors of the learning rate, by name of a child of `net`.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    optimiser = build(net, config, faster)
    mean = torch.optim.swa_utils.AveragedModel(
        net,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
    step, path = 0, folder / "checkpoint.pt"
    if path.exists():
        saved = torch.load(path, weights_only=True)
        net.load_state_dict(saved["net"])
        mean.load_state_dict(saved["mean"])
        optimiser.load_state_dict(saved["optimiser"])
        step = int(saved["step"])
    told = {"loop": asdict(config), "settings": asdict(settings) if is_dataclass(settings) else None}  # type: ignore[arg-type]
    (folder / "settings.json").write_text(json.dumps(told | {"torch": torch.__version__}, indent=1))
    sums: dict[str, float] = {}
    started, first = time.monotonic(), step
    for batch in batches(step):
        if step >= config.steps:
            break
        for group in optimiser.param_groups:
            group["lr"] = group.get("factor", 1.0) * rate(config, step)  # older checkpoints have none
        net.train()
        with mixed(config.bf16):
            terms = losses(net, batch)
        total = torch.stack([t.float() for t in terms.values()]).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        steepness = nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        step += 1
        if not bool(torch.isfinite(total) and torch.isfinite(steepness)):
            values = {k: float(v.detach()) for k, v in terms.items()}
            raise ConfigError(
                f"expected a finite loss; got {values} at step {step}; "
                "lower the learning rate, or turn bf16 off"
            )
        optimiser.step()
        mean.update_parameters(net)
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + float(term.detach())
        if step % config.save_every == 0 or step == config.steps:
            pace = (time.monotonic() - started) / (step - first)
            count = (step - 1) % config.save_every + 1
            told_now = {k: round(v / count, 5) for k, v in sums.items()}
            left = round(pace * (config.steps - step) / 60, 1)
            echo(f"step {step}/{config.steps}  {told_now}  {pace:.2f} s/step, {left} min left")
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps({"step": step} | told_now) + "\n")
            sums = {}
            state = {"net": net.state_dict(), "mean": mean.state_dict(),
                     "optimiser": optimiser.state_dict(), "step": step}  # fmt: skip
            torch.save(state, f"{path}.part")
            os.replace(f"{path}.part", path)
    out_net: nn.Module = mean.module
    return out_net.eval()


def ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches without end, each made while the one before it is used."""
    with ThreadPoolExecutor(1) as other:
        coming = other.submit(next, batches)
        while True:
            now = coming.result()
            coming = other.submit(next, batches)
            yield now


def between(before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights `share` of the way from some to others; whole numbers are those of `after`."""
    return {k: torch.lerp(before[k], v, share) if v.is_floating_point() else v for k, v in after.items()}
