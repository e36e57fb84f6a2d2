import pytest
import torch

pytest.register_assert_rewrite("_asserts")  # its asserts explain themselves, as those of tests do

torch.set_num_threads(1)
