"""What `save`, `load` and `to_onnx` of the estimator do."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_mtl._data.tasks import Task
from sklearn_mtl._files import onnx, schema, store
from sklearn_mtl._files.formats import Saved
from sklearn_mtl._files.limits import Within
from sklearn_mtl._fitted import OPTIONAL, Fitted, fitted_of
from sklearn_mtl._identity import identity
from sklearn_mtl._training.build import build_net, built_by
from sklearn_mtl._training.copies import frozen_of, precision_of, restore, rule_of, stream_of
from sklearn_mtl._training.listeners import plain_module
from sklearn_mtl._training.plan import parameter_names, parameters_of
from sklearn_mtl._training.random import Draws, undisturbed
from sklearn_mtl._training.recipe import DTYPES, device_or_cpu, resolve
from sklearn_mtl.kinds import KINDS
from sklearn_mtl.losses import LOSSES
from sklearn_mtl.networks import MultiTaskModule, build_trunk, is_data, spelled_out

__all__ = ["load", "save", "to_onnx"]

# Of callbacks, which have no part in what was learned, nor where a fit stands that they watch.
OF_CALLBACKS = {
    "_callback_fit_ctx",
    "_parent_callback_ctx",
    "_skl_callbacks",
    "_skl_callbacks_to_teardown",
}

# Parameters that say where a fit is kept while it lasts: no file says where to write another one.
OF_CHECKPOINTS = {"checkpoint", "checkpoint_every"}

# Names of `Fitted.oob`.
OUT_OF_BAG = {"oob_prediction_", "oob_decision_function_", "oob_score_"}


def save(path: str | PathLike[str], estimator: Any, optimizer: bool = False) -> None:
    """Write a fitted estimator to one file of plain data, with its optimizer if asked to."""
    fitted_of(estimator)
    attributes = dict(vars(estimator))  # at once: it may be fitted anew in another thread
    fitted: Fitted = attributes["_fitted"]
    _refuse_foreign(estimator.tasks, fitted)
    net = fitted.net
    # In the order of the class, those of its bases last.
    names = dict.fromkeys([*estimator.get_params(deep=False), *parameter_names(type(estimator))])
    params = {n: attributes[n] for n in names if n in attributes and n not in OF_CHECKPOINTS}
    known = {*params, *fitted.attributes(), *OPTIONAL, *OF_CALLBACKS, *OF_CHECKPOINTS}
    others = {name: value for name, value in attributes.items() if name not in known}
    module = plain_module(net)
    trunk = None
    if is_data(estimator.trunk):  # of names, what they stand for today
        params["trunk"] = spelled_out(estimator.trunk, fitted.reader.input_shape_)
    else:
        del params["trunk"]
        trunk = copy.deepcopy(module.trunk).cpu()
    rule = rule_of(net)
    # Else the next call starts an optimizer anew.
    goes_on = fitted.built_by == built_by(parameters_of(estimator))
    saved = Saved(
        params,
        fitted.state(),
        others,
        stream_of(net, goes_on) if optimizer else {},
        precision_of(net),
        module.channels_last,
        frozen_of(net),
        dict(module.state_dict()),
        _learned_by(rule) if type(rule) is _type_of(estimator.loss) else {},
    )
    packed = store.pack(saved)
    # What cannot be loaded again is found now, and not when it is needed.
    again = _restored(store.unpack(packed), type(estimator), trunk)
    if trunk is None and identity(plain_module(again.net_).trunk) != identity(module.trunk):
        raise ValueError(
            f"trunk={estimator.trunk!r} was changed after fit, and does not build the trunk that "
            "was fitted. Set it back, or fit again."
        )
    store.write(path, packed)


def _refuse_foreign(declared: Any, fitted: Fitted) -> None:
    """Refuse tasks that no file can hold: tuned by a function, or of a kind without a name."""
    listed = declared.values() if isinstance(declared, Mapping) else declared or ()
    thresholds = fitted.attributes().get("thresholds_", {})
    for task in [*fitted.encoder.tasks_, *(task for task in listed if isinstance(task, Task))]:
        kind = task.make_kind()
        threshold = getattr(kind, "threshold", None)
        if callable(threshold):
            found = thresholds.get(task.name)
            number = f", or with the number that was found, {found!r}" if found is not None else ""
            raise TypeError(
                f"Task {task.name!r}: threshold={threshold!r} is a function, which a file that can "
                "run no code cannot hold. Fit with the name of a scorer of scikit-learn, such as "
                f"'f1'{number}, or pickle the estimator."
            )
        if type(kind) not in KINDS.values():
            name = type(kind).__name__
            raise TypeError(
                f"Task {task.name!r}: {name} is a kind of your own, which files know by its name "
                f"alone. Give it one, sklearn_mtl.kinds.KINDS['...'] = {name}, wherever you save "
                "and load, or pickle the estimator."
            )


def _type_of(loss: Any) -> Any:
    """Return the type of rule of ours that a `loss` stands for: it may be another since fit."""
    if isinstance(loss, str):
        return LOSSES[loss]
    return type(loss) if type(loss) in LOSSES.values() else None


def _learned_by(rule: Any) -> dict[str, Any]:
    """State of a rule but for the weights, which are parameters of it."""
    return {name: value for name, value in rule.state_dict().items() if name != "weights"}


def load(path: str | PathLike[str], kind: Any, trunk: Any = None) -> Any:
    """Read an estimator of the class `kind`, with `trunk` if the file has none."""
    saved = store.read(path)
    if "trunk" not in saved.params and trunk is None:
        raise ValueError(
            f"{path} holds the weights of a trunk, but no trunk, as it was a module or a "
            "callable. Pass the same one: load(path, trunk=...)."
        )
    if "trunk" in saved.params and trunk is not None:
        raise ValueError(
            f"trunk was passed, but {path} holds its own: {saved.params['trunk']!r}. "
            "Leave trunk out."
        )
    with store.blaming(path, trunk, saved.version):
        return _restored(saved, kind, trunk)


def _unfitted(saved: Saved, kind: Any, trunk: Any) -> Any:
    """Make an estimator of the parameters that were saved, with `trunk` if none was."""
    names = set(parameter_names(kind)) - OF_CHECKPOINTS
    unknown = sorted(set(saved.params) - names)
    reserved = names | OF_CALLBACKS | OF_CHECKPOINTS
    unknown += sorted(n for n in saved.others if hasattr(kind, n) or n in reserved)
    unknown += sorted(set(saved.fitted["oob"]) - OUT_OF_BAG)
    if unknown:
        raise ValueError(f"{kind.__name__} takes no {unknown}")
    params = {"trunk": trunk} | saved.params
    own = kind._get_param_names()
    estimator = kind(**{name: value for name, value in params.items() if name in own})
    inherited = {name: value for name, value in params.items() if name not in own}
    vars(estimator).update(inherited | saved.others)
    estimator._validate_params()
    # Options of torch.compile name programs to run, and other objects' options who knows what.
    refused = [
        name
        for name, value in (estimator.net_params or {}).items()
        if not (name.startswith("optimizer__") or value is None or isinstance(value, bool))
    ]
    if refused:
        raise ValueError(
            f"net_params holds {refused}, but a file that can run no code holds options of the "
            "optimizer and switches alone. Leave them out, or pickle the estimator."
        )
    return estimator


def _restored(saved: Saved, kind: Any, trunk: Any) -> Any:
    """Make a fitted estimator of what was saved, with `trunk` if none was."""
    estimator = _unfitted(saved, kind, trunk)
    schema.check(saved.fitted, saved.others)
    encoder, reader = saved.fitted["encoder"], saved.fitted["reader"]
    parameters = parameters_of(estimator)
    parameters.device = device_or_cpu(estimator.device)
    recipe = resolve(parameters, reader.input_shape_, n_rows=1)
    if saved.precision not in DTYPES:
        raise ValueError(f"there is no precision {saved.precision!r}")
    recipe = recipe._replace(precision=saved.precision, n_rows=None)  # nothing is trained
    within: Any = Within(saved.weights.values())
    draws = Draws(0, recipe.device)  # for initial weights, soon to be replaced
    with undisturbed(recipe.device), draws.drawing():
        if "trunk" not in saved.params:  # the user's may be as large as the user likes
            parameters.trunk = _with_heads_within(within, parameters, encoder, reader)
            within = contextlib.nullcontext()
        bias = np.zeros(sum(encoder.n_outputs))
        with within:
            weights = saved.fitted["task_weights"]
            net = build_net(parameters, recipe, encoder, reader, bias, weights, draws)
        _check_learned(saved, net, n_tasks=len(encoder.names))
        if saved.channels_last is not None:  # else as a trial has just found
            net.module.channels_last = saved.channels_last
        rule = _state_of(net.criterion.combine, saved.rule)
        schema.check_stream(saved.stream, n_tasks=len(encoder.names))
        restore(net, saved.weights, rule, saved.frozen, saved.stream)
    if not all(map(_is_finite, net.module_.parameters())):
        raise ValueError("its weights are not finite")
    goes_on = saved.stream and saved.stream["optimizer"] is not None
    by = built_by(parameters_of(estimator)) if goes_on else {}
    Fitted.from_state(saved.fitted, net, by).keep_in(estimator)
    return estimator


def _with_heads_within(within: Any, parameters: Any, encoder: Any, reader: Any) -> Any:
    """Return a user's trunk as one to be built, once heads of the file have found room on it."""
    trunk, n_features = build_trunk(parameters.trunk, reader.input_shape_, reader.two_valued_)
    with within:
        MultiTaskModule(
            trunk, n_features, encoder.n_outputs, head_hidden_units=parameters.head_hidden_units
        )
    return lambda: trunk


