import pytest
import torch

pytest.register_assert_rewrite("_asserts", "_fits")  # their asserts explain themselves, as tests do

torch.set_num_threads(1)
