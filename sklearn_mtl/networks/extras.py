"""Trunk specs over packages that are extras, which are imported only when a trunk is built."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Mapping
from typing import Any

from sklearn.base import BaseEstimator
from torch import nn

from sklearn_mtl.networks.draws import DrawsFrom, Generators
from sklearn_mtl.networks.finetuning import fine_tuned, gentleness_of

__all__ = ["TabMTrunk", "TimmTrunk"]


class TabMTrunk(BaseEstimator):
    """TabM for tabular rows: k dense networks that share most of their weights [1]_.

    The features have the shape (B, k, d_block): loss and predictions are averaged over the k
    members, `embed` over their features. Inputs other than rows are flattened. It needs the
    package ``tabm``: ``pip install "sklearn-mtl[tabm]"``.

    Parameters
    ----------
    n_blocks : int, default=3
        Hidden layers.
    d_block : int, default=512
        Units per layer, the size F of the representation.
    dropout : float, default=0.0
        Share of units dropped in training. The package's own default is 0.1; it is 0 here because
        the estimator's weight decay regularises already, and so that a sample weight of 2 equals
        the row twice.
    k : int, default=32
        Members of the ensemble. Time and memory grow with it, the number of weights hardly.
    arch_type : {'tabm', 'tabm-mini', 'tabm-packed'}, default='tabm'
        'tabm' has scales of each member around every layer, 'tabm-mini' before the first layer
        only, 'tabm-packed' shares nothing.
    num_embeddings : {None, 'periodic'}, default=None
        'periodic' expands every feature into sines and cosines of learned frequencies [2]_, for
        functions that are not smooth.
    frequency_init_scale : float, default=0.01
        Standard deviation of the initial frequencies, per standard deviation of a feature; worth a
        search from 0.01 to 1. Only for periodic embeddings.

    References
    ----------
    .. [1] Y. Gorishniy, A. Kotelnikov, A. Babenko, "TabM: Advancing Tabular Deep Learning with
       Parameter-Efficient Ensembling", ICLR 2025, arXiv:2410.24210.
    .. [2] Y. Gorishniy, I. Rubachev, A. Babenko, "On Embeddings for Numerical Features in Tabular
       Deep Learning", NeurIPS 2022, arXiv:2203.05556.

    Examples
    --------
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.networks import TabMTrunk
    >>> est = MultiTaskCNNEstimator(trunk=TabMTrunk())
    >>> est.set_params(trunk__n_blocks=3).trunk.n_blocks
    3
    """

    def __init__(
        self,
        n_blocks: int = 3,
        d_block: int = 512,
        dropout: float = 0.0,
        k: int = 32,
        arch_type: str = "tabm",
        num_embeddings: str | None = None,
        frequency_init_scale: float = 0.01,
    ) -> None:
        self.n_blocks = n_blocks
        self.d_block = d_block
        self.dropout = dropout
        self.k = k
        self.arch_type = arch_type
        self.num_embeddings = num_embeddings
        self.frequency_init_scale = frequency_init_scale

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return the trunk for inputs of `input_shape`.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one sample, channels first.

        Returns
        -------
        trunk : nn.Module
            From a batch (B, ...) to features (B, M, F) of M members.

        Raises
        ------
        ImportError
            If ``tabm`` is not installed.
        ValueError
            If a parameter has a value that does not exist.
        """
        if self.num_embeddings not in (None, "periodic"):
            raise ValueError(
                f"num_embeddings={self.num_embeddings!r} does not exist. Use None or 'periodic'."
            )
        tabm = _extra("tabm", self)
        width = math.prod(input_shape)
        embeddings, embed = None, []
        if self.num_embeddings == "periodic":
            embeddings = tabm.rtdl_num_embeddings.PeriodicEmbeddings(
                width, lite=False, frequency_init_scale=self.frequency_init_scale
            )
            embed = [embeddings, nn.Flatten()]
        model = tabm.TabM.make(
            n_num_features=width,
            d_out=None,
            num_embeddings=embeddings,
            n_blocks=self.n_blocks,
            d_block=self.d_block,
            dropout=self.dropout,
            k=self.k,
            arch_type=self.arch_type,
        )
        # Its parts, as its own `forward` asks for `len(x)`: in an ONNX graph, that is a constant.
        return _TabM(nn.Flatten(), *embed, model.ensemble_view, model.backbone)


class _TabM(nn.Sequential):
    """Rows to the features of all members."""

    def no_weight_decay(self) -> set[str]:
        """Biases, scales and frequencies: matrices only as each member or feature has its own."""
        vectors = ("affine.weight", "periodic.weight")
        return {
            name
            for name, _ in self.named_parameters()
            if not name.endswith(".weight") or name.endswith(vectors)
        }