def _is_finite(tensor: Tensor) -> bool:
    """Tell without a copy; what is no number is the least and the greatest."""
    return tensor.numel() == 0 or all(map(math.isfinite, tensor.detach().aminmax()))


def _check_learned(saved: Saved, net: Any, n_tasks: int) -> None:
    """Refuse what `restore` would take for granted."""
    if type(saved.channels_last) not in (bool, type(None)):
        raise ValueError(f"channels_last={saved.channels_last!r} is neither true nor false")
    if saved.channels_last and len(tuple(net.reader_.input_shape_)) != 3:
        raise ValueError("channels_last is of images")
    if not isinstance(saved.frozen, list):
        raise ValueError(f"frozen={saved.frozen!r} is no list of names")
    unknown = set(saved.frozen) - {name for name, _ in net.module.named_parameters()}
    if unknown:
        raise ValueError(f"{sorted(unknown)} are frozen, but no parameters")
    started = copy.deepcopy(net.criterion.combine)
    if saved.rule:
        started.start(*torch.ones(3, n_tasks))
        shapes = {name: tensor.shape for name, tensor in started.state_dict().items()}
    for name, tensor in saved.rule.items():
        if tensor.shape != shapes.get(name, (n_tasks,)):
            raise ValueError(
                f"what the loss has learned, {name}, is of shape {tuple(tensor.shape)} for "
                f"{n_tasks} tasks"
            )


def _state_of(rule: Any, learned: dict[str, Any]) -> dict[str, Any]:
    """Complete what `_learned_by` returned; the rule loses what a training has to start anew."""
    for name, _ in list(rule.named_parameters()):
        if name not in learned:
            setattr(rule, name, None)
    return learned if rule.weights is None else learned | {"weights": rule.weights}


def to_onnx(path: str | PathLike[str], fitted: Fitted) -> None:
    """Write a fitted network as an ONNX graph."""
    encoder = fitted.encoder
    classes = dict.fromkeys(encoder.names) | {
        encoder.names[k]: labels.tolist() for k, labels in encoder.classes.items()
    }
    onnx.export(fitted.as_module(), classes, path)
