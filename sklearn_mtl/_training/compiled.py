"""One training step as one compiled function: forward, loss, gradients and update.

Small networks spend their time between the kernels, and not in them; here nothing is between. The
code is compiled once for all networks of one structure, whatever their weights, rates and the sizes
of their batches.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.optim.adam import adam

from sklearn_mtl.losses import Cells, Combiner

__all__ = ["CompiledStep", "align_gradients", "infer"]

# Where the code of callbacks, and of modules, is known not to change things on the sly.
KNOWN_CALLBACKS = (
    "sklearn_mtl.",
    "skorch.callbacks.logging",
    "skorch.callbacks.scoring",
    "skorch.callbacks.training",
)
KNOWN_MODULES = ("torch.nn.", "sklearn_mtl.")

# Which parameters, the optimizer's state of them, and keyword arguments of `torch.optim.adam.adam`.
Group = tuple[list[int], tuple[list[Tensor], ...], dict[str, Any]]

# Parameters or buffers of the module, and of the criterion, by name.
Named = tuple[dict[str, Tensor], dict[str, Tensor]]


def infer(module: Callable[[Tensor], Tensor], x: Tensor, amp_dtype: torch.dtype | None) -> Tensor:
    """Raw outputs in full precision."""
    if amp_dtype is None:
        return module(x)
    with torch.autocast(x.device.type, dtype=amp_dtype):
        return module(x).float()


def align_gradients(params: Iterable[Tensor]) -> None:
    """Put gradients in the memory order of their parameters, as autograd does.

    Fused optimizers on a CPU take both as they stand in memory.
    """
    for p in params:
        found = p.grad
        if found is None or not found.layout == p.layout == torch.strided:
            continue
        if found.stride() != p.stride():
            p.grad = torch.empty_like(p).copy_(found)


def _step(
    module: nn.Module,
    criterion: nn.Module,
    learned: Named,
    others: Named,
    groups: Sequence[Group],
    amp_dtype: torch.dtype | None,
    x: Tensor,
    *cells: Tensor,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Return loss, task losses, outputs and gradients; update the parameters of the groups."""

    def loss_of(learned: Named, others: Named) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        tensors = [found | fixed for found, fixed in zip(learned, others, strict=True)]
        output = infer(lambda x: functional_call(module, tensors[0], (x,)), x, amp_dtype)
        loss, losses = functional_call(criterion, tensors[1], (output, Cells(*cells)))
        return loss, (losses, output)

    # Buffers are arguments too, as they may be written to.
    gradients, (loss, (losses, output)) = grad_and_value(loss_of, has_aux=True)(learned, others)
    found = [gradient for named in gradients for gradient in named.values()]
    params = [param for named in learned for param in named.values()]
    update: Any = adam  # its types know nothing of compiling
    with torch.no_grad():
        for part, states, given in groups:
            update(
                [params[k] for k in part],
                [found[k] for k in part],
                *states,
                foreach=False,
                fused=False,
                capturable=False,
                differentiable=False,
                has_complex=False,
                amsgrad=False,
                maximize=False,
                **given,
            )
    return loss, losses, output, [] if groups else found


@functools.cache
def _compiled(dynamic: bool) -> Callable[..., tuple[Tensor, Tensor, Tensor, list[Tensor]]]:
    """Compile when called; the compiled code is shared by all steps of one structure.

    A dynamic one serves batches of all sizes.
    """
    return torch.compile(  # type: ignore[call-overload]
        _step,
        fullgraph=True,
        dynamic=None if dynamic else False,  # None: where it is marked
        recompile_limit=32,
        isolate_recompiles=True,
        # Random numbers are those of the ordinary step; what torch itself made needs no check.
        options={"fallback_random": True, "size_asserts": False},
    )


def _is_alone() -> bool:
    """Whether no other thread may be at work; those that callbacks left behind are taken for it."""
    return sum(not thread.daemon for thread in threading.enumerate()) == 1