class TimmTrunk(BaseEstimator):
    """An image model of PyTorch Image Models [1]_, with or without pretrained weights.

    Images (C, H, W) only, with any number of channels. It needs the package ``timm``:
    ``pip install "sklearn-mtl[timm]"``.

    Parameters
    ----------
    model_name : str, default='resnet18'
        One of ``timm.list_models()``.
    pretrained : bool, default=False
        Start from pretrained weights, which timm downloads once.
    global_pool : str or None, default=''
        How the model pools its last feature map. ``''`` does not: the map is averaged over a grid
        of at most 4 x 4 cells, and a layer of `n_features` units reads all of them, so that the
        features keep *where* things are. 'avg', 'max' and others are timm's, and None is the
        model's own choice, such as the class token of a transformer; their features are taken as
        they are.
    n_features : int, default=128
        Size F of the representation where `global_pool` is ``''``.
    model_params : dict, default=None
        Further arguments of ``timm.create_model``, e.g. ``{"img_size": 64, "patch_size": 8}`` for
        transformers, which are made for images of one size, ``{"drop_path_rate": 0.1}``, or
        ``{"pretrained_cfg_overlay": {"file": path}}`` for pretrained weights in a file.
    finetune : {'full', 'heads', 'gradual'}, default='full'
        What is trained of pretrained weights, see `FineTune`: all of them, none, or more and more
        of them. Random weights are trained as any others, whatever stands here and below.
    relative_rate : float, default=0.3
        Learning rate of pretrained weights, in units of the `learning_rate` of all others.
    frozen_epochs : int, default=1
        Epochs in the beginning in which pretrained weights stand still.
    freeze_statistics : bool, default=True
        Whether batch norms of a pretrained model compute as in predictions.

    Notes
    -----
    *Standardisation.* Pretrained models have seen images that were standardised by the mean and
    standard deviation of others than yours. With its default, ``standardize="auto"``, the
    estimator does so too, by those that timm knows of the model; with random weights, by those of
    *your* training images.

    *Batch statistics.* Many models normalise over the batch. With random weights, or
    ``freeze_statistics=False``, rows then see each other in training (not in predictions): a sample
    weight of 2 is not quite the row twice, and a batch of one row may be refused.

    *Files.* A file of `save` names no timm model, since making one may download or read other
    files. Load with ``load(path, trunk=TimmTrunk(...))``, where `pretrained` need not be set: the
    weights come from the file. To train them further as they were, pass the same spec.

    References
    ----------
    .. [1] R. Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models.

    Examples
    --------
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.networks import TimmTrunk
    >>> est = MultiTaskCNNEstimator(trunk=TimmTrunk("resnet18", pretrained=True))
    >>> est.set_params(trunk__finetune="gradual").trunk.finetune
    'gradual'
    """

    def __init__(
        self,
        model_name: str = "resnet18",
        pretrained: bool = False,
        global_pool: str | None = "",
        n_features: int = 128,
        model_params: dict[str, Any] | None = None,
        finetune: str = "full",
        relative_rate: float = 0.3,
        frozen_epochs: int = 1,
        freeze_statistics: bool = True,
    ) -> None:
        self.model_name = model_name
        self.pretrained = pretrained
        self.global_pool = global_pool
        self.n_features = n_features
        self.model_params = model_params
        self.finetune = finetune
        self.relative_rate = relative_rate
        self.frozen_epochs = frozen_epochs
        self.freeze_statistics = freeze_statistics

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return the trunk for inputs of `input_shape`.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one sample, channels first.

        Returns
        -------
        trunk : nn.Module
            From a batch (B, ...) to features (B, F).

        Raises
        ------
        ImportError
            If ``timm`` is not installed.
        ValueError
            If `input_shape` is not that of an image, or timm cannot make the model.
        """
        if len(input_shape) != 3:
            raise ValueError(
                f"TimmTrunk needs images of shape (C, H, W), got {input_shape}. Pass input_shape= "
                "to say how to read a sample as an image."
            )
        how = gentleness_of(self)
        if not self.pretrained:
            how |= {"relative_rate": 1.0, "frozen_epochs": 0, "freeze_statistics": False}
            how["finetune"] = "full"
        model = self._model(input_shape[0], self.pretrained)
        return fine_tuned(model, self.n_features if self.global_pool == "" else None, **how)

    def pixel_statistics(self) -> tuple[Any, Any] | None:
        """Return mean and standard deviation of the pixels, from 0 to 1, of the pretraining.

        The estimator standardises by them with ``standardize="auto"``.

        Returns
        -------
        statistics : pair of tuple of float, or None
            Of red, green and blue; None without `pretrained`, or if timm does not know them.

        Raises
        ------
        ImportError
            If ``timm`` is not installed.
        ValueError
            If timm cannot make the model.
        """
        if not self.pretrained:
            return None
        known = self._known_of_pretraining()
        return (known["mean"], known["std"]) if {"mean", "std"} <= set(known) else None

    def _known_of_pretraining(self) -> Mapping[str, Any]:
        """Return what timm tells of the weights; for names in its lists, without a model."""
        timm, given = _extra("timm", self), self.model_params or {}
        known = None
        if not {"pretrained_cfg", "pretrained_cfg_overlay"} & set(given):
            with contextlib.suppress(RuntimeError):  # of a wrong tag, which a model refuses too
                known = timm.models.get_pretrained_cfg(self.model_name)
        if known is not None:
            return known.to_dict()
        # A file or a server has it, or it is an older name of one that is listed.
        with DrawsFrom(Generators(0)):  # random weights, for nobody
            return getattr(self._model(3, pretrained=False), "default_cfg", None) or {}

    def _model(self, n_channels: int, pretrained: bool) -> nn.Module:
        timm = _extra("timm", self)
        try:
            model: nn.Module = timm.create_model(
                self.model_name,
                pretrained=pretrained,
                in_chans=n_channels,
                num_classes=0,
                global_pool=self.global_pool,
                **(self.model_params or {}),
            )
        except Exception as error:  # a name, a parameter, or a download
            raise ValueError(f"timm cannot make {self!r}: {error}") from error
        return model


def _extra(package: str, trunk: Any) -> Any:
    """Import a package, or say which extra brings it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{type(trunk).__name__} needs {error.name or package}. Install it: "
            f'pip install "sklearn-mtl[{package}]".'
        ) from error
