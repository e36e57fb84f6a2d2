"""`MultiTaskCNNEstimator`: parameters, and fit / predict / score as short stories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import ClassifierTags, Tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklearn_mtl import _through as tools
from sklearn_mtl._addresses import page_template
from sklearn_mtl._callers import check_callers
from sklearn_mtl._data.rows import Samples
from sklearn_mtl._fitted import Fitted, available_if, fitted_of, there_is
from sklearn_mtl._fitted_module import FittedModule
from sklearn_mtl._intervals import (
    standard_deviations,
    why_no_deviations,
    why_no_intervals,
    why_no_sets,
)
from sklearn_mtl._results import TrainingHistory
from sklearn_mtl._training.ctrl_c import heeding_ctrl_c, noting
from sklearn_mtl._training.fit import train, train_on
from sklearn_mtl._training.fit_tasks import FitTasks
from sklearn_mtl._training.group import once
from sklearn_mtl._training.plan import parameters_of
from sklearn_mtl._training.recipe import DTYPES
from sklearn_mtl._views import TaskClassifier, TaskRegressor, log_of, task_view
from sklearn_mtl.augmentation import Augment
from sklearn_mtl.losses import LOSSES
from sklearn_mtl.losses.combiners import LossLike
from sklearn_mtl.networks import MultiTaskModule
from sklearn_mtl.networks.given import TrunkLike, check_nested

if TYPE_CHECKING:  # the rooms of files are imported where files are: most processes have none
    from sklearn_mtl._files.checkpoint import Checkpoint

__all__ = ["MultiTaskCNNEstimator"]

Method = TypeVar("Method", bound=Callable[..., Any])
# scikit-learn has no types: what it decorates would have none either.
validated: Callable[[Method], Method] = _fit_context(prefer_skip_nested_validation=True)


def _has_class_task(estimator: MultiTaskCNNEstimator) -> bool:
    encoder = fitted_of(estimator).encoder
    if not encoder.classes:
        raise AttributeError(
            f"There is no predict_proba: none of the tasks {encoder.names} is a class task. "
            "Use predict; or declare a column of y as classes: tasks={name: 'classification'}."
        )
    return True


def _has_intervals(estimator: MultiTaskCNNEstimator) -> bool:
    return there_is(why_no_intervals(fitted_of(estimator).encoder, fitted_of(estimator).errors))


def _has_sets(estimator: MultiTaskCNNEstimator) -> bool:
    return there_is(why_no_sets(fitted_of(estimator).encoder, fitted_of(estimator).errors))


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


class MultiTaskCNNEstimator(CallbackSupportMixin, BaseEstimator):
    """Multi-task network for a matrix of classes and numbers with holes.

    One trunk is shared by all tasks (a small convolutional network for images and volumes, five for
    sequences, five dense ones for tabular rows), one head belongs to each. A target that was not
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
        'balanced', or a dict from task name to 'balanced' or to a dict label -> weight, or the
        latter alone if there is one class task; multiplied into the sample weights.
    missing_values : float, int, str or list of these, default=None
        Values of y that mean *not observed*, besides NaN, None and ``pd.NA``.
    conditional_output : {'estimate', 'nan', 'expected'}, default='estimate'
        What `predict` and `predict_frame` give for a task declared with ``given=``: the value
        expected if it applies; NaN (None among labels) where a gate up the chain is predicted not
        to hold; or, for kinds that predict a mean, the estimate times the probability that the
        chain of gates holds.
    input_shape : tuple of int or dict of str to tuple of int, default=None
        Shape of one sample, channels first: (d,), (C, L), (C, H, W) or (C, D, H, W). Every sample
        is reshaped to it. None takes it from X. A dict says that X has several parts: the columns
        of a table, in this order, one of which may be ``(-1,)`` for all that are left; or those of
        a :class:`~sklearn_mtl.datasets.MultiInput`.
    data_format : {'channels_first', 'channels_last'}, default='channels_first'
        Where the channels of X stand. X of three axes are images (n, H, W) of one channel with the
        former, and need `input_shape` with the latter.
    standardize : bool, 'auto', 'imagenet' or tuple (mean, std), default='auto'
        How inputs are brought to a common scale, inside. True: by the mean and standard deviation
        of the training rows, per feature, or per channel of samples with channels. 'auto': so too,
        unless the trunk is pretrained on images of a known mean and standard deviation, as a
        `TimmTrunk`, and X holds pixels, grey or of three channels: then by these. False: X goes
        into the network as it is. 'imagenet': by those of ImageNet, per channel, for pretrained
        modules of your own; images are then (C, H, W) with C = 3 (red, green, blue). Pixels are
        from 0 to 1, or from 0 to 255 if any training row has one above 1. A tuple: by these, each a
        number, or one per feature or channel, in the units of X. A dict has one of these for parts
        of X by name, and the others get 'auto'.
    augment : Augment, default=None
        Images are changed at random in training, by parameters that can be searched, e.g.
        ``augment__rotation``; targets with a `geometry`, see `Task`, move with them. `max_shift` of
        a `ConvTrunk` rests then. None shifts images by that, and targets with a geometry too.
    trunk : {'auto', 'dense', 'conv', 'sequence', 'tabm', 'fusion', 'ensemble'}, spec, nn.Module \
            or callable, default='auto'
        The shared part. 'auto' is 'dense' for rows, 'ensemble' (five of 'conv', each of which
        leaves out a fifth of the rows, in about four times the time of one) for sequences, 'fusion'
        for X of several parts, and 'conv' for all else. A spec (`DenseTrunk`, `ConvTrunk`,
        `SequenceTrunk`, `Fusion`, `TabMTrunk`, `TimmTrunk`, `FineTune` and `Ensemble` of
        `sklearn_mtl.networks`) has parameters that can be searched, e.g. ``trunk__width``. A module
        is copied, and never trained in place; a callable without arguments, such as a class,
        returns one. If its weights are pretrained, pass it by `FineTune`. Trunks map (B, ...) to
        (B, F), or to (B, M, F) for an ensemble of M members over which loss and predictions are
        averaged.
    head_hidden_units : int, default=0
        Hidden ReLU units in the head of each task, which no other task shares. With 0, heads are
        linear in what the trunk returns.
    max_epochs : int or 'auto', default='auto'
        Passes over the training rows. With 'auto', the data say when to stop, if the trunk is a
        `DenseTrunk` of several members, as it is for rows, or an `Ensemble` for rows: each member
        of the ensemble leaves out a fold of them, and training ends when the losses of the folds
        left out, which no member has learned by heart, get no better. The learning rate is constant
        then, and the weights are averages over about two epochs, those of the best one. With other
        trunks, 'auto' is a number: 3700 over the square root of the number of images, sequences and
        volumes, from 30 to 100; 800 over that of rows, from 12 to 30. A number is what it says,
        with a learning rate that falls to 0.
    batch_size : int or 'auto', default='auto'
        Rows per step, at most; batches are of nearly equal size. 'auto' is about twice the square
        root of the number of rows, a power of two from 64 to 512; half of that, from 64 to 256, for
        images, sequences and volumes. Of images of 128 x 128 pixels and more, and where there are
        as many voxels or steps, it is no more than have as many as 32 images of 224 x 224, but 8 at
        least.
    learning_rate : float, default=0.002
        Peak learning rate. Where the number of epochs is given, it warms up over the first 5 % of
        the steps, and falls to 0 along a cosine; where the data say when to stop, it warms up over
        20 steps, and stays. An ``LRScheduler`` in `net_params` replaces this schedule.
    optimizer : str or torch optimizer class, default='AdamW'
        A name in `torch.optim`, or a class.
    weight_decay : float or 'auto', default='auto'
        Weight decay of the optimizer, for weight matrices and kernels only. 'auto' is for AdamW,
        which multiplies it with the learning rate: 1 where members leave out folds (weights shrink
        by 0.2 % per step), unless they are those of an `Ensemble` for images or sequences, and less
        for more than 2,000 rows (2,000 over their number), and where half of the error is
        explained, less still in the end of an automatic `max_epochs`; else 0.3 for sequences, and
        3, less for more than 1,111 images or volumes (100 over the root of their number); 0.01 for
        a `trunk` of your own and `TimmTrunk`, whose weights may be pretrained; and 0 for other
        optimizers.
    early_stopping : bool, str or list of str, default=False
        Stop when the validation objective, of all tasks or of those that are named, has not
        improved by `tol` in `n_iter_no_change` epochs, with a constant learning rate and weights
        that are averaged over about two epochs, of which those of the best one are kept. Validation
        data are `X_val`, `y_val` of `fit`, else a fraction of the rows in which every task has
        observed targets on both sides; pass `groups` to `fit` when rows come in groups.
    validation_fraction : float, default=0.1
        Share of rows held out for early stopping.
    n_iter_no_change : int, default=10
        Epochs without improvement before stopping early.
    tol : float, default=0.0001
        Improvement of the validation objective that counts.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last fit, instead of new ones. Tasks, labels,
        and the mean and scale of inputs and numbers stay those of the first fit. The head of a
        task that is not observed again stays.
    random_state : int, RandomState instance or None, default=None
        Drives initial weights, shuffling, shifts, dropout and the validation split. None takes
        fresh entropy. The global random states of numpy and torch are left as they are.
    verbose : int, default=0
        With 1, a line is printed per epoch: the time left at most, the objectives, a score (the
        share of the loss of the best constant that is explained, in the mean over tasks) and the
        loss of each task, on rows left out or validation data where there are some. With 2, a bar
        of the epoch under way is shown too, by tqdm.
    device : str, default='auto'
        A torch device; 'auto' is 'cuda' where there is one, else 'cpu'.
    precision : {'auto', 'float32', 'float64', 'bfloat16'}, default='auto'
        'auto' is float32, and float64 for a dense trunk whose training rows fit into one batch:
        there it costs next to nothing, and a sample weight of 2 equals the row twice to the last
        digits. 'bfloat16' keeps weights and losses in float32.
    net_params : dict, default=None
        Parameters for the skorch ``NeuralNet`` that are not set by others here, e.g.
        ``{"callbacks": [...]}`` or ``{"optimizer__betas": (0.9, 0.99)}``.
    checkpoint : str or path-like, default=None
        File that keeps how far `fit` is while it lasts. A fit that was interrupted or killed goes
        on from there when it is called again with the same data and parameters, and ends with the
        same bits as an unbroken one; then the file is removed. A file of another fit is refused.
        A folder that exists has a file for each fit in it: those of a search, or of several
        processes. `partial_fit` keeps nothing; see `save`.
    checkpoint_every : float, default=60.0
        Seconds from one state that is kept to the next. States are kept at the ends of epochs: at
        that of the first one, and of each with 0.

    Attributes
    ----------
    tasks_ : list of Task
        The tasks, declared or inferred, in output order.
    task_names_ : list of str
        Their names.
    classes_ : ndarray or list of ndarray
        Labels of each class task, those that were observed or else its `categories`; sorted,
        those of an ordinal task from low to high; not a list
        when there is just one such task. Exists only where there is one.
    thresholds_ : dict of str to float
        The probability of the second label from which on it is predicted, of tasks of two classes
        that have a `threshold`. Exists only where one has.
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
    history_ : TrainingHistory, a dict of str to ndarray of shape (`n_iter_`, n_tasks)
        ``'train_loss'`` and, with validation data, ``'valid_loss'``, and where folds that are left
        out say when to stop, ``'oob_loss'``: mean loss over the observed
        targets per epoch, in training mode for the former (numbers are scaled), NaN where
        there were none; for ensembles such as `DenseTrunk`, the mean over members, which is above
        the loss of their mean prediction; ``'effective_weight'``: the factor by which each loss, in
        standardised units, entered. ``history_.plot()`` draws it, ``history_.to_frame()`` makes a
        table.
    task_weights_ : ndarray of shape (n_tasks,)
        Task weights, resolved.
    noise_std_ : ndarray of shape (n_tasks,)
        Typical error of each numeric task in the units of y: the root mean squared residual, NaN
        for classes. It is that of rows that were not trained on, where members have left them out
        or validation data have at least ten targets of the task; else of the training rows, and
        biased low as far as the network overfits.
    oob_prediction_ : ndarray of shape (n_samples, n_tasks) or (n_samples,)
        Predictions of the training rows, each by the member of a `DenseTrunk` or an `Ensemble` that
        has left it out ("out of bag"), laid out as those of `predict`; a single member is somewhat
        worse than all of them. Where the data said when to stop, the epoch was chosen by these
        rows, which with less than a hundred of them makes scores a little better than those of new
        rows. NaN or None for rows that were not trained on. Exists only where members have left out
        folds: not after `partial_fit`, a `fit` with `warm_start` that went on, or with `groups`
        among which a task was observed in a single one.
    oob_decision_function_ : ndarray of shape (n_samples, n_classes) or list of ndarray
        The same, as probabilities of the classes of each class task.
    oob_score_ : dict of str to float
        Score of each task by `oob_prediction_`, of rows that have one, NaN where it has too few
        targets. A row has none if all of its targets weigh nothing: those of a class of weight 0.
    net_ : skorch.NeuralNet
        The net, trained. Its `predict` and `forward` take X as the estimator does, and return raw
        outputs; its `history` has the objective and the loss of each task per epoch.
    module_ : sklearn_mtl.networks.MultiTaskModule
        Its module, which takes standardised inputs; `as_module` makes one that takes X.

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

    # Whoever routes metadata has groups for splits, and the same ones hold inside.
    __metadata_request__fit: ClassVar[dict[str, Any]] = {"groups": True}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "tasks": [None, list, tuple, Mapping],
        "loss": [StrOptions(LOSSES.keys()), callable],
        "task_weights": [None, StrOptions({"n_observed"}), "array-like", Mapping],
        "class_weight": [None, StrOptions({"balanced"}), Mapping],
        "missing_values": [None, Real, str, list, tuple, set],
        "conditional_output": [StrOptions({"estimate", "nan", "expected"})],
        "input_shape": [None, tuple, list, Mapping],
        "data_format": [StrOptions({"channels_first", "channels_last"})],
        "standardize": ["boolean", StrOptions({"auto", "imagenet"}), tuple, list, Mapping],
        "augment": [None, Augment],
        "trunk": [str, HasMethods("build"), callable],  # names are looked up when it is built
        "head_hidden_units": [Interval(Integral, 0, None, closed="left")],
        "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "optimizer": [str, callable],
        "weight_decay": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean", str, list, tuple],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "device": [str],
        "precision": [StrOptions({"auto", *DTYPES})],
        "net_params": [None, dict],
        "checkpoint": [None, str, PathLike],
        "checkpoint_every": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        tasks: Any = None,
        *,
        loss: LossLike = "logprod",
        task_weights: Any = None,
        class_weight: Any = None,
        missing_values: Any = None,
        conditional_output: str = "estimate",
        input_shape: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None = None,
        data_format: str = "channels_first",
        standardize: bool | str | Sequence[Any] | Mapping[str, Any] = "auto",
        augment: Augment | None = None,
        trunk: TrunkLike = "auto",
        head_hidden_units: int = 0,
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float = 2e-3,
        optimizer: str | Callable[..., Any] = "AdamW",
        weight_decay: float | str = "auto",
        early_stopping: bool | str | Sequence[str] = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
        device: str = "auto",
        precision: str = "auto",
        net_params: dict[str, Any] | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: float = 60.0,
    ) -> None:
        self.tasks = tasks
        self.loss = loss
        self.task_weights = task_weights
        self.class_weight = class_weight
        self.missing_values = missing_values
        self.conditional_output = conditional_output
        self.input_shape = input_shape
        self.data_format = data_format
        self.standardize = standardize
        self.augment = augment
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
        self.net_params = net_params
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every

    # -- parameters --------------------------------------------------------------------------

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those of a trunk spec by ``trunk__name``, and ``augment__name``.

        Parameters
        ----------
        **params : dict
            Parameters and their values.

        Returns
        -------
        self : MultiTaskCNNEstimator
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is unknown, or `trunk` is a name, or `augment` None, which have none.
        """
        check_nested(params.get("trunk", self.trunk), params)
        nested = next((name for name in params if name.startswith("augment__")), None)
        augment = params.get("augment", self.augment)
        if nested is not None and not isinstance(augment, Augment):
            raise ValueError(
                f"{nested} cannot be set: augment is {augment!r}. Pass a spec, such as "
                "augment=Augment() of sklearn_mtl.augmentation."
            )
        return super().set_params(**params)

    # -- fit ---------------------------------------------------------------------------------

    @heeding_ctrl_c
    @validated
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        groups: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            sparse matrices; or HDF5 and Zarr arrays, read batch by batch. Must be finite. Several
            inputs are a :class:`~sklearn_mtl.datasets.MultiInput`.
        y : array-like, frame or sparse matrix of shape (n_samples,) or (n_samples, n_tasks)
            One column per task; NaN, None or ``pd.NA`` where not observed.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            Weights of rows, or of single targets. A weight of 0 equals a target not observed.
            They count relative to the others of the same task; `task_weights` weighs tasks. The
            columns of a frame are matched by name, those of an array are in task order.
        groups : array-like of shape (n_samples,), default=None
            Labels of groups of rows that are alike, such as those of one person. Rows of a group
            stay together where some are left out or held out: what is measured there is for
            new groups.
        X_val, y_val, sample_weight_val : array-like, default=None
            Validation data for `history_`, early stopping, and the callbacks of scikit-learn.

        Returns
        -------
        self : MultiTaskCNNEstimator
            The fitted estimator.

        Raises
        ------
        ValueError
            If X is not finite, lengths or shapes do not fit, no task has an observed value, a
            value stands where its gate does not hold, or training diverges. An estimator that was
            fitted before stays as it was.

        Warns
        -----
        UserWarning
            If tasks have no observed value. The others train; theirs are NaN, in predictions and
            scores, and classes with `categories` equally probable.
        ConvergenceWarning
            If a callback interrupted the training; the weights so far are kept. And, with
            ``max_epochs='auto'`` and no folds left out, if tasks were not learned: their training
            losses ended no lower than those of the best constants. With folds left out, or 'auto',
            if the training ran away: with a loss of more than ten times that.
        """
        if not (self.early_stopping or isinstance(self.early_stopping, bool | np.bool_)):
            raise ValueError("early_stopping names no task. Pass names, True or False.")
        if X_val is None and (y_val is not None or sample_weight_val is not None):
            raise ValueError("y_val or sample_weight_val was passed without X_val. Pass X_val too.")
        check_callers(self.tasks, y)
        ctrl_c = noting()
        fitted = train(
            parameters_of(self),
            Samples(X, y, sample_weight, groups),
            self._previous() if self.warm_start else None,
            ctrl_c=ctrl_c,
            validation=None if X_val is None else Samples(X_val, y_val, sample_weight_val),
            listener=FitTasks(self),
            checkpoint=self._checkpoint(),
        )
        ctrl_c.check()
        fitted.keep_in(self)
        return self

    @available_if(_takes_streams)
    @heeding_ctrl_c
    @validated
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
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
        y : array-like, frame or sparse matrix of shape (n_samples,) or (n_samples, n_tasks)
            As in `fit`. A column may be all NaN; until a call holds some of its targets, a task is
            predicted as NaN. In the first call that needs its kind, in `tasks`, and the labels
            of a class, by `categories` of its `Task` or by `classes`.
        classes : array-like or dict of str to array-like, default=None
            Labels that are yet to come: those of the only class task, or a dict from the names of
            class tasks; `categories` of a `Task` are known. For the first call: a label that
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
        self._validate_params()  # scikit-learn does that for the first call alone
        parameters, samples, ctrl_c = parameters_of(self), Samples(X, y, sample_weight), noting()
        fitted = train_on(parameters, samples, self._previous(), classes, ctrl_c=ctrl_c)
        ctrl_c.check()
        fitted.keep_in(self)
        return self

    def _checkpoint(self) -> Checkpoint | None:
        if self.checkpoint is None:
            return None
        from sklearn_mtl._files.checkpoint import Checkpoint

        return Checkpoint(self.checkpoint, self.checkpoint_every)

    def _previous(self) -> Fitted | None:
        """Return what an earlier training has left, if there was one."""
        return fitted_of(self) if hasattr(self, "net_") else None

    @property
    def module_(self) -> MultiTaskModule:
        """The module of `net_`; not stored twice, as copies of the two would be two."""
        return self.net_.module_

    @property
    def history_(self) -> TrainingHistory:
        """Losses and weights per epoch, as a dict that prints and plots; not stored twice."""
        fitted = fitted_of(self)
        return TrainingHistory(fitted.history, fitted.encoder.names, fitted.best_epoch)

    # -- predict -----------------------------------------------------------------------------

    @overload
    def predict(self, X: Any, return_std: Literal[False] = False) -> NDArray[Any]: ...

    @overload
    def predict(
        self, X: Any, return_std: Literal[True]
    ) -> tuple[NDArray[Any], NDArray[np.float64]]: ...

    def predict(
        self, X: Any, return_std: bool = False
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[np.float64]]:
        """Predict every task.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            sparse matrices; or HDF5 and Zarr arrays, read batch by batch. Must be finite.
        return_std : bool, default=False
            Whether to return standard deviations too.

        Returns
        -------
        y_pred : ndarray of shape (n_samples, n_tasks) or (n_samples,)
            Labels and numbers in the units of y: of dtype float when all labels are numbers, of
            dtype object otherwise; 1-D when y was. See `conditional_output` for tasks with
            ``given=``.
        y_std : ndarray of shape (n_samples, n_tasks) or (n_samples,)
            Only with `return_std`: the standard deviation of what is observed around each number,
            measured as that of `predict_interval`; NaN for classes, and where the prediction is. Of
            a conditional number, where it applies; with ``conditional_output='expected'``, of the
            number that is 0 where it does not.
        """
        fitted = fitted_of(self)
        encoder = fitted.encoder
        if not return_std:
            return encoder.matrix(fitted.decode(X, self.conditional_output))
        raw = fitted.raw(X)
        y_pred = encoder.matrix(encoder.decode(raw, self.conditional_output))
        if (why := why_no_deviations(encoder, fitted.errors)) is not None:
            raise ValueError(why)
        y_std = standard_deviations(encoder, fitted.errors, raw, self.conditional_output)
        return y_pred, y_std[:, 0] if encoder.y_ndim_ == 1 else y_std

    def predict_frame(self, X: Any) -> Any:
        """Predict every task, as a frame.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            sparse matrices; or HDF5 and Zarr arrays, read batch by batch. Must be finite.

        Returns
        -------
        y_pred : DataFrame of shape (n_samples, n_tasks)
            Of the type of y in `fit` (pandas for arrays), with the names of the tasks; classes
            have y's dtypes. `sklearn_mtl.predict_frame` does the same for pipelines and searches.
        """
        return tools.predict_frame(self, X)

    @available_if(_has_class_task)
    def predict_proba(self, X: Any) -> NDArray[np.float64] | list[NDArray[np.float64]]:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            sparse matrices; or HDF5 and Zarr arrays, read batch by batch. Must be finite.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes) or list of them
            One array per class task, in the order of `classes_`; the array itself when there is
            just one. For a conditional class: the probability given its gate. An ordinal task is
            predicted by its median, which need not be the most probable class.
        """
        fitted = fitted_of(self)
        probabilities = list(fitted.encoder.probabilities(fitted.raw(X)).values())
        return probabilities[0] if len(probabilities) == 1 else probabilities

    @available_if(_has_class_task)
    def predict_log_proba(self, X: Any) -> NDArray[np.float64] | list[NDArray[np.float64]]:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As in `predict_proba`.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes) or list of them
            As in `predict_proba`.
        """
        proba = self.predict_proba(X)
        return [log_of(p) for p in proba] if isinstance(proba, list) else log_of(proba)

    @available_if(_has_class_task)
    def predict_proba_frame(self, X: Any) -> Any:
        """Probabilities of the classes of every class task, as a frame.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As in `predict_proba`.

        Returns
        -------
        proba : DataFrame of shape (n_samples, total number of classes)
            Of the type of y in `fit` (pandas for arrays), with the columns ``{task}_{label}``.
            `sklearn_mtl.predict_proba_frame` does the same for pipelines and searches.
        """
        return tools.predict_proba_frame(self, X)

    @available_if(_has_intervals)
    def predict_interval(self, X: Any, confidence: Any = 0.9) -> NDArray[Any]:
        """Intervals that hold the numbers, and ordered classes, with a given confidence.

        They are conformal [1]_ [2]_: by the errors of rows that were left out (see
        `oob_prediction_`), or else of validation data. Wide where members are far apart, and where
        the size of the errors changes with the prediction. `sklearn_mtl.predict_interval` does the
        same for pipelines and searches.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            sparse matrices; or HDF5 and Zarr arrays, read batch by batch. Must be finite.
        confidence : float or sequence of float, default=0.9
            Share of new targets that are inside, between 0 and 1; a level, or several.

        Returns
        -------
        intervals : ndarray of shape (n_samples, n_tasks, 2[, n_levels])
            Lower and upper bound, in the units of y; without the second axis when y was 1-D, and
            the last one is that of the levels, if several were passed. Of an ordinal task, the
            lowest and the highest of neighbouring labels. NaN for classes without an order, and
            for tasks that were not observed. Of a conditional task, given that it applies; with
            ``conditional_output='nan'``, NaN (None among labels) where it is predicted not to; with
            ``'expected'``, of the number that is 0 where it does not apply, as that is the one
            whose mean is predicted. Infinite, with a warning, where fewer rows were left out than
            the level asks for, as 8 for 0.9. Of dtype float, or object where labels are no numbers.

        Raises
        ------
        AttributeError
            If no task is a number or an ordered class, or no rows were left out: there are neither
            members that leave out folds, nor `X_val`, nor `early_stopping`.
        ValueError
            If `confidence` is not between 0 and 1.

        References
        ----------
        .. [1] R. F. Barber, E. J. Candès, A. Ramdas, R. J. Tibshirani, "Predictive Inference with
           the Jackknife+", Annals of Statistics 49, 2021.
        .. [2] J. Lei, M. G'Sell, A. Rinaldo, R. J. Tibshirani, L. Wasserman, "Distribution-Free
           Predictive Inference for Regression", Journal of the American Statistical Association
           113, 2018.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_mtl import MultiTaskCNNEstimator
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(400, 3))
        >>> y = X[:, 0] + rng.normal(size=400)
        >>> estimator = MultiTaskCNNEstimator(random_state=0).fit(X[:300], y[:300])
        >>> low, high = estimator.predict_interval(X[300:], confidence=0.9).T
        >>> bool(0.8 < np.mean((low <= y[300:]) & (y[300:] <= high)) < 1)
        True
        """
        return tools.predict_interval(self, X, confidence)

    @available_if(_has_intervals)
    def predict_interval_frame(self, X: Any, confidence: Any = 0.9) -> Any:
        """Intervals of the numbers and ordered classes, as a frame.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As in `predict_interval`.
        confidence : float or sequence of float, default=0.9
            As in `predict_interval`.

        Returns
        -------
        intervals : DataFrame of shape (n_samples, 2 * n_intervals)
            Of the type of y in `fit` (pandas for arrays), with the columns ``{task}_lower`` and
            ``{task}_upper`` of each number and ordered class; ``{task}_lower_{confidence}``
            and so on if several levels were passed. Labels have y's dtype.
        """
        return tools.predict_interval_frame(self, X, confidence)

    @available_if(_has_sets)
    def predict_set(
        self, X: Any, confidence: Any = 0.9
    ) -> NDArray[np.bool_] | list[NDArray[np.bool_]]:
        """Labels among which the class is, with a given confidence.

        They are conformal, as those of `predict_interval`: of all such sets, the smallest in the
        mean. A set is empty where all labels are less probable than those of most rows; an ordinal
        task has neighbouring labels, the predicted one among them.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As in `predict_interval`.
        confidence : float or sequence of float, default=0.9
            Share of new targets that are inside, between 0 and 1; a level, or several.

        Returns
        -------
        sets : ndarray of bool of shape (n_samples, n_classes[, n_levels]) or list of them
            Whether each label is in the set: one array per class task, in the order of `classes_`,
            the array itself when there is just one. The last axis is that of the levels, if several
            were passed. For a conditional class: given its gate.

        Raises
        ------
        AttributeError
            If no task is a class task, or no rows were left out.
        ValueError
            If `confidence` is not between 0 and 1.
        """
        return tools.predict_set(self, X, confidence)

    def embed(self, X: Any) -> NDArray[np.float64]:
        """Shared representation: what the trunk makes of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            sparse matrices; or HDF5 and Zarr arrays, read batch by batch. Must be finite.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features)
            Averaged over the members of an ensemble; those of a `DenseTrunk` or an `Ensemble`,
            which share no weights, stand side by side.
        """
        return tools.embed(self, X)

    def score_tasks(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """Score every task on its observed targets: accuracy of classes, R2 or D2 of the others.

        D2 is the share of an error that is explained, as R2 is of squared errors: of the absolute
        error in ranks ('ordinal'), the pinball loss ('quantile'), or the deviance ('poisson',
        'gamma').

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            sparse matrices; or HDF5 and Zarr arrays, read batch by batch. Must be finite.
        y : array-like, frame or sparse matrix of shape (n_samples,) or (n_samples, n_tasks)
            True targets, laid out as in `fit`.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            Weights of rows, or of single targets.

        Returns
        -------
        scores : dict of str to float
            NaN, with a warning, where a class has no observed target or another fewer than two,
            and where a task was not observed in `fit`.
        """
        return tools.score_tasks(self, X, y, sample_weight)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean over tasks of `score_tasks`: accuracy of classes, R2 or D2 of the others.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows (n, d), images (n, H, W) or (n, C, H, W), volumes (n, C, D, H, W); arrays, frames,
            sparse matrices; or HDF5 and Zarr arrays, read batch by batch. Must be finite.
        y : array-like, frame or sparse matrix of shape (n_samples,) or (n_samples, n_tasks)
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

    # -- files -------------------------------------------------------------------------------

    @heeding_ctrl_c
    def save(self, path: str | PathLike[str], *, optimizer: bool = False) -> None:
        """Write the fitted estimator to one file of plain data.

        The file has the safetensors format: weights and arrays as such, all else as JSON in its
        header. Loading it runs no code that it brings, unlike a pickle. Parameters, fitted
        attributes and predictions survive; skorch's own history, and where a fit keeps its
        `checkpoint`, do not.

        Parameters
        ----------
        path : str or path-like
            File to write, such as ``"model.safetensors"``. A file there is replaced once the new
            one is complete.
        optimizer : bool, default=False
            Whether to keep the state of the optimizer too, so that `partial_fit` goes on after
            `load` as it would have without: to the same bits. With AdamW the file is three times
            as large.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If a parameter or an attribute holds what is not plain data, such as a callable `loss`
            or callbacks in `net_params`; the error names it. Optimizers of `torch.optim`, losses
            of `sklearn_mtl.losses` and a RandomState can be written.
        ValueError
            If parameters were changed since `fit` so that they do not fit the weights any more, or
            if `net_params` holds more than options of the optimizer and switches.

        See Also
        --------
        load : Read the file.

        Notes
        -----
        Of a `trunk` that is neither a name nor a spec of `sklearn_mtl.networks`, such as an
        nn.Module or a callable, the weights are written, but not what computes with them. `load`
        asks for it.
        """
        check_is_fitted(self)
        self._validate_params()
        from sklearn_mtl._files.save import save

        once(f"save {path}", lambda: save(path, self, optimizer))

    @classmethod
    @heeding_ctrl_c
    def load(cls, path: str | PathLike[str], *, trunk: Any = None) -> Self:
        """Read an estimator that `save` has written.

        The file is data: nothing in it is run or imported, wherever it comes from.

        Parameters
        ----------
        path : str or path-like
            File to read.
        trunk : nn.Module, spec or callable, default=None
            The `trunk` that the estimator was fitted with, where that was an object which a file
            cannot hold. A module is copied, and the copy takes the weights of the file.

        Returns
        -------
        estimator : MultiTaskCNNEstimator
            Fitted. It computes on `device` where there is one, else on the CPU.

        Raises
        ------
        ValueError
            If the file is damaged, was not written by `save`, or by a newer version; or if `trunk`
            is needed, not needed, or does not fit the weights.

        See Also
        --------
        save : Write the file.
        """
        from sklearn_mtl._files.save import load

        return load(path, cls, trunk)

    def as_module(self, task: str | None = None) -> FittedModule:
        """Return the fitted network as a PyTorch module, from X to predictions.

        It takes X as `predict` does, as a float32 tensor, or a dict of them if X has several parts:
        standardisation and `data_format` are inside. Gradients reach X, so that tools which explain
        by gradients (SHAP, Captum, Grad-CAM) see what the estimator predicts, in the units of y.
        `to_onnx` writes the same module.

        Parameters
        ----------
        task : str, default=None
            Name of a task. None is all of them.

        Returns
        -------
        module : nn.Module
            A copy in evaluation mode, on the CPU and in float32; whatever happens to it, the
            estimator stays as it is. Its `network` is that of `module_`, with a `trunk` and
            `heads`, for hooks on layers.

            It returns a dict from the name of each task to its output, in the order of `tasks_`:
            probabilities (n, n_classes) of classes, as `predict_proba` gives them; numbers (n,) in
            the units of y, in float64, as `predict` gives them with
            ``conditional_output='estimate'``. For a `task`, its output alone, of the shape
            (n, n_classes) or (n, 1).

        Raises
        ------
        ValueError
            If there is no task of that name, or its kind decodes without a link.
        NotFittedError
            If the estimator is not fitted.

        Examples
        --------
        >>> import numpy as np
        >>> import torch
        >>> from sklearn_mtl import MultiTaskCNNEstimator
        >>> X = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
        >>> y = np.column_stack([X[:, 0] > 0, X[:, 1]])
        >>> estimator = MultiTaskCNNEstimator(max_epochs=2, random_state=0).fit(X, y)
        >>> {name: tuple(out.shape) for name, out in estimator.as_module()(torch.tensor(X)).items()}
        {'y0': (100, 2), 'y1': (100,)}
        >>> x = torch.tensor(X, requires_grad=True)
        >>> (gradient,) = torch.autograd.grad(estimator.as_module("y1")(x).sum(), x)
        >>> gradient.shape
        torch.Size([100, 3])
        """
        return fitted_of(self).as_module(task)

    @heeding_ctrl_c
    def to_onnx(self, path: str | PathLike[str]) -> None:
        """Write the network as an ONNX graph, which runs without Python.

        The graph takes X as `predict` does, in float32: an input ``X`` of shape (n, ...) with any
        number of rows; standardisation and `data_format` are inside. X of several parts are as many
        inputs, of their names. It has an output per task, of the task's name and in the order of
        `tasks_`:

        - classes: their probabilities, float32 of shape (n, n_classes), as `predict_proba` gives
          them. The labels stand in the metadata of the graph, as JSON under ``'classes'``.
        - numbers: the prediction in the units of y, float64 of shape (n,), as `predict` gives it
          with ``conditional_output='estimate'``.

        Parameters
        ----------
        path : str or path-like
            File to write, such as ``"model.onnx"``. If a task is named X, the input is ``X_``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ImportError
            If onnx or onnxscript is not installed: ``pip install "sklearn-mtl[onnx]"``.

        Notes
        -----
        The network is computed in float32, whatever `precision` is. A `trunk` of your own must be
        one that `torch.onnx.export` takes, with any number of rows.
        """
        from sklearn_mtl._files.save import to_onnx

        once(f"to_onnx {path}", lambda: to_onnx(path, fitted_of(self)))

    def __getstate__(self) -> dict[str, Any]:
        # A copy, as a fit in another thread may set attributes while this one is pickled.
        return dict(super().__getstate__())

    def _html_repr(self) -> str:
        # The tree of tasks below the parameters, once it is known.
        tasks = vars(self).get("tasks_")
        html: str = super()._html_repr()
        return html if tasks is None else html + tasks.to_html()

    _doc_link_module = "sklearn_mtl"

    @property
    def _doc_link_template(self) -> str:
        return page_template()  # '' is no link

    def _get_params_html(self, deep: bool = True, doc_link: str = "") -> Any:
        # scikit-learn shows what it knows of parameters only where these have a link.
        return super()._get_params_html(deep, doc_link or "#")

    def __sklearn_is_fitted__(self) -> bool:
        return "_fitted" in vars(self)  # not by all attributes, as a fit may be putting some there

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.classifier_tags = ClassifierTags()  # asked for wherever there is a predict_proba
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        return tags
