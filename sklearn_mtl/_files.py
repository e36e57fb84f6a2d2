"""Files that a fitted estimator writes and reads: the methods, and what they put together."""

from __future__ import annotations

import copy
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_mtl import _engine as engine
from sklearn_mtl import _onnx as onnx
from sklearn_mtl import _persistence as persistence
from sklearn_mtl._recipe import device_or_cpu
from sklearn_mtl.networks import TRUNKS

__all__ = ["FileMixin"]


class FileMixin(BaseEstimator):
    """Adds `save`, `load` and `to_onnx` to the estimator."""

    # What they find there:
    trunk: Any
    device: str
    precision: str
    net_params: dict[str, Any] | None
    net_: engine.TaskNet
    module_: Any
    tasks_: list[Any]
    task_names_: list[str]
    task_weights_: NDArray[np.float64]
    _encoder: Any
    _reader: Any
    _recipe: Any
    _build_net: Any

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted estimator to one file of plain data.

        The file has the safetensors format: weights and arrays as such, all else as JSON in its
        header. Loading it runs no code that it brings, unlike a pickle. Parameters, fitted
        attributes and predictions survive; skorch's own history, and the state of the optimizer,
        do not.

        Parameters
        ----------
        path : str or path-like
            File to write, such as ``"model.safetensors"``. A file there is replaced once the new
            one is complete.

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
        params = self.get_params(deep=False)
        # Callbacks have no part in what was learned, nor where a fit stands that they watch.
        others = {"net_", "_skl_callbacks", "_skl_callbacks_to_teardown"}
        others |= {"_callback_fit_ctx", "_parent_callback_ctx"}
        fitted = {k: v for k, v in vars(self).items() if k not in {*params, *others}}
        trunk = None
        if type(self.trunk) not in (str, *TRUNKS.values()):
            del params["trunk"]
            trunk = copy.deepcopy(self.module_.trunk).cpu()
        weights = dict(engine.plain_module(self.net_).state_dict())
        precision = engine.precision_of(self.net_)
        packed = persistence.pack(persistence.Saved(params, fitted, precision, weights))
        # What cannot be loaded again is found now, and not when it is needed.
        again = self._restored(persistence.unpack(packed), trunk)
        if repr(again.module_.trunk) != repr(self.module_.trunk):
            raise ValueError(
                f"trunk={self.trunk!r} was changed after fit, and does not build the trunk that "
                "was fitted. Set it back, or fit again."
            )
        persistence.write(path, packed)

    @classmethod
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
        saved = persistence.read(path)
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
        with persistence.blaming(path, trunk):
            return cls._restored(saved, trunk)

    def to_onnx(self, path: str | PathLike[str]) -> None:
        """Write the network as an ONNX graph, which runs without Python.

        The graph takes X as `predict` does, in float32: an input ``X`` of shape (n, ...) with any
        number of rows; standardisation and `data_format` are inside. It has an output per task,
        of the task's name and in the order of `tasks_`:

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
        check_is_fitted(self)
        encoder = self._encoder
        kinds = [task.kind for task in self.tasks_]
        classes = dict.fromkeys(self.task_names_) | {
            self.task_names_[k]: labels.tolist() for k, labels in encoder.classes.items()
        }
        module = engine.plain_module(self.net_)
        graph = onnx.Graph(module, self._reader, kinds, encoder.kinds_)
        onnx.export(graph, self._reader.sample_shape_, classes, path)

    @classmethod
    def _restored(cls, saved: persistence.Saved, trunk: Any) -> Self:
        """Make a fitted estimator of what was saved, with `trunk` if none was."""
        unknown = sorted(set(saved.params) - set(cls._get_param_names()))
        unknown += sorted(name for name in saved.fitted if hasattr(cls, name))
        if unknown:
            raise ValueError(f"{cls.__name__} takes no {unknown}")
        estimator = cls(**({"trunk": trunk} | saved.params))
        estimator.__dict__.update(saved.fitted)
        # Options of torch.compile name programs to run, and other objects' options who knows what.
        net_params = estimator.net_params or {}
        refused = [
            name
            for name, value in net_params.items()
            if not (name.startswith("optimizer__") or value is None or isinstance(value, bool))
        ]
        if refused:
            raise ValueError(
                f"net_params holds {refused}, but a file that can run no code holds options of the "
                "optimizer and switches alone. Leave them out, or pickle the estimator."
            )
        resolved = copy.copy(estimator)
        resolved.device = device_or_cpu(estimator.device)
        resolved.precision = saved.precision
        encoder, reader = estimator._encoder, estimator._reader
        recipe = resolved._recipe(reader, n_rows=1)
        with engine.seeded(0, recipe.device):  # initial weights, soon to be replaced
            bias = np.zeros(sum(encoder.n_outputs))
            net = estimator._build_net(recipe, encoder, reader, bias, estimator.task_weights_)
            engine.restore(net, saved.weights)
        estimator.net_ = net
        return estimator