def _modules(part: Any) -> list[Any]:
    """Return a module and its parts, or what else it is."""
    return list(part.modules()) if isinstance(part, nn.Module) else [part]


def _is_known(module: Any) -> bool:
    return type(module).__module__.startswith(KNOWN_MODULES)


class CompiledStep:
    """Steps of one training, compiled.

    Where nobody looks at the gradients, and the optimizer is Adam or AdamW, the update is part of
    the compiled function; else the function makes the gradients.

    What others wrote (modules, losses, callbacks) may change anything between two steps. Then
    torch's checks of what the code was compiled for run before every step, and every epoch begins
    with an ordinary one. With nothing but known parts, the first batch of each size is checked:
    the checks take a quarter of the time of a small step.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialized; ``criterion_(module_(x), cells)`` returns the loss and the task losses.
    """

    def __init__(self, net: Any) -> None:
        self.net = net
        self.parts: tuple[nn.Module, nn.Module] = (net.module_, net.criterion_)
        rule = net.criterion_.combine
        modules = [module for part in (net.module_, rule) for module in _modules(part)]
        is_known = isinstance(rule, Combiner) and all(_is_known(module) for module in modules)
        self.is_known = is_known and all(
            type(callback).__module__.startswith(KNOWN_CALLBACKS) for _, callback in net.callbacks_
        )
        self.dynamic = True
        self.start_epoch(net, anew=True)

    @property
    def updates(self) -> bool:
        """Whether the function can do the optimizer's work."""
        optimizer: Any = self.optimizer
        plain = ("amsgrad", "maximize", "differentiable")
        return (
            type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
            and not any(group[name] for group in optimizer.param_groups for name in plain)
            and not optimizer._optimizer_step_pre_hooks
            and not optimizer._optimizer_step_post_hooks
        )

    def start_epoch(self, net: Any, anew: bool = False) -> None:
        """Look again at what may have been changed."""
        if anew or not self.is_known:
            self.optimizer = net.optimizer_
            self.params = [p for part in self.parts for p in part.parameters()]
            self.learned: list[Tensor] = []  # those with gradients, once that is known
            self.trained: list[bool] = []  # which ones required gradients at the last step
            self.buffers = [b for part in self.parts for b in part.buffers()]
            self.checked: set[tuple[int, bool]] = set()  # calls that passed torch's checks

    def is_ready(self) -> bool:
        """Tell whether the ordinary step has shown which parameters get a gradient.

        It has not at first, and after some were frozen or set free. Its update also makes the state
        of the optimizer.
        """
        if self.net.optimizer_ is not self.optimizer:
            self.start_epoch(self.net, anew=True)
        trained = [p.requires_grad for p in self.params]
        if trained != self.trained:
            self.trained, self.learned = trained, []
            self.checked.clear()
        elif not self.learned:
            self._learn()
        return bool(self.learned)

    def _learn(self) -> None:
        """Sort tensors into those that learn, and the others."""
        self.learned = [p for p in self.params if p.requires_grad and p.grad is not None]
        self.state: Any = None
        held = {id(p) for p in self.learned}
        named = [dict(part.named_parameters()) for part in self.parts]
        self.named = tuple(
            {name: p.detach() for name, p in found.items() if id(p) in held} for found in named
        )
        self.others = tuple(
            {name: p.detach() for name, p in found.items() if id(p) not in held}
            | dict(part.named_buffers())
            for found, part in zip(named, self.parts, strict=True)
        )

    def __call__(
        self, x: Tensor, cells: Cells, update: bool
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Run a step: update the parameters, or set their gradients.

        Returns
        -------
        loss, losses, output : Tensor
            Or None, with a warning, where it cannot be compiled.
        """
        call = len(x), update
        try:
            if not (self.is_known and call in self.checked):
                self._refuse()
            groups = self._groups() if update else []
            args = *self.parts, self.named, self.others, groups, self.net.amp_dtype
            with self._stance(call in self.checked):
                loss, losses, output, gradients = self._run(args, x, cells)
            self.checked.add(call)
        except Exception as error:  # of compilers, and whatever it is that they do not understand
            first, *_ = str(error).strip().splitlines() or [""]
            reason = f"{type(error).__name__}: {first}"
            if "Cxx" in reason or "C++" in reason:
                reason += " On a CPU, a C++ compiler such as g++ is needed."
            warnings.warn(
                f"compile=True, but the step cannot be compiled, and runs as it is. {reason}",
                stacklevel=2,
            )
            return None
        for p, gradient in zip(self.learned, gradients, strict=False):
            p.grad = gradient
        align_gradients(self.learned)
        return loss, losses, output

    def _stance(self, checked: bool) -> Any:
        """Skip torch's checks, or let nothing be compiled again and again.

        A stance is that of the process: with other threads at work in it, there is none.
        """
        if not checked or not _is_alone():
            return contextlib.nullcontext()
        if self.is_known:
            return torch.compiler.set_stance(skip_guard_eval_unsafe=True)
        return torch.compiler.set_stance("fail_on_recompile")

    def _refuse(self) -> None:
        """Raise for what the compiled step would not do."""
        if any(p._backward_hooks or p._post_accumulate_grad_hooks for p in self.params):
            raise ValueError("a parameter has a hook, which would not be called.")
        buffers = [b for part in self.parts for b in part.buffers()]
        if len(buffers) != len(self.buffers) or any(
            a is not b for a, b in zip(buffers, self.buffers, strict=False)
        ):
            raise ValueError("a module replaces its buffers: write into them, as with copy_.")

    def _run(self, args: Any, x: Tensor, cells: Cells) -> tuple[Tensor, Tensor, Tensor, Any]:
        """Run a function for batches of all sizes, or else, as with dropout, one for each size."""
        tensors: tuple[Tensor | None, ...] = (x, *cells)
        if self.dynamic:
            if not self.checked:
                tensors = tuple(t if t is None else t.view_as(t) for t in tensors)
                for t in tensors[:-1]:  # counts have no rows
                    if t is not None and len(t) > 1:
                        torch._dynamo.mark_dynamic(t, 0)
            try:
                return _compiled(dynamic=True)(*args, *tensors)
            except RuntimeError:
                if self.checked:
                    raise
                self.dynamic = False
        return _compiled(dynamic=False)(*args, x, *cells)

    def _groups(self) -> list[Group]:
        """Return groups of learned parameters, and arguments of `torch.optim.adam.adam`."""
        if self.state is not self.optimizer.state:  # as after its `load_state_dict`
            self.state, place = self.optimizer.state, {id(p): k for k, p in enumerate(self.learned)}
            self.moments: list[tuple[list[int], tuple[list[Tensor], ...], Tensor]] = []
            for group in self.optimizer.param_groups:
                params = [p for p in group["params"] if id(p) in place]
                first, second, steps = (
                    [self.state[p][name] for p in params]
                    for name in ("exp_avg", "exp_avg_sq", "step")
                )
                positions = [place[id(p)] for p in params]
                rate = torch.zeros((), dtype=torch.float64)
                self.moments.append((positions, (first, second, [], steps), rate))
        return [
            (positions, moments, _settings(group, rate))
            for (positions, moments, rate), group in zip(
                self.moments, self.optimizer.param_groups, strict=True
            )
        ]


def _settings(group: dict[str, Any], rate: Tensor) -> dict[str, Any]:
    """Keyword arguments of `torch.optim.adam.adam`; the rate, which changes, is a tensor."""
    return {
        "lr": rate.fill_(group["lr"]),
        "beta1": group["betas"][0],
        "beta2": group["betas"][1],
        **{name: group[name] for name in ("eps", "weight_decay", "decoupled_weight_decay")},
    }
