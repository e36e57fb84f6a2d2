"""`MultiTaskCNNEstimator`: parameters, and fit / predict / score as short stories."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import Tags, check_consistent_length
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_mtl import _engine as engine
from sklearn_mtl import _recipe as recipes
from sklearn_mtl._batches import Batches
from sklearn_mtl._callbacks import OPTIONAL, Data, FitTasks
from sklearn_mtl._files import FileMixin
from sklearn_mtl._targets import EncodedTargets, TargetEncoder
from sklearn_mtl._validation import (
    InputReader,
    Source,
    as_input,
    check_weights,
    random_seed,
    split_rows,
)
from sklearn_mtl._views import TaskClassifier, TaskRegressor, task_view
from sklearn_mtl.losses import LOSSES
from sklearn_mtl.metrics import masked_score
from sklearn_mtl.networks import TRUNKS, MultiTaskModule

__all__ = ["MultiTaskCNNEstimator"]


def _has_class_task(estimator: MultiTaskCNNEstimator) -> bool:
    check_is_fitted(estimator)
    if not estimator._encoder.classes:
        raise AttributeError("No task is a class task, so there are no probabilities.")
    return True


def _takes_streams(estimator: MultiTaskCNNEstimator) -> bool:
    if estimator.early_stopping:
        raise AttributeError("partial_fit does not support early_stopping=True. Set it to False.")
    weights = estimator.class_weight
    weights = weights.values() if isinstance(weights, Mapping) else [weights]
    if any(isinstance(weight, str) for weight in weights):
        raise AttributeError(
            "class_weight='balanced' is not supported for partial_fit, which does not know all "
            "rows. Pass a dict {task: {label: weight}}."
        )
    return True


class _Plan(NamedTuple):
    """What a training is about, read and checked."""

    named: MultiTaskCNNEstimator  # knows the column names of X
    encoder: TargetEncoder
    targets: EncodedTargets
    task_weights: NDArray[np.float64]
    reader: InputReader
    source: Source
    rows: NDArray[np.intp]
    held_out: NDArray[np.intp] | None
    recipe: recipes.Recipe
    seed: int


class MultiTaskCNNEstimator(CallbackSupportMixin, FileMixin):
    """Multi-task network for a matrix of classes and numbers with holes.

    One trunk is shared by all tasks (a small convolutional network for images, sequences and
    volumes, a dense one for tabular rows), one head belongs to each. A target that was not
    observed (NaN) gives no loss and no gradient to its task, and the row its full share to the
    others. A skorch net trains it.

    Parameters
    ----------
    tasks : None, list of Task or dict of str to str or Task, default=None
        What the columns of y are: classes, ordered classes, numbers, quantiles, counts or amounts,
        see `Task`. None infers: bools, strings, categories and numbers that are
        all 0 or 1 are classification, other numbers regression; names come from the frame, else
        ``y0``, ``y1``, ... A list of `Task` matches frames by name and arrays by position, lists
        every column, and its order is that of the output. A dict name -> kind or Task may be
        partial.
    loss : {'logprod', 'weighted', 'masked_mse', 'uncertainty'} or callable, default='logprod'
        How the task losses become one number.

        - 'logprod': sum of their logarithms, so that tasks balance by themselves; see
          `sklearn_mtl.losses.LogProd`.
        - 'weighted': weighted sum of cross-entropies (classes), squared errors, deviances and
          pinball losses (numbers).
        - 'masked_mse': weighted sum of squared errors, Brier scores for classes.
        - 'uncertainty': weighted sum with learned weights; see `sklearn_mtl.losses.Uncertainty`.
        - an object of `sklearn_mtl.losses` (copied).
        - a callable ``(losses, counts) -> scalar`` of the mean losses of a batch and the sums of
          weights of their observed targets (a task's largest weight is 1), two tensors of shape
          (n_tasks,). A callable of one required argument, such as a scalarizer of TorchJD, takes
          the losses of the tasks that are observed in the batch. Modules are copied, and their
          parameters trained.
    task_weights : None, 'n_observed', array-like of shape (n_tasks,) or dict, default=None
        Weight of each task, 1 by default. 'n_observed' is K n_k / sum(n): each observed target
        counts alike, instead of each task; n_k are sums of sample weights, where there are any.
        A dict name -> weight may be partial. Only for a `loss` given by name.
    class_weight : None, 'balanced' or dict, default=None
        'balanced', or a dict from task name to 'balanced' or to a dict label -> weight; multiplied
        into the sample weights.
    missing_values : float, int or str, default=None
        One value of y that means *not observed*, besides NaN, None and ``pd.NA``.
    conditional_output : {'estimate', 'nan', 'expected'}, default='estimate'
        What `predict` and `predict_frame` give for a task declared with ``given=``: the value
        expected if it applies; NaN (None among labels) where a gate up the chain is predicted not
        to hold; or, for kinds that predict a mean, the estimate times the probability that the
        chain of gates holds.
    input_shape : tuple of int, default=None
        Shape of one sample, channels first: (d,), (C, L), (C, H, W) or (C, D, H, W). Every sample
        is reshaped to it. None takes it from X.
    data_format : {'channels_first', 'channels_last'}, default='channels_first'
        Where the channels of X stand. X of three axes are images (n, H, W) of one channel with the
        former, and need `input_shape` with the latter.
    trunk : {'auto', 'dense', 'conv', 'tabm'}, spec, nn.Module or callable, default='auto'
        The shared part. 'auto' is 'dense' for rows and 'conv' for all else. A spec
        (`DenseTrunk`, `ConvTrunk`, `TabMTrunk` and `TimmTrunk` of `sklearn_mtl.networks`) has
        parameters that can be searched, e.g. ``trunk__width``. A module is copied, and never
        trained in place; a callable without arguments, such as a class, returns one. Trunks map
        (B, ...) to (B, F), or to (B, M, F) for an ensemble of M members over which loss and
        predictions are averaged.
    head_hidden_units : int, default=0
        Hidden ReLU units in the head of each task, which no other task shares. With 0, heads are
        linear in what the trunk returns.
    max_epochs : int or 'auto', default='auto'
        Passes over the training rows. 'auto' is 800 over the square root of the number of rows,
        from 12 to 30; for images, sequences and volumes 2250 over it, from 30 to 60. Like
        `batch_size`, it counts rows and not weights. Raise it where there is little noise.
    batch_size : int or 'auto', default='auto'
        Rows per step, at most; batches are of nearly equal size. 'auto' is about twice the square
        root of the number of rows, a power of two from 64 to 512; half of that, from 64 to 256, for
        images, sequences and volumes.
    learning_rate : float, default=0.002
        Peak learning rate: it warms up over the first 5 % of the steps, and falls to 0 along a
        cosine. An ``LRScheduler`` in `net_params` replaces this schedule.
    optimizer : str or torch optimizer class, default='AdamW'
        A name in `torch.optim`, or a class.
    weight_decay : float or 'auto', default='auto'
        Weight decay of the optimizer, for weight matrices and kernels only. 'auto' is 3 for AdamW,
        which multiplies it with the learning rate (at its peak, weights shrink by 0.6 % per step),
        less for more than 1,111 images, sequences or volumes (100 over the root of their number),
        and 0 for other optimizers. Lower it where there is little noise and time to train long.
    early_stopping : bool, default=False
        Stop when the validation objective has not improved by `tol` in `n_iter_no_change` epochs,
        and keep the best weights. Validation data are `X_val`, `y_val` of `fit` (pass them when
        rows come in groups), else a fraction of the rows in which every task has observed targets
        on both sides.
    validation_fraction : float, default=0.1
        Share of rows held out for early stopping.
    n_iter_no_change : int, default=10
        Epochs without improvement before stopping early.
    tol : float, default=0.0001
        Improvement of the validation objective that counts.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last fit, instead of new ones. Tasks, labels,
        and the mean and scale of inputs and numbers stay those of the first fit. Every task must be
        observed again.
    random_state : int, RandomState instance or None, default=None
        Drives initial weights, shuffling, shifts, dropout and the validation split. None takes
        fresh entropy. The global random states of numpy and torch are left as they are.
    verbose : int, default=0
        Above 0, skorch prints a line per epoch.
    device : str, default='auto'
        A torch device; 'auto' is 'cuda' where there is one, else 'cpu'.
    precision : {'auto', 'float32', 'float64', 'bfloat16'}, default='auto'
        'auto' is float32, and float64 for a dense trunk whose training rows fit into one batch:
        there it costs next to nothing, and a sample weight of 2 equals the row twice to the last
        digits. 'bfloat16' keeps weights and losses in float32.
    compile : bool, default=False
        Compile the training step by ``torch.compile``: forward pass, loss, gradients and update in
        one function. Compiling takes some seconds, once for all fits of a process in which the
        network and the tasks have the same structure. Small networks for tables then train nearly
        twice as fast; convolutional networks gain little or nothing on a CPU. Where it fails, as
        without a C++ compiler or for a callable `loss` of losses alone, a warning says so, and the
        ordinary step runs. Random numbers are the same, results differ by rounding. (skorch's own
        ``{"compile": True}`` in `net_params` compiles the module only.)
    net_params : dict, default=None
        Parameters for the skorch ``NeuralNet`` that are not set by others here, e.g.
        ``{"callbacks": [...]}`` or ``{"optimizer__betas": (0.9, 0.99)}``.

    Attributes
    ----------
    tasks_ : list of Task
        The tasks, declared or inferred, in output order.
    task_names_ : list of str
        Their names.
    classes_ : ndarray or list of ndarray
        Labels of each class task, sorted, those of an ordinal task from low to high; not a list
        when there is just one such task. Exists only where there is one.
    n_features_in_ : int
        Number of values in one sample.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of X, where it had string names.
    n_iter_ : int
        Number of epochs run.
    n_observed_ : ndarray of int of shape (n_tasks,)
        Rows in which each target was observed, those held out for early stopping included.
    n_applicable_ : ndarray of int of shape (n_tasks,)
        Rows in which each target applies: all of them, or those in which the gate holds.
    history_ : dict of str to ndarray of shape (`n_iter_`, n_tasks)
        ``'train_loss'`` and, with validation data, ``'valid_loss'``: mean loss over the observed
        targets per epoch, in training mode for the former (numbers are scaled), NaN where
        there were none; for ensembles such as `DenseTrunk`, the mean over members, which is above
        the loss of their mean prediction; ``'effective_weight'``: the factor by which each loss, in
        standardised units, entered.
    task_weights_ : ndarray of shape (n_tasks,)
        Task weights, resolved.
    noise_std_ : ndarray of shape (n_tasks,)
        Root mean squared residual of each 'regression' task over the training rows, in the units of
        y: the closed-form noise level of `loss='logprod'`. Biased low when the network overfits.
        NaN for other kinds.
    net_ : skorch.NeuralNet
        The net, trained.
    module_ : sklearn_mtl.networks.MultiTaskModule
        Its module.

    See Also
    --------
    Task : One column of y.
    sklearn_mtl.losses : The losses, usable without the estimator.

    References
    ----------
    .. [1] A. Kendall, Y. Gal, R. Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses
       for Scene Geometry and Semantics", CVPR 2018, arXiv:1705.07115.

    Examples
    --------
    A class, a number, and a number that exists only for positives:

    >>> from sklearn_mtl import MultiTaskCNNEstimator, Task
    >>> from sklearn_mtl.datasets import make_digit_scenes
    >>> X, y = make_digit_scenes(200, size=16, random_state=0)
    >>> estimator = MultiTaskCNNEstimator(
    ...     tasks=[
    ...         Task("digit_present", "classification"),
    ...         Task("brightness", "regression"),
    ...         Task("digit_size", "regression", given=("digit_present", 1)),
    ...     ],
    ...     max_epochs=2,
    ...     random_state=0,
    ... ).fit(X, y)
    >>> estimator.predict(X).shape
    (200, 3)
    >>> estimator.n_observed_.tolist()
    [200, 200, 100]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "tasks": [None, list, tuple, Mapping],
        "loss": [StrOptions(set(LOSSES)), callable],
        "task_weights": [None, StrOptions({"n_observed"}), "array-like", Mapping],
        "class_weight": [None, StrOptions({"balanced"}), Mapping],
        "missing_values": [None, Real, str],
        "conditional_output": [StrOptions({"estimate", "nan", "expected"})],
        "input_shape": [None, tuple, list],
        "data_format": [StrOptions({"channels_first", "channels_last"})],
        "trunk": [StrOptions({"auto", *TRUNKS}), HasMethods("build"), callable],
        "head_hidden_units": [Interval(Integral, 0, None, closed="left")],
        "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "optimizer": [str, callable],
        "weight_decay": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "device": [str],
        "precision": [StrOptions({"auto", *recipes.DTYPES})],
        "compile": ["boolean"],
        "net_params": [None, dict],
    }

    def __init__(
        self,
        tasks: Any = None,
        *,
        loss: Any = "logprod",
        task_weights: Any = None,
        class_weight: Any = None,
        missing_values: Any = None,
        conditional_output: str = "estimate",
        input_shape: tuple[int, ...] | None = None,
        data_format: str = "channels_first",
        trunk: Any = "auto",
        head_hidden_units: int = 0,
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float = 2e-3,
        optimizer: str | Callable[..., Any] = "AdamW",
        weight_decay: float | str = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,  # as torch calls it
        net_params: dict[str, Any] | None = None,
    ) -> None:
        self.tasks = tasks
        self.loss = loss
        self.task_weights = task_weights
        self.class_weight = class_weight
        self.missing_values = missing_values
        self.conditional_output = conditional_output
        self.input_shape = input_shape
        self.data_format = data_format
        self.trunk = trunk
        self.head_hidden_units = head_hidden_units
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.precision = precision
        self.compile = compile
        self.net_params = net_params

    # -- parameters --------------------------------------------------------------------------

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those of a trunk spec by ``trunk__name``.

        Parameters
        ----------
        **params : dict
            Parameters and their values.

        Returns
        -------
        self : MultiTaskCNNEstimator

        Raises
        ------
        ValueError
            If a parameter is unknown, or `trunk` is a name, which has none.
        """
        trunk = params.get("trunk", self.trunk)
        nested = next((name for name in params if name.startswith("trunk__")), None)
        if isinstance(trunk, str) and nested is not None:
            raise ValueError(
                f"{nested} cannot be set: trunk={trunk!r} is a name and has no parameters. Pass a "
                "spec instead, such as trunk=ConvTrunk() of sklearn_mtl.networks."
            )
        return super().set_params(**params)

    # -- fit ---------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MultiTaskCNNEstimator:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            or HDF5 and Zarr arrays, which are read batch by batch. Must be finite.
        y : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)
            One column per task; NaN, None or ``pd.NA`` where not observed.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            Weights of rows, or of single targets. A weight of 0 equals a target not observed.
            They count relative to the others of the same task; `task_weights` weighs tasks. The
            columns of a frame are matched by name, those of an array are in task order.
        X_val, y_val, sample_weight_val : array-like, default=None
            Validation data for `history_`, early stopping, and the callbacks of scikit-learn.

        Returns
        -------
        self : MultiTaskCNNEstimator

        Raises
        ------
        ValueError
            If X is not finite, lengths or shapes do not fit, a task has no observed value, a
            value stands where its gate does not hold, or training diverges. An estimator that was
            fitted before stays as it was.

        Warns
        -----
        ConvergenceWarning
            If Ctrl-C interrupted the training; the weights so far are kept.
        """
        if X_val is None and (y_val is not None or sample_weight_val is not None):
            raise ValueError("y_val or sample_weight_val was passed without X_val. Pass X_val too.")
        valid = None if X_val is None else Data(X_val, y_val, sample_weight_val)
        return self._fit(Data(X, y, sample_weight), valid)

    @available_if(_takes_streams)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> MultiTaskCNNEstimator:
        """Train for one pass over some rows of a stream.

        The first call decides what later ones must fit: tasks and their labels, and the mean and
        scale of inputs and numbers, so let it have rows that speak for the others. The optimizer
        goes on from call to call, with a constant `learning_rate`; it starts anew where a parameter
        of the network, the loss or the optimizer was changed. After `fit`, what was learned is
        trained further.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As in `fit`.
        y : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)
            As in `fit`. A column may be all NaN, but not in the first call, nor in the first after
            `fit`, `load` or a change of parameters.
        classes : array-like or dict of str to array-like, default=None
            Labels that are yet to come: those of the only class task, or a dict from the names of
            class tasks; the categories of ordinal tasks are known. For the first call: a label that
            neither it nor its y had is an error later.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            As in `fit`. Weights count relative to those of the same call.

        Returns
        -------
        self : MultiTaskCNNEstimator
            `history_`, `n_iter_`, `n_observed_` and `n_applicable_` go on from call to call;
            `noise_std_`, and skorch's own history, are those of the last one.

        Raises
        ------
        ValueError
            As in `fit`. What was learned before stays.
        AttributeError
            If `early_stopping` is set, or `class_weight` is 'balanced': they need all rows at once.
        """
        return self._fit(Data(X, y, sample_weight), None, classes, is_stream=True)

    def _fit(
        self, data: Data, given: Data | None, classes: Any = None, is_stream: bool = False
    ) -> MultiTaskCNNEstimator:
        """Train on `data`, with the validation data that the user has `given`."""
        goes_on = (is_stream or self.warm_start) and hasattr(self, "net_")
        built_by = self._built_by() if is_stream else None
        flows = goes_on and is_stream and self.net_.built_by == built_by  # with its optimizer
        plan = self._plan(data, given, classes, goes_on, is_stream)
        if flows:
            plan = plan._replace(task_weights=self.task_weights_)
        recipe, seed = plan.recipe, plan.seed
        batches = Batches(plan.source, *plan.targets, plan.rows, recipe, shuffle_seed=seed)
        valid, scored = self._validation(plan, data, given)
        learned = functools.partial(self._learned, plan)
        tasks = None if is_stream else FitTasks(self, data, scored, recipe.max_epochs, learned)
        with engine.seeded(seed, recipe.device):
            net = self._start(plan, batches, goes_on, flows)
            net.built_by = built_by
            engine.train(net, recipe, batches, valid, None if tasks is None else tasks.watch())
        del batches, valid  # room for the predictions
        attributes = learned(net)
        if goes_on and is_stream:
            now = attributes["history_"]
            hole = np.full_like(now["train_loss"], np.nan)  # no validation data any more
            attributes["history_"] = {
                name: np.concatenate([rows, now.get(name, hole)])
                for name, rows in self.history_.items()
            }
            attributes["n_iter_"] += self.n_iter_
        if tasks is not None:
            tasks.end(attributes)
        self._keep(attributes)
        return self

    def _plan(
        self, data: Data, given: Data | None, classes: Any, goes_on: bool, is_stream: bool
    ) -> _Plan:
        """Read and check what the training needs; what was learned before stays if it `goes_on`."""
        X, y, sample_weight = data
        inputs = as_input(X, estimator=self)
        named = self if goes_on else _with_names_of(self, X)
        self._require_targets(inputs, y)
        if goes_on:
            self._check_unchanged(classes)
            validate_data(self, X, reset=False, skip_check_array=True, ensure_2d=False)
            encoder, targets = self._encoder.encode_more(y, sample_weight, add=is_stream)
        else:
            # Copies, so that what the user changes later can be told.
            params = self.tasks, self.missing_values, self.class_weight
            encoder = TargetEncoder(*copy.deepcopy(params))
            targets = encoder.fit_encode(y, sample_weight, classes, more_comes=is_stream)
        task_weights = self._resolve_task_weights(encoder, targets)
        # A row counts as much as its heaviest target; a cell of weight 0 is but a hole.
        weight = check_weights(sample_weight, len(targets.weight), encoder.names).max(axis=1)
        seed = random_seed(self.random_state)
        if goes_on and is_stream:  # other shifts and shuffles than before
            seed = (seed + self.n_iter_) % 2**31
        rows, held_out = self._split(encoder, targets, weight, seed, inner=given is None)
        if goes_on:
            reader = self._reader
            reader.check_shape(inputs)
        else:
            shape = copy.copy(self.input_shape)
            reader = InputReader(shape, self.data_format, type(self).__name__)
            reader.fit(inputs, rows, weight[rows])
        recipe = self._recipe(reader, len(rows))
        if goes_on and (is_stream or self.precision == "auto"):
            recipe = recipe._replace(precision=engine.precision_of(self.net_))
        if is_stream:
            recipe = recipe._replace(max_epochs=1, is_stream=True)
        source = reader.of(inputs)
        return _Plan(
            named, encoder, targets, task_weights, reader, source, rows, held_out, recipe, seed
        )

    def _built_by(self) -> dict[str, str]:
        """Parameters that a net is built by, so that a change of them can be told."""
        names = (
            *("loss", "task_weights", "trunk", "head_hidden_units", "learning_rate", "optimizer"),
            *("weight_decay", "device", "precision", "net_params"),
        )
        return {name: repr(getattr(self, name)) for name in names}

    def _check_unchanged(self, classes: Any) -> None:
        """Refuse parameters by which y and X would be read in another way than before."""
        read_by = {
            "tasks": self._encoder.tasks,
            "missing_values": self._encoder.missing_values,
            "class_weight": self._encoder.class_weight,
            "input_shape": self._reader.input_shape,
            "data_format": self._reader.data_format,
        }
        for name, value in read_by.items():
            now = getattr(self, name)
            alike = name == "input_shape" and None not in (now, value) and [*now] == [*value]
            if repr(now) != repr(value) and not alike:
                raise ValueError(
                    f"{name} was changed from {value!r} to {now!r} since the last fit, so what was "
                    "learned cannot be trained further. Set it back, or fit anew with "
                    "warm_start=False."
                )
        self._encoder.check_declared(classes)

    def _start(self, plan: _Plan, batches: Batches, goes_on: bool, flows: bool) -> engine.TaskNet:
        """Return the net to train: a new one, or a copy of the one that learned before."""
        if flows:
            return engine.copied(self.net_, with_optimizer=True)
        bias = plan.encoder.constants(plan.targets)
        net = self._build_net(plan.recipe, plan.encoder, plan.reader, bias, plan.task_weights)
        engine.start_combiner(net, batches)  # before the weights are others
        if goes_on:
            try:
                engine.take_learned(net, self.net_)
            except ValueError as error:
                raise ValueError(
                    "trunk or head_hidden_units were changed since the last fit, and what was "
                    "learned does not fit into them. Set them back, or fit anew with "
                    "warm_start=False."
                ) from error
        return net

    def _learned(self, plan: _Plan, net: engine.TaskNet) -> dict[str, Any]:
        """Fitted attributes, if the training ends with this net."""
        raw, targets = engine.predict_raw(net, plan.source, plan.rows), plan.targets
        if len(plan.rows) < len(targets.values):
            targets = EncodedTargets(targets.values[plan.rows], targets.weight[plan.rows])
        if not plan.recipe.is_stream:
            engine.shift_outputs(net, plan.encoder.balance(raw, targets))
        noise_std = plan.encoder.noise_std(raw, targets)
        names = getattr(plan.named, "feature_names_in_", None)
        return self._attributes(net, plan.encoder, plan.reader, names, plan.task_weights, noise_std)

    def _require_targets(self, inputs: Any, y: Any) -> None:
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None."
            )
        check_consistent_length(inputs, y)

    def _split(
        self,
        encoder: TargetEncoder,
        targets: EncodedTargets,
        weight: NDArray[np.float64],
        seed: int,
        inner: bool,
    ) -> tuple[NDArray[np.intp], NDArray[np.intp] | None]:
        """Rows to train on (those with weight), and rows held out for early stopping."""
        rows = np.flatnonzero(weight)
        if not (self.early_stopping and inner):
            return rows, None
        train, valid = split_rows(
            targets.weight[rows] > 0,
            targets.values[rows][:, list(encoder.classes)],
            self.validation_fraction,
            encoder.names,
            np.random.default_rng(seed),
        )
        return rows[train], rows[valid]

    def _validation(
        self, plan: _Plan, data: Data, given: Data | None
    ) -> tuple[Batches | None, Data]:
        """Return validation data, if any, and the rows that callbacks see after an epoch."""
        if given is None:
            if plan.held_out is None:
                return None, data
            batches = Batches(plan.source, *plan.targets, plan.held_out, plan.recipe)
            return batches, data.part(plan.held_out)
        X, y, sample_weight = given
        if y is None:
            raise ValueError("X_val was passed without y_val. Pass y_val too.")
        validate_data(plan.named, X, reset=False, skip_check_array=True, ensure_2d=False)
        inputs = as_input(X, estimator=self)
        self._require_targets(inputs, y)
        plan.reader.check_shape(inputs)
        targets = plan.encoder.encode(y, sample_weight)
        rows = np.flatnonzero(targets.weight.any(axis=1))
        if len(rows) == 0:
            raise ValueError("y_val holds no observed target. Pass rows with observed targets.")
        return Batches(plan.reader.of(inputs), *targets, rows, plan.recipe), given

    def _recipe(self, reader: InputReader, n_rows: int) -> recipes.Recipe:
        """Parameters with every 'auto' resolved."""
        max_epochs, batch_size, precision = self.max_epochs, self.batch_size, self.precision
        images = len(reader.input_shape_) > 1
        if max_epochs == "auto":
            max_epochs = recipes.auto_max_epochs(n_rows, images)
        if batch_size == "auto":
            batch_size = recipes.auto_batch_size(n_rows, images)
        if precision == "auto":
            full_batch = n_rows <= int(batch_size)
            precision = recipes.auto_precision(self.trunk, reader.input_shape_, full_batch)
        weight_decay = self.weight_decay
        if isinstance(weight_decay, str):
            weight_decay = recipes.auto_weight_decay(self.optimizer, n_rows, images)
        return recipes.Recipe(
            max_epochs=int(max_epochs),
            batch_size=int(batch_size),
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            weight_decay=weight_decay,
            device=recipes.resolve_device(self.device),
            precision=precision,
            verbose=int(self.verbose),
            net_params=self.net_params or {},
            patience=self.n_iter_no_change if self.early_stopping else None,
            tol=self.tol,
            compile=self.compile,
        )

    def _build_net(
        self,
        recipe: recipes.Recipe,
        encoder: TargetEncoder,
        reader: InputReader,
        bias: NDArray[np.float64],
        task_weights: NDArray[np.float64],
    ) -> engine.TaskNet:
        """Assemble the net for what the encoder and the reader have seen."""
        return engine.build_net(
            recipe,
            trunk=self.trunk,
            head_hidden_units=self.head_hidden_units,
            input_shape=reader.input_shape_,
            kinds=[task.kind for task in encoder.tasks_],
            n_outputs=encoder.n_outputs,
            loss_params=[kind.loss_params for kind in encoder.kinds_],
            bias=bias,
            loss=self.loss,
            task_weights=task_weights,
        )

    def _resolve_task_weights(
        self, encoder: TargetEncoder, targets: EncodedTargets
    ) -> NDArray[np.float64]:
        """One weight per task."""
        weights, names = self.task_weights, encoder.names
        if weights is None:
            return np.ones(len(names))
        if not isinstance(self.loss, str):
            raise ValueError(
                "task_weights is set, but loss is an object, which has weights of its own. "
                "Pass them to it, as in LogProd(weights=...), or pass loss as a name."
            )
        if isinstance(weights, str):  # 'n_observed'
            mass = targets.weight.sum(axis=0)
            return len(names) * mass / mass.sum()
        labels = weights.keys() if hasattr(weights, "keys") else ()  # of a dict, or a Series
        if isinstance(weights, Mapping) or any(isinstance(label, str) for label in labels):
            weights = dict(weights.items())
            unknown = [name for name in weights if name not in names]
            if unknown:
                raise ValueError(f"task_weights names unknown tasks {unknown}; known: {names}.")
            weights = [weights.get(name, 1.0) for name in names]
        try:
            weights = np.array(weights, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"task_weights={self.task_weights!r}: {error}.") from error
        if (
            not np.isfinite(weights).all()
            or weights.shape != (len(names),)
            or (weights < 0).any()
            or not weights.any()
        ):
            raise ValueError(
                f"task_weights={self.task_weights!r} does not fit. Pass {len(names)} weights >= 0, "
                f"not all 0, one per task: {names}."
            )
        return weights

    @staticmethod
    def _attributes(
        net: engine.TaskNet,
        encoder: TargetEncoder,
        reader: InputReader,
        names: NDArray[Any] | None,
        task_weights: NDArray[np.float64],
        noise_std: NDArray[np.float64],
    ) -> dict[str, Any]:
        """Fitted attributes of an estimator that holds `net`."""
        history = net.task_history()
        found = {
            "_encoder": encoder,
            "_reader": reader,
            "net_": net,
            "n_features_in_": math.prod(reader.sample_shape_),
            "tasks_": encoder.tasks_,
            "task_names_": encoder.names,
            "n_observed_": encoder.n_observed_,
            "n_applicable_": encoder.n_applicable_,
            "task_weights_": task_weights,
            "noise_std_": noise_std,
            "history_": history,
            "n_iter_": len(history["train_loss"]),
        }
        if names is not None:
            found["feature_names_in_"] = names
        classes = list(encoder.classes.values())
        if classes:
            found["classes_"] = classes[0] if len(classes) == 1 else classes
        return found

    def _keep(self, attributes: dict[str, Any]) -> None:
        """Set the fitted attributes, once nothing can fail any more."""
        for name in OPTIONAL:
            self.__dict__.pop(name, None)
        self.__dict__.update(attributes)

    @property
    def module_(self) -> MultiTaskModule:
        """The module of `net_`; not stored twice, as copies of the two would be two."""
        return self.net_.module_

    # -- predict -----------------------------------------------------------------------------

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict every task.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            or HDF5 and Zarr arrays, which are read batch by batch. Must be finite.

        Returns
        -------
        y_pred : ndarray of shape (n_samples, n_tasks) or (n_samples,)
            Labels and numbers in the units of y: of dtype float when all labels are numbers, of
            dtype object otherwise; 1-D when y was. See `conditional_output` for tasks with
            ``given=``.
        """
        raw = self._raw(X)
        return self._encoder.matrix(self._encoder.decode(raw, self.conditional_output))

    def predict_frame(self, X: Any) -> Any:
        """Predict every task, as a frame.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            or HDF5 and Zarr arrays, which are read batch by batch. Must be finite.

        Returns
        -------
        y_pred : DataFrame of shape (n_samples, n_tasks)
            Of the type of y in `fit` (pandas for arrays), with the names of the tasks; classes
            have y's dtypes.
        """
        raw = self._raw(X)
        columns = self._encoder.decode(raw, self.conditional_output)
        return self._encoder.frame(columns, index=X.index if hasattr(X, "iloc") else None)

    @available_if(_has_class_task)
    def predict_proba(self, X: Any) -> NDArray[np.float64] | list[NDArray[np.float64]]:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            or HDF5 and Zarr arrays, which are read batch by batch. Must be finite.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes) or list of them
            One array per class task, in the order of `classes_`; the array itself when there is
            just one. For a conditional class: the probability given its gate. An ordinal task is
            predicted by its median, which need not be the most probable class.
        """
        probabilities = list(self._encoder.probabilities(self._raw(X)).values())
        return probabilities[0] if len(probabilities) == 1 else probabilities

    def embed(self, X: Any) -> NDArray[np.float64]:
        """Shared representation: what the trunk makes of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            or HDF5 and Zarr arrays, which are read batch by batch. Must be finite.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features)
            Averaged over the members of an ensemble.
        """
        return self._raw(X, embed=True).astype(np.float64, copy=False)

    def score_tasks(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """Score every task on its observed targets: accuracy of classes, R2 or D2 of the others.

        D2 is the share of an error that is explained, as R2 is of squared errors: of the absolute
        error in ranks ('ordinal'), the pinball loss ('quantile'), or the deviance ('poisson',
        'gamma').

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            or HDF5 and Zarr arrays, which are read batch by batch. Must be finite.
        y : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)
            True targets, laid out as in `fit`.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            Weights of rows, or of single targets.

        Returns
        -------
        scores : dict of str to float
            NaN, with a warning, where a class has no observed target or another fewer than two.
        """
        raw = self._raw(X)
        check_consistent_length(raw, y)
        predictions = self._encoder.decode(raw)
        columns, weight = self._encoder.read(y, sample_weight)
        scores = {}
        for k, task in enumerate(self.tasks_):
            seen = columns[k].seen
            scores[task.name] = self._score_observed(
                k, columns[k].values[seen], predictions[k][seen], weight[seen, k]
            )
        return scores

    def _score_observed(
        self, k: int, y_true: NDArray[Any], y_pred: NDArray[Any], weight: NDArray[np.float64]
    ) -> float:
        """Score task `k` on targets that were all observed."""
        kind = self._encoder.kinds_[k]
        return masked_score(
            kind.metric,
            kind.measured(y_true),
            kind.measured(y_pred),
            sample_weight=weight,
            min_samples=kind.min_samples,
            name=self.tasks_[k].name,
        )

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean over tasks of `score_tasks`: accuracy of classes, R2 or D2 of the others.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            or HDF5 and Zarr arrays, which are read batch by batch. Must be finite.
        y : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)
            True targets, laid out as in `fit`.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            Weights of rows, or of single targets.

        Returns
        -------
        score : float
            Higher is better. Tasks without enough observed targets are left out with a warning;
            NaN when none is left. Always that of the estimate, whatever `conditional_output`.
        """
        scores = np.array(list(self.score_tasks(X, y, sample_weight).values()))
        return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")

    def task_view(self, name: str) -> TaskClassifier | TaskRegressor:
        """One task as a fitted, frozen classifier or regressor, for the tools of scikit-learn.

        The function `sklearn_mtl.task_view` does the same for pipelines and searches.

        Parameters
        ----------
        name : str
            Name of the task.

        Returns
        -------
        view : TaskClassifier or TaskRegressor
            Its `fit` does nothing, and a later `fit` of the estimator leaves it as it was. For a
            conditional task: what is expected if it applies, whatever `conditional_output`.

        Raises
        ------
        ValueError
            If there is no task of that name.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_mtl import MultiTaskCNNEstimator
        >>> X = np.random.default_rng(0).normal(size=(100, 3))
        >>> y = np.column_stack([X[:, 0] > 0, X[:, 1]])
        >>> estimator = MultiTaskCNNEstimator(random_state=0).fit(X, y)
        >>> view = estimator.task_view("y0")
        >>> view.predict_proba(X).shape
        (100, 2)
        >>> view.score(X, y[:, 0]) == estimator.score_tasks(X, y)["y0"]
        True
        """
        return task_view(self, name)

    def _raw(self, X: Any, embed: bool = False) -> NDArray[np.floating[Any]]:
        """Check X, and run the network on it, in its own precision."""
        check_is_fitted(self)
        inputs = as_input(X, estimator=self)
        validate_data(self, X, reset=False, skip_check_array=True, ensure_2d=False)
        self._reader.check_shape(inputs)
        rows = range(inputs.shape[0])
        raw = engine.predict_raw(self.net_, self._reader.of(inputs), rows, embed)
        finite = np.isfinite(raw)
        if not finite.all():
            bad = np.flatnonzero(~finite.all(axis=tuple(range(1, raw.ndim))))
            raise ValueError(
                f"The network's output is not finite in {len(bad)} rows of X, the first "
                f"{bad[:5].tolist()}: their values are too far from those of the training rows to "
                "be computed with. Check X."
            )
        return raw

    def _get_params_html(self, deep: bool = True, doc_link: str = "") -> Any:
        # scikit-learn shows what it knows of parameters only where these have a link.
        return super()._get_params_html(deep, doc_link or "#")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.input_tags.three_d_array = True
        return tags


def _with_names_of(estimator: MultiTaskCNNEstimator, X: Any) -> MultiTaskCNNEstimator:
    """Return a copy that knows the column names of X; the original stays, as a fit may yet fail."""
    named = copy.copy(estimator)
    named.__dict__.pop("feature_names_in_", None)
    validate_data(named, X, reset=True, skip_check_array=True, ensure_2d=False)
    return named
